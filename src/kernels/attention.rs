//! Causal attention over the KV cache with grouped queries, keys possibly limited to the query's chunk.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { heads: u32, kv_heads: u32, head_dim: u32, out_stride: u32, context: u32, chunk: u32, scale: f32 }

/// The largest head that the kernel's workgroup memory holds.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// Sizes of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Row length of the output.
    pub(crate) out_stride: usize,
    /// Positions in the cache.
    pub(crate) context: usize,
    /// Positions in a chunk outside of which a query sees nothing; 0: no chunks.
    pub(crate) chunk: usize,
    /// Factor of the scores.
    pub(crate) scale: f32,
}

/// Slices: `q` [tokens, heads, head_dim], the layer's two caches, `step`, `out` [tokens, out_stride].
pub(crate) struct AttentionSlices<'a> {
    pub(crate) q: &'a Slice,
    pub(crate) k_cache: &'a Slice,
    pub(crate) v_cache: &'a Slice,
    pub(crate) step: &'a Slice,
    pub(crate) out: &'a Slice,
    /// The caches hold f32 instead of f16.
    pub(crate) kv_f32: bool,
}

pub(crate) fn attention(r: &mut Recorder, shape: &AttentionShape, s: &AttentionSlices<'_>, tokens: usize) {
    let params = Params {
        heads: u32_of(shape.heads),
        kv_heads: u32_of(shape.kv_heads),
        head_dim: u32_of(shape.head_dim),
        out_stride: u32_of(shape.out_stride),
        context: u32_of(shape.context),
        chunk: u32_of(shape.chunk),
        scale: shape.scale,
    };
    r.dispatch(Dispatch {
        shader: shader(s.kv_f32, shape.head_dim <= 64),
        params: params.bytes(),
        bindings: (1..).zip([s.q, s.k_cache, s.v_cache, s.step, s.out].map(Slice::clone)).collect(),
        groups: [u32_of(shape.heads), u32_of(tokens), 1],
        weight_bytes: 0,
    });
}

/// `narrow`: heads of up to 64 dimensions.
pub(super) fn shader(kv_f32: bool, narrow: bool) -> Shader {
    Shader::new("attention").with_if(kv_f32, "kv_f32").with_if(narrow, "narrow")
}
