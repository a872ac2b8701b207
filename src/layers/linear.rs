//! Linear layers and norms: weights bound to the GPU.

use super::Pass;
use crate::gpu::Slice;
use crate::kernels::{Activations, Matrix, Output, Pairs, add_bias, expert_matmul, is_quantized, matmul, rms_norm};

/// One or more weight matrices, stacked by rows, that share their input; possibly one such stack for each expert.
///
/// Neighbours of one format are one matrix, so that projections which belong together (q, k, v; gate, up) are one product.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// Each matrix and the output row it begins at.
    pub(crate) matrices: Vec<(Matrix, usize)>,
    /// Rows of the whole stack.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Biases, the output row each begins at, and its length.
    pub(crate) biases: Vec<(Slice, usize, usize)>,
}

impl Linear {
    /// Matrices from top to bottom, without biases. All have the same columns.
    pub(crate) fn new(matrices: Vec<Matrix>) -> Self {
        let cols = matrices.first().map_or(0, |m| m.layout.cols);
        let mut rows = 0;
        let stack = |matrix: Matrix| {
            rows += matrix.layout.rows;
            let first = rows - matrix.layout.rows;
            (matrix, first)
        };
        let matrices = matrices.into_iter().map(stack).collect();
        Self { matrices, rows, cols, biases: Vec::new() }
    }

    pub(super) fn is_quantized(&self) -> bool {
        self.matrices.iter().any(|(m, _)| is_quantized(m.layout.dtype))
    }

    /// y[token] (+)= W x[token] + bias for `rows` rows of x, y having rows of length `stride`.
    pub(crate) fn record(&self, p: &mut Pass<'_>, x: &Activations, rows: usize, y: &Slice, stride: usize, accumulate: bool) {
        for (matrix, offset) in &self.matrices {
            matmul(&mut p.r, p.choice, matrix, x, rows, &Output { y: y.clone(), stride, offset: *offset, accumulate });
        }
        for (bias, offset, len) in &self.biases {
            add_bias(&mut p.r, bias, y, *len, stride, *offset, rows);
        }
    }

    /// y[pair] = W[expert of the pair] x, y having rows of length `stride`.
    pub(super) fn record_experts(&self, p: &mut Pass<'_>, x: &Activations, pairs: &Pairs, y: &Slice, stride: usize) {
        for (matrix, offset) in &self.matrices {
            expert_matmul(
                &mut p.r,
                p.choice,
                matrix,
                x,
                pairs,
                &Output { y: y.clone(), stride, offset: *offset, accumulate: false },
            );
        }
    }
}

/// A root-mean-square norm with its weight.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Slice,
    pub(crate) cols: usize,
    pub(crate) eps: f32,
}

impl Norm {
    /// Normalises `rows` rows of the residual stream, from `first_row` on, into the first rows of `h`.
    pub(crate) fn record(&self, p: &mut Pass<'_>, first_row: usize, rows: usize) {
        let stride = self.cols.next_multiple_of(32);
        rms_norm(&mut p.r, &p.s.x, &self.weight, &p.s.h, self.cols, stride, first_row, rows, self.eps);
    }
}
