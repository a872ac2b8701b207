//! Which kernel computes a matrix product. Measured per adapter (see `tuning`), never derived from its name.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::matrix::for_product;
use crate::gpu::Shader;
use crate::weights::DType;

/// The kernel for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matvec {
    /// Eight lanes hold the rows of a group; f32 activations. Runs everywhere and is the yardstick of the others.
    Rows,
    /// The same with bytes: activations quantised in blocks of 32.
    RowsBytes,
    /// The same with four lanes, and bytes multiplied in place as floats: for drivers that compute with so many at a time and
    /// have no shifts for them.
    QuadsBytes,
    /// Several lanes share a row; f32 activations.
    Cooperative,
    /// The same with bytes.
    CooperativeBytes,
}

/// The kernel for many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matmul {
    /// A lane holds whole rows for a few tokens; f32 activations.
    Rows,
    /// The same with bytes.
    RowsBytes,
    /// The same with four lanes, and bytes multiplied in place as floats.
    QuadsBytes,
    /// Tiles of weights and activations in workgroup memory; f32 activations.
    Tiled,
}

impl Matvec {
    pub(crate) const ALL: [Self; 5] = [Self::Rows, Self::RowsBytes, Self::QuadsBytes, Self::Cooperative, Self::CooperativeBytes];

    pub(crate) fn bytes(self) -> bool {
        matches!(self, Self::RowsBytes | Self::QuadsBytes | Self::CooperativeBytes)
    }

    /// The variant of a shader with this kernel's lanes, and with what they multiply.
    pub(super) fn variant(self, shader: Shader, dtype: DType, bytes: bool) -> Shader {
        let cooperative = matches!(self, Self::Cooperative | Self::CooperativeBytes);
        let quads = bytes && self == Self::QuadsBytes;
        in_quads(for_product(shader.with_if(cooperative, "cooperative"), dtype, bytes, !cooperative && !quads), quads)
    }
}

impl Matmul {
    pub(crate) const ALL: [Self; 4] = [Self::Rows, Self::RowsBytes, Self::QuadsBytes, Self::Tiled];

    pub(crate) fn bytes(self) -> bool {
        matches!(self, Self::RowsBytes | Self::QuadsBytes)
    }

    /// The variant of a shader with what this kernel multiplies.
    pub(super) fn shader(self, dtype: DType, bytes: bool) -> Shader {
        let source = if self == Self::Tiled { "matmul_tiled" } else { "matmul" };
        let quads = bytes && self == Self::QuadsBytes;
        in_quads(for_product(Shader::new(source), dtype, bytes, !quads), quads)
    }

    /// Groups of rows that a workgroup computes.
    pub(super) fn groups(self) -> usize {
        if self == Self::Tiled { 2 } else { 1 }
    }

    /// Tokens, or (token, rank) pairs, that a workgroup computes.
    pub(crate) fn tile(self) -> usize {
        if self == Self::Tiled { 32 } else { 4 }
    }
}

/// Four lanes, and bytes multiplied in place as floats, if `quads`.
fn in_quads(shader: Shader, quads: bool) -> Shader {
    shader.with_if(quads, "quads").with_if(quads, "in_place")
}

/// Which kernels compute matrix products: what measuring them on an adapter comes to.
///
/// It can be serialised, to be kept and handed in again as [`Tuning::Known`](crate::Tuning::Known). Every choice is right for every
/// model; which one is fast differs by adapter, weight format and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelChoice {
    pub(crate) matvec: Matvec,
    pub(crate) matmul: Matmul,
    /// Whether one token's products do what follows them too (`gated`, `residual`). It saves kernels and costs barriers.
    pub(crate) fused: bool,
}

impl fmt::Display for Matvec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "rows, f32",
            Self::RowsBytes => "rows, bytes",
            Self::QuadsBytes => "rows of four lanes, bytes",
            Self::Cooperative => "cooperative, f32",
            Self::CooperativeBytes => "cooperative, bytes",
        })
    }
}

impl fmt::Display for Matmul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "rows, f32",
            Self::RowsBytes => "rows, bytes",
            Self::QuadsBytes => "rows of four lanes, bytes",
            Self::Tiled => "tiled, f32",
        })
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fused = if self.fused { "fused" } else { "separate" };
        write!(f, "matvec: {}, {fused}; matmul: {}", self.matvec, self.matmul)
    }
}

impl KernelChoice {
    /// The kernels that run well on slow and on small adapters, with f32 activations.
    pub(crate) const PLAIN: Self = Self { matvec: Matvec::Rows, matmul: Matmul::Rows, fused: true };

    /// Every choice that measuring may come to.
    pub fn all() -> impl Iterator<Item = Self> {
        let matvecs = || Matvec::ALL.into_iter().flat_map(|matvec| [true, false].map(|fused| (matvec, fused)));
        let with = move |matmul| matvecs().map(move |(matvec, fused)| Self { matvec, matmul, fused });
        Matmul::ALL.into_iter().flat_map(with)
    }

    /// Whether activations are rounded to bytes anywhere, which [`Precision::Exact`](crate::Precision::Exact) rules out.
    #[must_use]
    pub fn uses_bytes(&self) -> bool {
        self.matvec.bytes() || self.matmul.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_kept_as_text() {
        for choice in KernelChoice::all() {
            let text = serde_json::to_string(&choice).unwrap();
            assert_eq!(serde_json::from_str::<KernelChoice>(&text).unwrap(), choice, "{text}");
        }
        assert_eq!(KernelChoice::all().count(), 5 * 4 * 2);
        for wrong in
            [r#"{}"#, r#"{"matvec":"fast","matmul":"rows","fused":true}"#, r#"{"matvec":"rows","matmul":"rows","fused":1}"#]
        {
            assert!(serde_json::from_str::<KernelChoice>(wrong).is_err(), "{wrong}");
        }
    }
}
