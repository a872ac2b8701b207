//! Rows of the embedding matrix for the step's tokens.

use super::matrix::for_format;
use super::{Matrix, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};
use crate::weights::DType;

params! { blocks: u32, first_row: u32, end_row: u32 }

/// x[t] = W[token t]: x is [tokens, columns padded to 32], `step` the position and the token ids.
pub(crate) fn embed(r: &mut Recorder, w: &Matrix, step: &Slice, x: &Slice, tokens: usize) {
    let blocks = w.layout.blocks();
    for part in &w.parts {
        let (first_row, end_row) = part.rows();
        let mut bindings = part.bindings();
        bindings.extend([(3, step.clone()), (4, x.clone())]);
        r.dispatch(Dispatch {
            shader: shader(w.layout.dtype),
            params: Params { blocks: u32_of(blocks), first_row: u32_of(first_row), end_row: u32_of(end_row) }.bytes(),
            bindings,
            groups: [u32_of(blocks.div_ceil(32)), u32_of(tokens), 1],
            weight_bytes: if first_row == 0 { w.bytes_of_one() / w.layout.rows as u64 * tokens as u64 } else { 0 },
        });
    }
}

pub(super) fn shader(dtype: DType) -> Shader {
    for_format(Shader::new("embed"), dtype)
}
