//! Keys and values of past tokens, one pair of buffers for each layer, of a fixed number of positions.

use crate::Result;
use crate::gpu::{Gpu, Slice};

pub(crate) struct KvCache {
    /// Keys and values [kv_heads, context, head_dim] of each layer.
    pub(crate) layers: Vec<(Slice, Slice)>,
    /// Positions that fit.
    pub(crate) context: usize,
    /// Elements are f32; otherwise f16, two in a word.
    pub(crate) f32: bool,
}

impl KvCache {
    pub(crate) fn new(gpu: &Gpu, layers: usize, kv_heads: usize, head_dim: usize, context: usize, f32: bool) -> Result<Self> {
        let bytes = (kv_heads * context * head_dim) as u64 * if f32 { 4 } else { 2 };
        let buffer = |label| Ok::<_, crate::Error>(gpu.storage(label, bytes)?.whole());
        let layers = (0..layers).map(|_| Ok((buffer("k_cache")?, buffer("v_cache")?))).collect::<Result<_>>()?;
        Ok(Self { layers, context, f32 })
    }
}
