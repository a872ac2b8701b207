//! Arithmetic without memory, as a yardstick for products of many tokens.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { lanes: u32, factor: f32, addend: f32 }

/// Multiplications and as many additions of a lane: twelve numbers, 128 times.
const STEPS: u64 = 12 * 128;

/// Writes what each of `y`'s lanes, at most 4,194,240 f32, comes to. Returns how many operations that takes, a multiplication
/// and an addition being two.
pub(crate) fn multiply_add(r: &mut Recorder, y: &Slice, factor: f32, addend: f32) -> u64 {
    let lanes = y.size() / 4;
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { lanes: u32_of(lanes as usize), factor, addend }.bytes(),
        bindings: vec![(1, y.clone())],
        groups: [u32_of(lanes.div_ceil(64) as usize), 1, 1],
        weight_bytes: 0,
    });
    2 * STEPS * lanes
}

pub(super) fn shader() -> Shader {
    Shader::new("multiply_add")
}
