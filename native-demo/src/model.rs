//! Opening the adapter and loading the model, with a progress bar.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use moxel::{
    AdapterSelector, Engine, EngineOptions, Gpu, GpuOptions, KvType, LoadProgress, ModelFiles, Precision, Tuning, TuningKey,
};

use crate::args::Common;
use crate::kept_pipelines::KeptPipelines;
use crate::known_kernels::KnownKernels;
use crate::location;
use crate::progress::bytes_bar;
use crate::startup::{self, Loading};

/// A model, and how long it took until it was there.
pub struct LoadedModel {
    pub engine: Engine,
    pub loading: Loading,
    pipelines: Option<KeptPipelines>,
}

impl LoadedModel {
    /// Keeps what the driver compiled for the next run, now that all that was wanted of the model is done.
    pub fn done(&self) {
        self.pipelines.iter().for_each(KeptPipelines::write);
    }
}

/// Loads the model at a path or URL and says on which adapter.
pub fn load(common: &Common, path: &Path, precision: Precision) -> moxel::Result<LoadedModel> {
    load_with(common, path, &options(common, precision))
}

/// The engine's options as the command line has them.
pub fn options(common: &Common, precision: Precision) -> EngineOptions {
    EngineOptions {
        context: common.context,
        precision: common.precision_or(precision),
        kv: common.kv.map(KvType::from),
        experts: common.experts.options(),
        tuning: if common.no_tune { Tuning::Plain } else { Tuning::Measure },
        ..EngineOptions::default()
    }
}

/// As [`load`], with the engine's own options.
pub fn load_with(common: &Common, path: &Path, options: &EngineOptions) -> moxel::Result<LoadedModel> {
    let begin = Instant::now();
    let (opened, gpu) = at_once(|| timed(|| open_files(common, path)), || timed(|| open_quietly(common.selector())));
    let ((opened, files), (gpu, adapter)) = (opened?, gpu?);
    eprintln!("adapter: {}", gpu.description());
    let pipelines = KeptPipelines::begin(common, &gpu);
    let engine = load_files(common, &gpu, &opened, options)?;
    let loading = Loading { files, adapter, all: begin.elapsed(), done_at: startup::elapsed() };
    Ok(LoadedModel { engine, loading, pipelines })
}

/// Opens the model at a path or URL; no tensor is read yet.
pub fn open_files(common: &Common, path: &Path) -> moxel::Result<Arc<ModelFiles>> {
    let (source, entry) = location::open(common, path)?;
    pollster::block_on(ModelFiles::open(source, &entry))
}

/// Opens an adapter and says which.
pub fn open_gpu(adapter: AdapterSelector) -> moxel::Result<Arc<Gpu>> {
    let gpu = open_quietly(adapter)?;
    eprintln!("adapter: {}", gpu.description());
    Ok(gpu)
}

fn open_quietly(adapter: AdapterSelector) -> moxel::Result<Arc<Gpu>> {
    Gpu::open(&GpuOptions { adapter, ..GpuOptions::default() })
}

/// Both results; `second` is done by a thread of its own.
fn at_once<A, B: Send>(first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, B) {
    thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn timed<T>(work: impl FnOnce() -> moxel::Result<T>) -> moxel::Result<(T, Duration)> {
    let begin = Instant::now();
    work().map(|result| (result, begin.elapsed()))
}

/// Brings a model's weights to an adapter and says how many experts have a place there. Kernels that
/// were measured before are not measured again.
pub fn load_files(common: &Common, gpu: &Arc<Gpu>, files: &Arc<ModelFiles>, options: &EngineOptions) -> moxel::Result<Engine> {
    let mut options = options.clone();
    let known = KnownKernels::read(common);
    let key = if options.tuning == Tuning::Measure { TuningKey::new(gpu, files, options.precision)? } else { None };
    let found = key.as_ref().and_then(|key| known.find(key, gpu));
    options.tuning = found.map_or(options.tuning, Tuning::Known);
    let bar = bytes_bar("loading");
    let mut on_progress = |LoadProgress { read_bytes, total_bytes, .. }| {
        bar.set_length(total_bytes);
        bar.set_position(read_bytes);
    };
    let engine = pollster::block_on(Engine::from_files(gpu, files, &options, &mut on_progress));
    bar.finish_and_clear();
    let engine = engine?;
    if let (Some(key), None) = (key, found) {
        known.save(key, engine.kernel_choice());
    }
    if let Some(plan) = engine.expert_plan() {
        eprintln!("experts: {plan}");
    }
    Ok(engine)
}
