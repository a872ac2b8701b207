//! Root-mean-square normalisation (Zhang and Sennrich, 2019, arXiv:1910.07467).

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { cols: u32, x_stride: u32, y_stride: u32, first_row: u32, eps: f32 }

/// y[i] = x[first_row + i] / sqrt(mean(x^2) + eps) * weight for `rows` rows of `cols` columns, both with row length `stride`.
#[expect(clippy::too_many_arguments, reason = "a kernel's operands and sizes")]
pub(crate) fn rms_norm(
    r: &mut Recorder,
    x: &Slice,
    weight: &Slice,
    y: &Slice,
    cols: usize,
    stride: usize,
    first_row: usize,
    rows: usize,
    eps: f32,
) {
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params {
            cols: u32_of(cols),
            x_stride: u32_of(stride),
            y_stride: u32_of(stride),
            first_row: u32_of(first_row),
            eps,
        }
        .bytes(),
        bindings: vec![(1, x.clone()), (2, weight.clone()), (3, y.clone())],
        groups: [u32_of(rows), 1, 1],
        weight_bytes: weight.size(),
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("rms_norm")
}
