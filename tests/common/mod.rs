//! What the tests on a real adapter share.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod http_server;
pub mod wide;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use moxel::{Engine, EngineOptions, Gpu, GpuOptions, KernelChoice, Precision, Tuning};
use safetensors::SafeTensors;

/// The device that all tests of a file share.
pub fn gpu() -> Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    Arc::clone(GPU.get_or_init(|| pollster::block_on(Gpu::new(&GpuOptions::default())).expect("an adapter")))
}

pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

pub fn load(path: &Path, precision: Precision, prefill_chunk: usize) -> Engine {
    load_with(path, &EngineOptions { precision, prefill_chunk: Some(prefill_chunk), ..EngineOptions::default() })
}

/// With these kernels, whatever is fast here.
pub fn load_with_kernels(path: &Path, precision: Precision, prefill_chunk: usize, kernels: KernelChoice) -> Engine {
    let tuning = Tuning::Known(kernels);
    load_with(path, &EngineOptions { precision, prefill_chunk: Some(prefill_chunk), tuning, ..EngineOptions::default() })
}

/// With any options.
pub fn load_with(path: &Path, options: &EngineOptions) -> Engine {
    Engine::load_path(&gpu(), path, options, &mut |_| {}).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A safetensors file in memory.
pub struct Expected(Vec<u8>);

impl Expected {
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0)
            .expect("safetensors")
            .tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .data()
            .to_vec()
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0).expect("safetensors").tensor(name).is_ok()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.bytes(name))
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.bytes(name))
    }

    pub fn u16s(&self, name: &str) -> Vec<u16> {
        bytemuck::pod_collect_to_vec(&self.bytes(name))
    }
}
