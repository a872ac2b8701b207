//! Copying memory, as a yardstick for kernels that read weights.

use super::{in_planes, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { blocks: u32 }

/// Bytes that a lane copies at a time.
const BLOCK: u64 = 16;
/// Blocks that a workgroup copies.
const WORKGROUP: u64 = 4 * 256;

/// Copies `from` to `to`, both of the same multiple of 16 bytes.
pub(crate) fn copy_memory(r: &mut Recorder, from: &Slice, to: &Slice) {
    debug_assert_eq!((from.size(), from.size() % BLOCK), (to.size(), 0));
    let blocks = from.size() / BLOCK;
    let (x, z) = in_planes(blocks.div_ceil(WORKGROUP) as usize);
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { blocks: u32_of(blocks as usize) }.bytes(),
        bindings: vec![(1, from.clone()), (2, to.clone())],
        groups: [x, 1, z],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("copy_memory")
}
