//! Greedy sampling.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { cols: u32 }

/// `result` [2]: the index of the highest of `cols` logits, and the bits of that logit.
pub(crate) fn argmax(r: &mut Recorder, logits: &Slice, result: &Slice, cols: usize) {
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { cols: u32_of(cols) }.bytes(),
        bindings: vec![(1, logits.clone()), (2, result.clone())],
        groups: [1, 1, 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("argmax")
}
