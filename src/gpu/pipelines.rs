//! The pipelines of a device, each compiled at its first use or ahead of it; and what the driver made of them, for the next run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use web_time::Instant;

use super::Gpu;
use super::shader::{Pipeline, Shader};
use crate::Result;

/// What a device has compiled.
#[derive(Default)]
pub(super) struct Pipelines {
    asked: Mutex<HashMap<Shader, Arc<Variant>>>,
    work: Mutex<PipelineWork>,
    /// Where the driver collects what it compiles, if that is to be kept.
    pub(super) kept: OnceLock<wgpu::PipelineCache>,
}

/// A shader that somebody has asked for. Who asks while it is being compiled waits for this one only.
pub(super) struct Variant {
    shader: Shader,
    made: OnceLock<Arc<Pipeline>>,
    compiling: Mutex<()>,
}

/// Bytes of the hash before what is kept: a driver is not expected to cope with a damaged file.
const HASH_BYTES: usize = 32;

/// The pipelines that were compiled on a device, and what that took of the time of whoever waited for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PipelineWork {
    /// How many.
    pub count: usize,
    /// How long, without what was compiled while something else was done, and in a browser without what its GPU process does later.
    pub time: Duration,
}

impl Gpu {
    /// The pipelines that were compiled so far.
    #[must_use]
    pub fn pipeline_work(&self) -> PipelineWork {
        *self.pipelines.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for what [`Gpu::kept_pipelines`] gives, the same for every device of this adapter; `None` where the backend cannot
    /// keep pipelines.
    #[must_use]
    pub fn pipelines_key(&self) -> Option<String> {
        self.keeps_pipelines().then(|| wgpu::util::pipeline_cache_key(&self.device.adapter_info())).flatten()
    }

    /// Begins to keep what the driver compiles, with what [`Gpu::kept_pipelines`] gave in an earlier run. What is damaged or comes
    /// from another driver is ignored. Call it once, before a model is loaded; it does nothing where the backend cannot.
    ///
    /// # Safety
    /// Drivers trust these bytes, and a hash tells damage but not malice: they have to be what [`Gpu::kept_pipelines`] gave, kept
    /// where nobody writes but whom the process trusts.
    pub unsafe fn keep_pipelines(&self, earlier: Option<&[u8]>) {
        if !self.keeps_pipelines() {
            return;
        }
        let whole = earlier.and_then(|kept| kept.split_at_checked(HASH_BYTES));
        let data = whole.filter(|(hash, data)| Sha256::digest(data).as_slice() == *hash).map(|(_, data)| data);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("moxel"), data, fallback: true };
        // SAFETY: the caller's word, and the hash says that they are whole; wgpu compares adapter and driver.
        let make = || unsafe { self.device.create_pipeline_cache(&descriptor) };
        // Without one, everything is compiled as ever.
        if let Ok(cache) = self.caught(wgpu::ErrorFilter::Validation, make) {
            let _ = self.pipelines.kept.set(cache);
        }
    }

    /// What the driver made of all pipelines so far, for [`Gpu::keep_pipelines`] in the next run; `None` where nothing is kept.
    #[must_use]
    pub fn kept_pipelines(&self) -> Option<Vec<u8>> {
        let data = self.pipelines.kept.get()?.get_data()?;
        Some([Sha256::digest(&data).as_slice(), &data].concat())
    }

    fn keeps_pipelines(&self) -> bool {
        self.device.features().contains(wgpu::Features::PIPELINE_CACHE)
    }

    /// The pipelines of these variants. Those that were not used yet are compiled now, at the same time.
    pub(super) fn pipelines<'a>(&self, shaders: impl Iterator<Item = &'a Shader>) -> Result<HashMap<Shader, Arc<Pipeline>>> {
        let begin = Instant::now();
        let variants = self.variants(shaders.collect::<HashSet<_>>().into_iter());
        let missing: Vec<_> = variants.iter().filter(|variant| variant.made.get().is_none()).collect();
        for_each(&missing, |variant| self.pipeline(variant).map(drop))?;
        self.pipelines.work.lock().unwrap_or_else(PoisonError::into_inner).time += begin.elapsed();
        variants.iter().map(|variant| Ok((variant.shader.clone(), self.pipeline(variant)?))).collect()
    }

    /// What was or will be compiled of these shaders, in their order.
    pub(super) fn variants<'a>(&self, shaders: impl Iterator<Item = &'a Shader>) -> Vec<Arc<Variant>> {
        let mut asked = self.pipelines.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            |shader: &Shader| Arc::new(Variant { shader: shader.clone(), made: OnceLock::new(), compiling: Mutex::default() });
        shaders.map(|shader| Arc::clone(asked.entry(shader.clone()).or_insert_with(|| new(shader)))).collect()
    }

    /// The pipeline of a variant, compiled now if nobody has done it.
    pub(super) fn pipeline(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        if let Some(made) = variant.made.get() {
            return Ok(Arc::clone(made));
        }
        let _alone = variant.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = variant.made.get() {
            return Ok(Arc::clone(made));
        }
        Ok(self.keep(variant, self.compile(variant)?))
    }

    pub(super) fn compile(&self, variant: &Variant) -> Result<Pipeline> {
        Pipeline::compile(self, &variant.shader)
    }

    pub(super) fn keep(&self, variant: &Variant, made: Pipeline) -> Arc<Pipeline> {
        self.pipelines.work.lock().unwrap_or_else(PoisonError::into_inner).count += 1;
        Arc::clone(variant.made.get_or_init(|| Arc::new(made)))
    }
}

/// Shared among threads.
#[cfg(any(unix, windows))]
fn for_each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    super::workers::shared(items, work).map(drop)
}

/// A browser compiles in a process of its own, which this thread only asks.
#[cfg(not(any(unix, windows)))]
fn for_each<T>(items: &[T], work: impl Fn(&T) -> Result<()>) -> Result<()> {
    items.iter().try_for_each(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;

    fn compile(earlier: Option<&[u8]>) -> (PipelineWork, Option<Vec<u8>>) {
        let gpu = pollster::block_on(Gpu::new(&GpuOptions::default())).unwrap();
        // SAFETY: what is damaged has another hash, or another header, which wgpu compares before a driver sees anything.
        unsafe { gpu.keep_pipelines(earlier) };
        for names in [["add_bias", "argmax"], ["add_bias", "add_bias"]] {
            let shaders = names.map(Shader::new);
            let pipelines = gpu.pipelines(shaders.iter()).unwrap();
            assert!(shaders.iter().all(|shader| pipelines.contains_key(shader)));
        }
        assert_eq!(gpu.kept_pipelines().is_some(), gpu.pipelines_key().is_some());
        (gpu.pipeline_work(), gpu.kept_pipelines())
    }

    #[test]
    fn pipelines_are_kept_and_what_is_damaged_is_ignored() {
        let (work, kept) = compile(None);
        assert_eq!(work.count, 2);
        let Some(kept) = kept else { return };
        assert!(compile(Some(&kept)).1.is_some());
        let mut changed = kept.clone();
        changed[HASH_BYTES + 3] ^= 1;
        let mut unhashed = kept.clone();
        unhashed[0] ^= 1;
        // Another version's, with a hash that is right.
        let other = [Sha256::digest(&changed[HASH_BYTES..]).as_slice(), &changed[HASH_BYTES..]].concat();
        for damaged in [&[][..], &kept[..20], &kept[..kept.len() - 1], &changed, &unhashed, &other] {
            assert!(compile(Some(damaged)).1.is_some());
        }
    }
}
