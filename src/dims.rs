//! The sizes of a model, which its layers, caches and buffers are made for.

/// The sizes that a model's layers need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) hidden: usize,
    pub(crate) vocab: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Inner size of the widest dense or shared feed-forward layer.
    pub(crate) inner: usize,
    /// MoE layers, 0 for a dense model; the fields below count only then.
    pub(crate) moe_layers: usize,
    pub(crate) experts: usize,
    /// Experts chosen for a token (k).
    pub(crate) chosen: usize,
    pub(crate) expert_inner: usize,
}

impl Dims {
    /// Rows of the stacked q, k and v projections.
    pub(crate) fn qkv(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}
