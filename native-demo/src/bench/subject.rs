//! What is measured: a model from files, or random weights in a model's shape.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{bail, ensure};
use moxel::{ExpertBudget, Gpu, KvType, ModelFiles, ModelInfo, Precision};

use super::plan::Test;
use super::shape_model::{self, CONTEXT};
use super::shapes::{Shape, Sizes};
use crate::args::Common;
use crate::{model, output};

pub enum Subject {
    File(PathBuf),
    Shape {
        shape: Shape,
        /// At most this many.
        layers: Option<usize>,
    },
}

/// A model ready to be loaded.
pub struct Opened {
    pub files: Arc<ModelFiles>,
    pub budget: ExpertBudget,
    /// What the rows call it.
    pub model: String,
}

/// Memory that a shape leaves free on the adapter: for activations, what the driver keeps, and other programs.
const SPARE_BYTES: u64 = 512 << 20;

impl Subject {
    /// The path or URL, or the shape's name.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Shape { shape, .. } => shape.name(),
        }
    }

    /// Opens the model; of a shape, as many layers as the adapter has room for beside the context of these tests.
    ///
    /// # Errors
    /// The files cannot be opened, or not even the smallest part of a shape fits.
    pub fn open(&self, common: &Common, gpu: &Gpu, tests: &[Test]) -> anyhow::Result<Opened> {
        let budget = common.experts.expert_budget;
        match self {
            Self::File(path) => {
                let files = model::open_files(common, path)?;
                let model = format!("{} {}", files.info().architecture, main_format(files.info()));
                Ok(Opened { files, budget, model })
            }
            Self::Shape { shape, layers } => {
                ensure!(budget == ExpertBudget::Auto, "--expert-budget is for models from files: a shape keeps all its experts");
                let whole = shape.sizes();
                let possible = tests.iter().map(Test::positions).filter(|&positions| positions <= CONTEXT as usize);
                let context = common.context.or(possible.max()).unwrap_or(0);
                let kv = model::options(common, Precision::Fast).kv_type();
                let sizes = fitting(gpu, &shape.name(), &whole.cut(layers.unwrap_or(whole.layers)), (context, kv))?;
                let (source, entry) = shape_model::source(&sizes);
                let files = pollster::block_on(ModelFiles::open(source, entry))?;
                let model = called(&shape.name(), &whole, &sizes, files.info());
                Ok(Opened { files, budget: ExpertBudget::Percent(100.0), model })
            }
        }
    }
}

/// The format that most of the weights have.
fn main_format(info: &ModelInfo) -> &str {
    info.formats.iter().max_by_key(|(_, elements)| **elements).map_or("", |(name, _)| name)
}

/// Such as `qwen3-30b-a3b sizes, 12 of 48 layers of llama4, Q4_0`.
fn called(name: &str, whole: &Sizes, sizes: &Sizes, info: &ModelInfo) -> String {
    let layers =
        if sizes.layers < whole.layers { format!("{} of {}", sizes.layers, whole.layers) } else { sizes.layers.to_string() };
    format!("{name} sizes, {layers} layers of {}, {}", info.architecture, main_format(info))
}

/// The most layers for which the adapter has room.
fn fitting(gpu: &Gpu, name: &str, sizes: &Sizes, (context, kv): (usize, KvType)) -> anyhow::Result<Sizes> {
    let bound = system_bound(gpu);
    let needed = |sizes: &Sizes| shape_model::bytes(sizes) + sizes.kv_bytes(kv, context) + SPARE_BYTES;
    let fits = |periods: usize| {
        let needed = needed(&sizes.cut(periods * sizes.period()));
        needed <= bound && pollster::block_on(gpu.has_room(needed)).is_ok()
    };
    match most(sizes.layers / sizes.period(), fits) {
        Some(periods) => Ok(sizes.cut(periods * sizes.period())),
        None => {
            let least = sizes.cut(0);
            let bytes = output::bytes(needed(&least));
            bail!("the adapter has no room for {bytes}, which {} layers of {name} need", least.layers)
        }
    }
}

/// The largest number up to `end` that fits, or none. What is less than one that fits does too.
fn most(end: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    if fits(end) {
        return Some(end);
    }
    let (mut fitting, mut too_many) = (0, end);
    while too_many - fitting > 1 {
        let middle = usize::midpoint(fitting, too_many);
        if fits(middle) { fitting = middle } else { too_many = middle }
    }
    (fitting > 0).then_some(fitting)
}

/// Where the GPU's memory is the system's, half of what is free there: allocating more would succeed, and using it end this
/// program or another one. Where the system does not tell, what most have.
fn system_bound(gpu: &Gpu) -> u64 {
    let shared = ["Cpu", "IntegratedGpu"].contains(&gpu.description().kind.as_str());
    if shared { output::free_memory().map_or(4 << 30, |free| free / 2) } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::most;

    #[test]
    fn the_most_that_fits_is_found() {
        for limit in 0..=20 {
            for end in 1..=20 {
                assert_eq!(most(end, |n| n <= limit), Some(end.min(limit)).filter(|&n| n > 0), "{limit} of {end}");
            }
        }
    }
}
