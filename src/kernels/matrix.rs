//! A packed weight matrix on the GPU, split over buffers where it does not fit into one binding.

use crate::gpu::{Shader, Slice};
use crate::packing::{GROUP_ROWS, Layout};
use crate::weights::DType;

/// A stack of one or more equal matrices (experts) in the packed layout.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    /// Format, rows and columns of one matrix of the stack.
    pub(crate) layout: Layout,
    /// The pieces, in order, which together hold all groups of the stack.
    pub(crate) parts: Vec<Part>,
}

/// A run of groups in one buffer.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Groups of the stack before this part.
    pub(crate) first_group: usize,
    /// First group behind this part.
    pub(crate) end_group: usize,
    pub(crate) quants: Slice,
    /// Absent for float formats.
    pub(crate) side: Option<Slice>,
}

impl Matrix {
    /// Bytes that computing with the whole of one matrix of the stack reads.
    pub(super) fn bytes_of_one(&self) -> u64 {
        self.layout.bytes()
    }
}

impl Part {
    pub(super) fn bindings(&self) -> Vec<(u32, Slice)> {
        let side = self.side.iter().map(|s| (2, s.clone()));
        std::iter::once((1, self.quants.clone())).chain(side).collect()
    }

    /// Rows of a single matrix before this part, and the first row behind it.
    pub(super) fn rows(&self) -> (usize, usize) {
        (self.first_group * GROUP_ROWS, self.end_group * GROUP_ROWS)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.quants.size() + self.side.as_ref().map_or(0, Slice::size)
    }
}

/// Whether a format is blocks of integers, which can be multiplied as bytes.
pub(crate) fn is_quantized(dtype: DType) -> bool {
    !matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// The variant of a shader that decodes this format.
pub(super) fn for_format(shader: Shader, dtype: DType) -> Shader {
    let conditions: &[_] = match dtype {
        DType::F32 => &["f32"],
        DType::F16 => &["f16"],
        DType::BF16 => &["bf16"],
        DType::Q8_0 => &["quantized", "q8_0"],
        DType::Q4_0 => &["quantized", "q4_0"],
        DType::Q4_1 => &["quantized", "q4_1"],
        DType::Q5_0 => &["quantized", "q5_0"],
        DType::Q5_1 => &["quantized", "q5_1"],
        DType::Q4K => &["quantized", "q4_k"],
        DType::Q5K => &["quantized", "q5_k"],
        DType::Q6K => &["quantized", "q6_k"],
    };
    conditions.iter().fold(shader, |shader, condition| shader.with(condition))
}
