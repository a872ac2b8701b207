//! The element formats that the kernels compute with.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How the elements of a tensor are stored.
///
/// The packed formats are those of ggml: a row is a whole number of blocks of [`block_len`]
/// elements, each [`block_bytes`] long, little endian throughout (`ggml-common.h` has the layouts).
///
/// [`block_len`]: DType::block_len
/// [`block_bytes`]: DType::block_bytes
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 8-bit integers with an f16 scale for 32 elements.
    Q8_0,
    /// 4-bit integers minus 8 with an f16 scale for 32 elements.
    Q4_0,
    /// 4-bit integers with an f16 scale and minimum for 32 elements.
    Q4_1,
    /// 5-bit integers minus 16 with an f16 scale for 32 elements.
    Q5_0,
    /// 5-bit integers with an f16 scale and minimum for 32 elements.
    Q5_1,
    /// 4-bit integers; 6-bit scales and minima for 32 elements, f16 factors of those for 256.
    #[serde(rename = "Q4_K")]
    Q4K,
    /// 5-bit integers; 6-bit scales and minima for 32 elements, f16 factors of those for 256.
    #[serde(rename = "Q5_K")]
    Q5K,
    /// 6-bit integers minus 32; 8-bit scales for 16 elements, an f16 factor of those for 256.
    #[serde(rename = "Q6_K")]
    Q6K,
}

impl DType {
    /// Every format, in the order in which messages list them.
    pub const ALL: [DType; 11] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
    ];

    /// Elements in one block; 1 for the formats that have none.
    pub const fn block_len(self) -> usize {
        match self {
            DType::F32 | DType::F16 | DType::BF16 => 1,
            DType::Q8_0 | DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 => 32,
            DType::Q4K | DType::Q5K | DType::Q6K => 256,
        }
    }

    /// Bytes in one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Q8_0 => 34,
            DType::Q4_0 => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q4K => 144,
            DType::Q5K => 176,
            DType::Q6K => 210,
        }
    }

    /// The name as GGUF spells it, for example `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            DType::Q8_0 => "Q8_0",
            DType::Q4_0 => "Q4_0",
            DType::Q4_1 => "Q4_1",
            DType::Q5_0 => "Q5_0",
            DType::Q5_1 => "Q5_1",
            DType::Q4K => "Q4_K",
            DType::Q5K => "Q5_K",
            DType::Q6K => "Q6_K",
        }
    }

    /// The bytes that `elements` elements take, or `None` if they are not a whole number of blocks
    /// or do not fit into 64 bits.
    pub const fn bytes_for(self, elements: u64) -> Option<u64> {
        let block = self.block_len() as u64;
        if !elements.is_multiple_of(block) {
            return None;
        }
        (elements / block).checked_mul(self.block_bytes() as u64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
