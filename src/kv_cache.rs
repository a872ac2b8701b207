//! Keys and values of past tokens, one pair of buffers for each layer, of a fixed number of positions.

use crate::dims::Dims;
use crate::gpu::{Gpu, Slice};
use crate::kernels::KvType;
use crate::{Error, Result};

pub(crate) struct KvCache {
    /// Keys and values of each layer: for each head [`KvType::bytes`].
    pub(crate) layers: Vec<(Slice, Slice)>,
    /// Positions that fit.
    pub(crate) context: usize,
    /// What the rows are.
    pub(crate) kv: KvType,
}

impl KvCache {
    pub(crate) fn new(gpu: &Gpu, dims: &Dims, context: usize, kv: KvType) -> Result<Self> {
        let bytes = layer_bytes(dims, context, kv);
        let buffer = |label| Ok::<_, Error>(gpu.storage(label, bytes)?.whole());
        let layers = (0..dims.layers).map(|_| Ok((buffer("k_cache")?, buffer("v_cache")?))).collect::<Result<_>>()?;
        Ok(Self { layers, context, kv })
    }

    /// Fails where a cache of this many positions cannot be made, before anything is loaded for it.
    pub(crate) fn check(gpu: &Gpu, dims: &Dims, context: usize, kv: KvType) -> Result<()> {
        let (needed, most) = (layer_bytes(dims, context, kv), gpu.caps().max_binding_bytes);
        if needed <= most {
            return Ok(());
        }
        let fits = most / layer_bytes(dims, KvType::TOGETHER, kv) * KvType::TOGETHER as u64;
        Err(Error::Adapter(format!(
            "a context of {context} needs {needed} bytes for a layer's keys in {kv}, the adapter binds at most {most}; a context of {fits} fits"
        )))
    }
}

/// Bytes of the keys (or values) of a layer.
fn layer_bytes(dims: &Dims, context: usize, kv: KvType) -> u64 {
    dims.kv_heads as u64 * kv.bytes(dims.head_dim, context)
}
