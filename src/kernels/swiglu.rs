//! The gated activation of a feed-forward layer (Shazeer, 2020, arXiv:2002.05202).

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { cols: u32, y_stride: u32 }

/// y = silu(s gate) (s up) for `rows` rows: `gate_up` is [rows, 2, cols], `y` [rows, cols padded to 32], as `bytes` or as
/// floats; s is the row's entry in `scores`, or 1.
pub(crate) fn swiglu(
    r: &mut Recorder,
    gate_up: &Slice,
    scores: Option<&Slice>,
    (y, bytes): (&Slice, bool),
    cols: usize,
    rows: usize,
) {
    let stride = cols.next_multiple_of(32);
    debug_assert!(!bytes || stride == cols, "rows of bytes are whole blocks");
    let lanes = if bytes { cols / 32 } else { stride };
    let mut bindings = vec![(1, gate_up.clone()), (2, y.clone())];
    bindings.extend(scores.map(|s| (3, s.clone())));
    r.dispatch(Dispatch {
        shader: shader(scores.is_some(), bytes),
        params: Params { cols: u32_of(cols), y_stride: u32_of(stride) }.bytes(),
        bindings,
        groups: [u32_of(lanes.div_ceil(64)), u32_of(rows), 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader(scaled: bool, bytes: bool) -> Shader {
    Shader::new("swiglu").with_if(scaled, "scaled").with_if(bytes, "bytes")
}
