//! Opening the adapter and loading the model, with a progress bar.

use std::path::Path;
use std::time::{Duration, Instant};

use moxel::{Engine, EngineOptions, Gpu, GpuOptions, LoadProgress, Precision};

use crate::args::Common;
use crate::location;
use crate::progress::bytes_bar;

/// A model, and how long it took until it was there.
pub struct LoadedModel {
    pub engine: Engine,
    pub load_time: Duration,
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
        experts: common.experts.options(),
        ..EngineOptions::default()
    }
}

/// As [`load`], with the engine's own options.
pub fn load_with(common: &Common, path: &Path, options: &EngineOptions) -> moxel::Result<LoadedModel> {
    let begin = Instant::now();
    let (source, entry) = location::open(common, path)?;
    let gpu = pollster::block_on(Gpu::new(&GpuOptions { adapter: common.selector(), ..GpuOptions::default() }))?;
    eprintln!("adapter: {}", gpu.description());
    let bar = bytes_bar("loading");
    let mut on_progress = |LoadProgress { read_bytes, total_bytes, .. }| {
        bar.set_length(total_bytes);
        bar.set_position(read_bytes);
    };
    let engine = pollster::block_on(Engine::load(&gpu, source, &entry, options, &mut on_progress));
    bar.finish_and_clear();
    let engine = engine?;
    if let Some(plan) = engine.expert_plan() {
        eprintln!("experts: {plan}");
    }
    Ok(LoadedModel { engine, load_time: begin.elapsed() })
}
