//! Activations to bytes, for the integer dot product.

use super::{in_planes, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { blocks: u32 }

/// Lanes in a workgroup, one for each block.
const LANES: usize = 32;

/// Quantises `blocks` blocks of 32 floats: bytes [blocks, 32] and scales [blocks, 2].
pub(crate) fn quantize(r: &mut Recorder, x: &Slice, bytes: &Slice, scales: &Slice, blocks: usize) {
    let (workgroups, planes) = in_planes(blocks.div_ceil(LANES));
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { blocks: u32_of(blocks) }.bytes(),
        bindings: vec![(1, x.clone()), (2, bytes.clone()), (3, scales.clone())],
        groups: [workgroups, 1, planes],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("quantize")
}
