//! Keys and values of past tokens, one pair of buffers for each layer, of a fixed number of positions.

use crate::dims::Dims;
use crate::gpu::{Gpu, Slice};
use crate::{Error, Result};

pub(crate) struct KvCache {
    /// Keys and values [kv_heads, context, head_dim] of each layer.
    pub(crate) layers: Vec<(Slice, Slice)>,
    /// Positions that fit.
    pub(crate) context: usize,
    /// Elements are f32; otherwise f16, two in a word.
    pub(crate) f32: bool,
}

impl KvCache {
    pub(crate) fn new(gpu: &Gpu, dims: &Dims, context: usize, f32: bool) -> Result<Self> {
        let bytes = layer_bytes(dims, context, f32);
        let buffer = |label| Ok::<_, Error>(gpu.storage(label, bytes)?.whole());
        let layers = (0..dims.layers).map(|_| Ok((buffer("k_cache")?, buffer("v_cache")?))).collect::<Result<_>>()?;
        Ok(Self { layers, context, f32 })
    }

    /// Fails where a cache of this many positions cannot be made, before anything is loaded for it.
    pub(crate) fn check(gpu: &Gpu, dims: &Dims, context: usize, f32: bool) -> Result<()> {
        let (needed, most) = (layer_bytes(dims, context, f32), gpu.caps().max_binding_bytes);
        if needed <= most {
            return Ok(());
        }
        let fits = most / layer_bytes(dims, 1, f32);
        Err(Error::Adapter(format!(
            "a context of {context} needs {needed} bytes for a layer's keys, the adapter binds at most {most}; a context of {fits} fits"
        )))
    }
}

/// Bytes of the keys (or values) of a layer.
fn layer_bytes(dims: &Dims, context: usize, f32: bool) -> u64 {
    dims.kv_heads as u64 * context as u64 * dims.head_dim as u64 * if f32 { 4 } else { 2 }
}
