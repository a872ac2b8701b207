//! Biases of linear layers.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { cols: u32, stride: u32, offset: u32 }

/// y[row, offset..offset + cols] += bias for `rows` rows of length `stride`.
pub(crate) fn add_bias(r: &mut Recorder, bias: &Slice, y: &Slice, cols: usize, stride: usize, offset: usize, rows: usize) {
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { cols: u32_of(cols), stride: u32_of(stride), offset: u32_of(offset) }.bytes(),
        bindings: vec![(1, bias.clone()), (2, y.clone())],
        groups: [u32_of(cols.div_ceil(64)), u32_of(rows), 1],
        weight_bytes: bias.size(),
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("add_bias")
}
