//! What the KV cache holds.

use serde::{Deserialize, Serialize};

use crate::gpu::Shader;

/// The form of keys and values in the cache, named as llama.cpp's `-ctk` and `-ctv` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    /// Floats of 32 bits.
    F32,
    /// Floats of 16 bits.
    F16,
    /// Bytes in blocks of 32, each with its largest magnitude / 127 as an f32 scale (Q8_0 of ggml, whose scale is an f16). Heads
    /// must be of a multiple of 32 dimensions.
    Q8,
}

/// Elements of a block of bytes.
const BLOCK: usize = 32;

impl KvType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8];

    /// Positions whose scales, and then their rows of bytes, lie together.
    pub(crate) const TOGETHER: usize = 8;

    /// Its name in options: `f32`, `f16` or `q8`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
        }
    }

    /// Bytes of the keys or the values of one head at so many positions.
    #[must_use]
    pub fn bytes(self, head_dim: usize, positions: usize) -> u64 {
        // No usize: in a browser that has 32 bits.
        let (dim, block, positions, together) = (head_dim as u64, BLOCK as u64, positions as u64, Self::TOGETHER as u64);
        match self {
            Self::F32 => 4 * dim * positions,
            // Rows are whole vectors of sixteen bytes.
            Self::F16 => 16 * dim.div_ceil(8) * positions,
            Self::Q8 => (dim + 4 * dim.div_ceil(block)) * positions.next_multiple_of(together),
        }
    }

    /// Whether it can hold heads of so many dimensions.
    #[must_use]
    pub fn holds(self, head_dim: usize) -> bool {
        self != Self::Q8 || head_dim.is_multiple_of(BLOCK)
    }

    /// The variant of a shader that reads or writes it.
    pub(super) fn variant(self, shader: Shader) -> Shader {
        shader.with_if(self == Self::F32, "kv_f32").with_if(self == Self::Q8, "kv_q8")
    }
}

impl std::fmt::Display for KvType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for KvType {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        let found = Self::ALL.into_iter().find(|kv| kv.name() == name);
        found.ok_or_else(|| crate::Error::Request(format!("the KV cache cannot be {name:?}; there are f32, f16 and q8")))
    }
}
