//! Causal attention over the KV cache with grouped queries, keys possibly limited to the query's chunk.

use super::rope_append::{self, RopeShape};
use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! {
    heads: u32, kv_heads: u32, head_dim: u32, out_stride: u32, context: u32, chunk: u32, scale: f32, to_bytes: u32,
    rotate: u32, coarse_rows: u32, normalize: u32, eps: f32, floor_scale: f32, temperature: f32,
}

/// The largest head that the kernel's workgroup memory holds.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// Sizes of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Positions in the cache.
    pub(crate) context: usize,
    /// Positions in a chunk outside of which a query sees nothing; 0: no chunks.
    pub(crate) chunk: usize,
    /// Factor of the scores.
    pub(crate) scale: f32,
}

/// Where the queries come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Query<'a> {
    /// [tokens, heads, head_dim], rotated; the tokens' keys and values are in the cache.
    Ready(&'a Slice),
    /// The stacked projections of one token and the rotation's table: keys and values are appended as `rope_append` does.
    Fresh(&'a RopeShape, &'a Slice, &'a Slice),
}

/// Slices: the layer's two caches, `step`, `out` [tokens, heads * head_dim padded to 32].
pub(crate) struct AttentionSlices<'a> {
    pub(crate) k_cache: &'a Slice,
    pub(crate) v_cache: &'a Slice,
    pub(crate) step: &'a Slice,
    pub(crate) out: &'a Slice,
    /// `out` is bytes, see [`can_make_bytes`].
    pub(crate) bytes: bool,
    /// The caches hold f32 instead of f16.
    pub(crate) kv_f32: bool,
}

/// Whether heads of this size are whole blocks.
pub(crate) fn can_make_bytes(head_dim: usize) -> bool {
    head_dim.is_multiple_of(32)
}

pub(crate) fn attention(r: &mut Recorder, shape: &AttentionShape, query: Query<'_>, s: &AttentionSlices<'_>, tokens: usize) {
    let mut params = Params {
        heads: u32_of(shape.heads),
        kv_heads: u32_of(shape.kv_heads),
        head_dim: u32_of(shape.head_dim),
        out_stride: u32_of((shape.heads * shape.head_dim).next_multiple_of(32)),
        context: u32_of(shape.context),
        chunk: u32_of(shape.chunk),
        scale: shape.scale,
        to_bytes: u32::from(s.bytes),
        rotate: 0,
        coarse_rows: 0,
        normalize: 0,
        eps: 0.0,
        floor_scale: 1.0,
        temperature: 0.0,
    };
    let mut bindings = vec![(3, s.step.clone()), (4, s.out.clone()), (5, s.k_cache.clone()), (6, s.v_cache.clone())];
    let fresh = match query {
        Query::Ready(q) => {
            bindings.push((1, q.clone()));
            false
        }
        Query::Fresh(rope, qkv, table) => {
            let rope = rope_append::Params::new(rope, table);
            (params.rotate, params.coarse_rows, params.normalize) = (rope.rotate, rope.coarse_rows, rope.normalize);
            (params.eps, params.floor_scale, params.temperature) = (rope.eps, rope.floor_scale, rope.temperature);
            bindings.extend([(1, qkv.clone()), (2, table.clone())]);
            true
        }
    };
    r.dispatch(Dispatch {
        shader: shader(s.kv_f32, shape.head_dim <= 64, fresh),
        params: params.bytes(),
        bindings,
        groups: [u32_of(shape.heads), u32_of(tokens), 1],
        weight_bytes: 0,
    });
}

/// `narrow`: heads of up to 64 dimensions.
pub(super) fn shader(kv_f32: bool, narrow: bool, fresh: bool) -> Shader {
    Shader::new("attention").with_if(kv_f32, "kv_f32").with_if(narrow, "narrow").with_if(fresh, "fresh")
}
