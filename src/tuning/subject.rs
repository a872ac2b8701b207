//! What is measured: the model's own most common matrix; and what a measurement holds for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::attention::Heads;
use crate::Result;
use crate::engine::Precision;
use crate::gpu::{AdapterDescription, Gpu, fingerprint};
use crate::kernels::{KernelChoice, can_make_bytes, is_quantized};
use crate::model_files::ModelFiles;
use crate::models::{Role, role};
use crate::weights::DType;

/// Models below this size are not worth measuring for: any kernel computes them in no time.
const SMALLEST_MODEL: u64 = 32 << 20;

/// Wider matrices are no model's, and the CPU's part of checking kernels would take long.
const MOST_COLS: usize = 1 << 16;

/// The matrix of the model whose products take most of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) dtype: DType,
    /// Of experts, the rows of all that a token chooses.
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Whether there are any, which are multiplied by tiles of tokens.
    pub(super) experts: bool,
    pub(super) heads: Heads,
}

impl Subject {
    /// `None` for a model that is not worth measuring for.
    pub(super) fn of(files: &ModelFiles) -> Result<Option<Self>> {
        if files.info().weight_bytes < SMALLEST_MODEL {
            return Ok(None);
        }
        // Elements by format, rows and columns: of all projections within layers, experts counting as often as they are used.
        let mut elements = BTreeMap::new();
        // Nobody has compared sizes with the model's yet.
        let mut add = |dtype: DType, rows: usize, cols: usize| {
            if (1..=MOST_COLS).contains(&cols) && rows > 0 {
                *elements.entry((dtype, rows, cols)).or_insert(0) += rows as u64 * cols as u64;
            }
        };
        let dims = files.architecture.dims();
        for (part, dtype, rows, cols) in products(files)? {
            match part {
                Part::Layer => add(dtype, rows, cols),
                Part::Experts => add(dtype, dims.chosen * rows, cols),
                Part::Head | Part::Router => {}
            }
        }
        let most = elements.into_iter().max_by_key(|(_, elements)| *elements);
        let experts = dims.moe_layers > 0;
        let heads = Heads::new(dims.heads, dims.kv_heads, dims.head_dim);
        Ok(most.map(|((dtype, rows, cols), _)| {
            let cols = cols.next_multiple_of(dtype.block_len());
            Self { dtype, rows, cols, experts, heads }
        }))
    }
}

/// What a matrix is in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A projection of attention or of feed-forward, which every token passes.
    Layer,
    /// A routed expert's.
    Experts,
    Head,
    /// What chooses experts: its input is never rounded.
    Router,
}

/// Part, format, rows and columns of the model's matrices.
fn products(files: &ModelFiles) -> Result<Vec<(Part, DType, usize, usize)>> {
    let experts = files.architecture.dims().experts;
    let mut found = Vec::new();
    for tensor in files.checkpoint.tensors() {
        let [rows, cols] = tensor.shape[..] else { continue };
        let part = match role(&tensor.name) {
            Role::Attention | Role::FeedForward | Role::SharedExpert => Part::Layer,
            Role::Ends => Part::Head,
            Role::Other if rows == experts => Part::Router,
            Role::Other => continue,
        };
        found.push((part, tensor.dtype, rows, cols));
    }
    for layer in files.architecture.expert_layers(&files.checkpoint)? {
        found.extend(layer.record.matrices().map(|matrix| (Part::Experts, matrix.dtype, matrix.rows, matrix.cols)));
    }
    Ok(found)
}

/// How a model multiplies the weights of one format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// By activations that kernels may round.
    pub(super) rounded: bool,
    /// By activations that stay floats whatever the kernel.
    pub(super) floats: bool,
    /// In layers, where kernels do what follows the product too.
    pub(super) layers: bool,
}

/// The formats of the model's matrices.
pub(super) fn uses(files: &ModelFiles) -> Result<BTreeMap<DType, Use>> {
    let products = products(files)?;
    let layer = |part: Part| matches!(part, Part::Layer | Part::Experts);
    // What shares its input with a matrix of floats gets floats, and so does what follows attention with heads of odd sizes.
    let mixed = products.iter().any(|&(part, dtype, ..)| layer(part) && !is_quantized(dtype))
        || !can_make_bytes(files.architecture.dims().head_dim);
    let mut uses = BTreeMap::new();
    for (part, dtype, ..) in products {
        let found: &mut Use = uses.entry(dtype).or_default();
        found.rounded |= part != Part::Router && is_quantized(dtype);
        found.floats |= part == Part::Router || !is_quantized(dtype) || (layer(part) && mixed);
        found.layers |= layer(part);
    }
    Ok(uses)
}

/// What a [`KernelChoice`](crate::KernelChoice) was measured for. Where any of it is different, another choice may be faster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuningKey {
    /// The adapter's name.
    pub adapter: String,
    /// `vulkan`, `metal`, `dx12`, `webgpu`, ...
    pub backend: String,
    /// The driver's name.
    pub driver: String,
    /// The driver's version text.
    pub driver_info: String,
    /// The optional features that the device has, as [`Caps::tier`](crate::Caps::tier) names them.
    pub tier: String,
    /// Moxel's version and a number for its shaders: others are faster or slower.
    pub version: String,
    /// The weight format.
    pub format: DType,
    /// Rows of the matrix that was measured.
    pub rows: usize,
    /// Its columns.
    pub cols: usize,
    /// Dimensions of a head: attention was measured too.
    pub head_dim: usize,
    /// All weight formats of the model: kernels were checked with each.
    pub formats: Vec<DType>,
    /// Which kernels were allowed.
    pub precision: Precision,
}

/// What this version's choices are kept under.
fn version() -> String {
    format!("{} {:016x}", env!("CARGO_PKG_VERSION"), fingerprint())
}

impl TuningKey {
    /// Whether these kernels may compute what it is the key of, on this device: whoever reads them from a file cannot be sure.
    #[must_use]
    pub fn allows(&self, kernels: &KernelChoice, gpu: &Gpu) -> bool {
        (self.precision == Precision::Fast || !kernels.rounds_activations()) && kernels.lacks(gpu.caps()).is_none()
    }

    /// Whether it was measured on this adapter, with its present driver, by these kernels.
    #[must_use]
    pub fn is_of(&self, adapter: &AdapterDescription) -> bool {
        let AdapterDescription { name, backend, driver, driver_info, tier, .. } = adapter;
        (&self.adapter, &self.backend, &self.driver, &self.driver_info, &self.tier) == (name, backend, driver, driver_info, tier)
            && self.version == version()
    }

    /// What measuring for a model on a device holds for; `None` for a small model, for which nothing is measured.
    ///
    /// # Errors
    /// The model's experts are malformed.
    pub fn new(gpu: &Gpu, files: &ModelFiles, precision: Precision) -> Result<Option<Self>> {
        let adapter = gpu.description();
        let Some(Subject { dtype, rows, cols, heads, .. }) = Subject::of(files)? else { return Ok(None) };
        Ok(Some(Self {
            adapter: adapter.name.clone(),
            backend: adapter.backend.clone(),
            driver: adapter.driver.clone(),
            driver_info: adapter.driver_info.clone(),
            tier: adapter.tier.clone(),
            version: version(),
            format: dtype,
            rows,
            cols,
            head_dim: heads.size,
            formats: uses(files)?.into_keys().collect(),
            precision,
        }))
    }
}
