//! What a checkpoint holds, without loading it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::roles::{Role, role};
use super::{Architecture, architecture};
use crate::Result;
use crate::experts::{ExpertBudget, ExpertPlan};
use crate::kernels::KvType;
use crate::weights::{Checkpoint, Format};

/// A model's architecture, sizes and formats, as `moxel inspect` shows them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelInfo {
    /// `llama`, `llama4`, ...
    pub architecture: String,
    /// `gguf`, `huggingface` or `packed`.
    pub container: String,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Positions the model was trained for.
    pub trained_context: usize,
    /// Indices of the layers with experts; empty for a dense model.
    pub moe_layers: Vec<usize>,
    /// Routed experts in a MoE layer.
    pub experts: usize,
    /// Experts chosen for a token.
    pub experts_per_token: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Of these, the ones that computing one token uses: all but the routed experts that are not chosen.
    pub active_parameters: u64,
    /// Of these, the ones that every token of a prompt is multiplied by: without embedding and head.
    pub layer_parameters: u64,
    /// Elements in each format.
    pub formats: BTreeMap<String, u64>,
    /// Bytes of all tensors in the checkpoint.
    pub weight_bytes: u64,
    /// Of these, bytes of routed experts.
    pub expert_bytes: u64,
    /// Bytes of the KV cache for each position, in f16.
    pub kv_bytes_per_token: u64,
}

/// What a budget gives the routed experts of a model; `None` for a dense one.
///
/// `max_binding_bytes` is the adapter's, see [`Caps`](crate::Caps); it decides how experts are grouped, not how many fit.
/// `Auto` plans for all.
///
/// # Errors
/// Whatever makes the checkpoint unusable, or fewer bytes than the least that works.
pub fn expert_plan(checkpoint: &Checkpoint, budget: ExpertBudget, max_binding_bytes: u64) -> Result<Option<ExpertPlan>> {
    plan_experts(&*architecture(checkpoint)?, checkpoint, budget, max_binding_bytes)
}

/// The same of a model whose configuration has been read.
pub(crate) fn plan_experts(
    model: &dyn Architecture,
    checkpoint: &Checkpoint,
    budget: ExpertBudget,
    max_binding_bytes: u64,
) -> Result<Option<ExpertPlan>> {
    let layers = model.expert_layers(checkpoint)?;
    if layers.is_empty() {
        return Ok(None);
    }
    ExpertPlan::new(&layers, model.dims().chosen, max_binding_bytes, budget).map(Some)
}

impl ModelInfo {
    /// Reads the configuration and adds up the tensors.
    ///
    /// # Errors
    /// Whatever makes the configuration unusable.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let model = architecture(checkpoint)?;
        let dims = model.dims();
        let (key, container) = match checkpoint.format() {
            Format::Gguf => ("general.architecture", "gguf"),
            Format::HuggingFace => ("model_type", "huggingface"),
        };
        let container = if checkpoint.is_packed() { "packed" } else { container };
        let mut formats = BTreeMap::new();
        let (mut parameters, mut weight_bytes, mut ends) = (0, 0, 0);
        for tensor in checkpoint.tensors() {
            *formats.entry(tensor.dtype.name().to_string()).or_insert(0) += tensor.elements();
            parameters += tensor.elements();
            weight_bytes += tensor.bytes();
            ends += if role(&tensor.name) == Role::Ends { tensor.elements() } else { 0 };
        }
        let (mut expert_parameters, mut expert_bytes) = (0, 0);
        for layer in model.expert_layers(checkpoint)? {
            for matrix in layer.record.matrices() {
                let elements = (layer.experts() * matrix.rows * matrix.cols) as u64;
                expert_parameters += elements;
                if layer.is_packed() {
                    *formats.entry(matrix.dtype.name().to_string()).or_insert(0) += elements;
                    parameters += elements;
                }
            }
            let bytes = layer.experts() as u64 * layer.read_bytes();
            expert_bytes += bytes;
            weight_bytes += if layer.is_packed() { bytes } else { 0 };
        }
        let idle = expert_parameters / dims.experts.max(1) as u64 * dims.experts.saturating_sub(dims.chosen) as u64;
        Ok(Self {
            architecture: checkpoint.config().get(key).and_then(|v| v.as_str()).unwrap_or_default().into(),
            container: container.into(),
            layers: dims.layers,
            hidden: dims.hidden,
            heads: dims.heads,
            kv_heads: dims.kv_heads,
            head_dim: dims.head_dim,
            vocab: dims.vocab,
            trained_context: model.trained_context(),
            moe_layers: model.moe_layers(),
            experts: dims.experts,
            experts_per_token: dims.chosen,
            parameters,
            active_parameters: parameters - idle,
            layer_parameters: parameters - idle - ends,
            formats,
            weight_bytes,
            expert_bytes,
            kv_bytes_per_token: (2 * dims.layers * dims.kv_heads * dims.head_dim * 2) as u64,
        })
    }

    /// Bytes of a KV cache of this type for so many positions.
    #[must_use]
    pub fn kv_cache_bytes(&self, kv: KvType, context: usize) -> u64 {
        2 * (self.layers * self.kv_heads) as u64 * kv.bytes(self.head_dim, context)
    }
}
