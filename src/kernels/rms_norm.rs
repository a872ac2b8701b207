//! Root-mean-square normalisation (Zhang and Sennrich, 2019, arXiv:1910.07467).

use super::choice::QUADS;
use super::{Norm, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { cols: u32, x_stride: u32, y_stride: u32, first_row: u32, eps: f32 }

/// What a norm makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Normed {
    Floats,
    /// Blocks of bytes.
    Bytes,
    /// The same on drivers that compute four lanes at a time.
    BytesInQuads,
}

impl Normed {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::Floats, Self::Bytes, Self::BytesInQuads];
}

/// y[i] = x[first_row + i] / sqrt(mean(x^2) + eps) * weight for `rows` rows of the norm's columns, both with rows of whole
/// blocks.
pub(crate) fn rms_norm(r: &mut Recorder, norm: &Norm, x: &Slice, (y, made): (&Slice, Normed), first_row: usize, rows: usize) {
    let stride = norm.cols.next_multiple_of(32);
    debug_assert!(made == Normed::Floats || stride == norm.cols, "rows of bytes are whole blocks");
    r.dispatch(Dispatch {
        shader: shader(made),
        params: Params {
            cols: u32_of(norm.cols),
            x_stride: u32_of(stride),
            y_stride: u32_of(stride),
            first_row: u32_of(first_row),
            eps: norm.eps,
        }
        .bytes(),
        bindings: vec![(1, x.clone()), (2, norm.weight.clone()), (3, y.clone())],
        groups: [u32_of(rows), 1, 1],
        weight_bytes: norm.weight.size(),
    });
}

pub(super) fn shader(made: Normed) -> Shader {
    Shader::new("rms_norm").with_if(made != Normed::Floats, "bytes").with_if(made == Normed::BytesInQuads, QUADS)
}
