//! Rows that are multiplied by weights: floats or bytes, in whole blocks of 32, behind a norm or not.

use crate::gpu::Slice;

/// A root-mean-square norm.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// [cols padded to 32], zeros behind the last column.
    pub(crate) weight: Slice,
    pub(crate) cols: usize,
    pub(crate) eps: f32,
}

/// Rows of activations.
#[derive(Clone, Debug)]
pub(crate) struct Activations {
    /// [rows, columns padded to 32] f32, or as bytes [rows, blocks, 12] u32, see `shaders/shared/blocks.wgsl`.
    pub(crate) rows: Slice,
    pub(crate) bytes: bool,
    /// Columns and epsilon of the norm whose division is still to come, see `shaders/shared/dot.wgsl`; one row.
    pub(crate) undivided: Option<(usize, f32)>,
}

impl Activations {
    /// The uniform's fields of a kernel that divides.
    pub(super) fn norm_params(&self) -> (u32, f32) {
        self.undivided.map_or((0, 0.0), |(cols, eps)| (super::u32_of(cols), eps))
    }
}

/// Words of a buffer that holds these rows in any form: what says the sums of squares lies behind floats.
pub(crate) fn activation_words(rows: usize, cols: usize) -> usize {
    rows * cols.next_multiple_of(32) + 4 * cols.div_ceil(32)
}
