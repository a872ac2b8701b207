//! A packed weight matrix on the GPU, split over buffers where it does not fit into one binding.

use crate::gpu::{Gpu, Shader, Slice};
use crate::packing::{GROUP_ROWS, Layout};
use crate::weights::DType;
use crate::{Error, Result};

/// Alignment of a binding within a buffer: WebGPU's guaranteed `minStorageBufferOffsetAlignment`.
pub(crate) const BINDING_ALIGNMENT: u64 = 256;

/// A stack of one or more equal matrices (experts) in the packed layout.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    /// Format, rows and columns of one matrix of the stack.
    pub(crate) layout: Layout,
    /// The pieces, in order, which together hold all groups of the stack.
    pub(crate) parts: Vec<Part>,
    /// Groups that a piece may have on this device.
    pub(crate) most_groups: usize,
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

/// One of the two arrays of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Array {
    Quants,
    Side,
}

impl Matrix {
    /// Room for a stack of `count` matrices, in as few buffers as the device allows.
    ///
    /// # Errors
    /// The device has no memory for it, or its bindings are too small for 32 rows.
    pub(crate) fn allocate(gpu: &Gpu, label: &'static str, layout: Layout, count: usize) -> Result<Self> {
        let (quants_bytes, side_bytes) = (4 * layout.group_quants() as u64, 4 * layout.group_side() as u64);
        let caps = gpu.caps();
        let by_binding = caps.max_binding_bytes / quants_bytes.max(side_bytes);
        let by_buffer = caps.max_buffer_bytes.saturating_sub(BINDING_ALIGNMENT) / (quants_bytes + side_bytes);
        let most = usize::try_from(by_binding.min(by_buffer)).unwrap_or(usize::MAX);
        if most == 0 {
            let needed = quants_bytes.max(side_bytes);
            return Err(Error::Adapter(format!(
                "32 rows of {label} take {needed} bytes, more than the adapter's largest binding of {}",
                caps.max_binding_bytes
            )));
        }
        // Parts are cut between the matrices of the stack where one fits: then no kernel has to look for its rows in two.
        let one = layout.groups();
        let most = if most < one { most } else { most / one * one };
        let groups = one * count;
        let part = |first_group: usize| {
            let end_group = (first_group + most).min(groups);
            let count = (end_group - first_group) as u64;
            let side_at = (count * quants_bytes).next_multiple_of(BINDING_ALIGNMENT);
            let buffer = gpu.buffer(label, side_at + count * side_bytes)?;
            let quants = buffer.slice(0, count * quants_bytes);
            let side = (side_bytes > 0).then(|| buffer.slice(side_at, count * side_bytes));
            Ok(Part { first_group, end_group, quants, side })
        };
        Ok(Self { layout, parts: (0..groups).step_by(most).map(part).collect::<Result<_>>()?, most_groups: most })
    }

    /// One matrix of a stack that is a single part, by itself. It has to begin where a binding may.
    #[must_use]
    pub(crate) fn one(&self, index: usize) -> Self {
        let groups = self.layout.groups();
        let part = self.parts.first().map(|part| {
            let cut = |slice: &Slice, words: usize| slice.words(index * groups * words, groups * words);
            let quants = cut(&part.quants, self.layout.group_quants());
            let side = part.side.as_ref().map(|side| cut(side, self.layout.group_side()));
            Part { first_group: 0, end_group: groups, quants, side }
        });
        Self { parts: part.into_iter().collect(), ..*self }
    }

    /// Writes bytes of one of the two arrays, from byte `at` of the stack's array on. Both are multiples of 4.
    pub(crate) fn write(&self, gpu: &Gpu, array: Array, at: u64, bytes: &[u8]) {
        let group_bytes = match array {
            Array::Quants => 4 * self.layout.group_quants() as u64,
            Array::Side => 4 * self.layout.group_side() as u64,
        };
        let end = at + bytes.len() as u64;
        for part in &self.parts {
            let slice = if array == Array::Quants { Some(&part.quants) } else { part.side.as_ref() };
            let (first, behind) = (part.first_group as u64 * group_bytes, part.end_group as u64 * group_bytes);
            let (from, to) = (at.max(first), end.min(behind));
            if let Some(slice) = slice.filter(|_| from < to) {
                gpu.write_slice(slice, from - first, &bytes[(from - at) as usize..(to - at) as usize]);
            }
        }
    }

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

/// The variant of a shader that multiplies this format with floats, or with signed `bytes`: two at a time (`swar`) if the
/// format's own bytes have no sign, or four with WGSL's own product.
pub(super) fn for_product(shader: Shader, dtype: DType, bytes: bool, swar: bool) -> Shader {
    let unsigned = !matches!(dtype, DType::Q8_0 | DType::Q6K);
    for_format(shader, dtype).with_if(bytes, "i8").with_if(bytes && swar && unsigned, "swar")
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
