//! Linear layers: weights bound to the GPU.

use super::Pass;
use crate::gpu::Slice;
use crate::kernels::{Activations, Matrix, Output, Pairs, add_bias, expert_matmul, is_quantized, matmul};

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

    /// Whether it can multiply bytes.
    pub(crate) fn takes_bytes(&self) -> bool {
        self.matrices.iter().all(|(m, _)| is_quantized(m.layout.dtype))
    }

    /// The matrix, where it is one, or one for each expert, and nothing is added to its product.
    pub(super) fn single(&self) -> Option<&Matrix> {
        match (&self.matrices[..], &self.biases[..]) {
            ([(matrix, _)], []) => Some(matrix),
            _ => None,
        }
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
