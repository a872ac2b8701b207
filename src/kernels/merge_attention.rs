//! The results of `attention` over several spans of keys as one; its twin is `attention`'s.

use super::attention::{AttentionShape, AttentionSlices};
use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader};

params! { heads: u32, head_dim: u32, chunk: u32, tile: u32 }

/// Lanes of a workgroup, each with up to 32 dimensions of a head.
const LANES: usize = 32;

/// `s.spans` into `s.out`.
pub(super) fn merge_attention(r: &mut Recorder, shape: &AttentionShape, s: &AttentionSlices<'_>) {
    let params = Params {
        heads: u32_of(shape.heads),
        head_dim: u32_of(shape.head_dim),
        chunk: u32_of(shape.chunk),
        tile: u32_of(shape.tile()),
    };
    r.dispatch(Dispatch {
        shader: shader(s.bytes),
        params: params.bytes(),
        bindings: vec![(1, s.spans.clone()), (3, s.step.clone()), (4, s.out.clone())],
        groups: [u32_of((shape.heads * shape.head_dim.div_ceil(32)).div_ceil(LANES)), 1, 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader(bytes: bool) -> Shader {
    Shader::new("merge_attention").with_if(bytes, "bytes")
}
