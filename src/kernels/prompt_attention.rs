//! Attention of several tokens whose keys and values are in the cache already; its twin is `attention`'s.

use super::attention::{AttentionShape, AttentionSlices};
use super::{KvType, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! {
    tokens: u32, heads: u32, kv_heads: u32, head_dim: u32, out_stride: u32, context: u32, chunk: u32, scale: f32, to_bytes: u32,
}

/// Rows, which are pairs of a token and a head, that a workgroup computes.
const ROWS: usize = 32;

/// `q` is [tokens, heads, head_dim], rotated. A lane computes one row, or with `four_rows`, where there is such a kernel, as many.
pub(crate) fn prompt_attention(
    r: &mut Recorder,
    shape: &AttentionShape,
    q: &Slice,
    s: &AttentionSlices<'_>,
    tokens: usize,
    four_rows: bool,
) {
    let params = Params {
        tokens: u32_of(tokens),
        heads: u32_of(shape.heads),
        kv_heads: u32_of(shape.kv_heads),
        head_dim: u32_of(shape.head_dim),
        out_stride: u32_of(shape.out_stride()),
        context: u32_of(shape.context),
        chunk: u32_of(shape.chunk),
        scale: shape.scale,
        to_bytes: u32::from(s.bytes),
    };
    let rows = tokens * shape.heads / shape.kv_heads;
    let mut bindings = vec![(1, q.clone()), (4, s.out.clone())];
    bindings.extend(s.bindings());
    r.dispatch(Dispatch {
        shader: shader(s.kv, shape.head_dim, four_rows),
        params: params.bytes(),
        bindings,
        groups: [u32_of(rows.div_ceil(ROWS)), u32_of(shape.kv_heads), 1],
        weight_bytes: 0,
    });
}

/// Whether a lane may compute four rows of heads of this size. For larger ones drivers take ten seconds to compile it.
pub(crate) fn has_four_rows(head_dim: usize) -> bool {
    head_dim <= 128
}

pub(super) fn shader(kv: KvType, head_dim: usize, four_rows: bool) -> Shader {
    let shader = kv.variant(Shader::new("prompt_attention"));
    let shader = shader.with_if(four_rows && has_four_rows(head_dim), "four_rows");
    shader.with_if(head_dim > 64, "above_64").with_if(head_dim > 128, "above_128")
}
