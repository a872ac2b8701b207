//! Which kernel computes a matrix product. Measured per adapter (see `tuning`), never derived from its name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kernel for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matvec {
    /// A lane holds whole rows; f32 activations. Runs everywhere and is the yardstick of the others.
    Rows,
    /// The same with bytes: activations quantised in blocks of 32.
    RowsBytes,
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
    /// Tiles of weights and activations in workgroup memory; f32 activations.
    Tiled,
}

impl Matvec {
    pub(crate) const ALL: [Self; 4] = [Self::Rows, Self::RowsBytes, Self::Cooperative, Self::CooperativeBytes];

    pub(crate) fn bytes(self) -> bool {
        matches!(self, Self::RowsBytes | Self::CooperativeBytes)
    }

    pub(super) fn cooperative(self) -> bool {
        matches!(self, Self::Cooperative | Self::CooperativeBytes)
    }

    /// Groups of rows that a workgroup computes.
    pub(super) fn groups(self) -> usize {
        if self.cooperative() { 1 } else { 4 }
    }

    /// Groups of rows of gate, and as many of up, that a workgroup of `gated` computes.
    pub(super) fn gated_groups(self) -> usize {
        if self.cooperative() { 1 } else { 2 }
    }
}

impl Matmul {
    pub(crate) const ALL: [Self; 3] = [Self::Rows, Self::RowsBytes, Self::Tiled];

    pub(crate) fn bytes(self) -> bool {
        self == Self::RowsBytes
    }

    pub(super) fn source(self) -> &'static str {
        if self == Self::Tiled { "matmul_tiled" } else { "matmul" }
    }

    /// Groups of rows that a workgroup computes, with activations as bytes or floats.
    pub(super) fn groups(self, bytes: bool) -> usize {
        if bytes { 6 } else { 2 }
    }

    /// Tokens, or (token, rank) pairs, that a workgroup computes.
    pub(crate) fn tile(self) -> usize {
        if self == Self::Tiled { 32 } else { 4 }
    }
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
        assert_eq!(KernelChoice::all().count(), 24);
        for wrong in
            [r#"{}"#, r#"{"matvec":"fast","matmul":"rows","fused":true}"#, r#"{"matvec":"rows","matmul":"rows","fused":1}"#]
        {
            assert!(serde_json::from_str::<KernelChoice>(wrong).is_err(), "{wrong}");
        }
    }
}
