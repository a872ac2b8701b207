//! Which kernel computes a matrix product. Measured per adapter (see `tuning`), never derived from its name.

use std::fmt;

/// The kernel for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// All choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KernelChoice {
    pub(crate) matvec: Matvec,
    pub(crate) matmul: Matmul,
    /// Whether one token's products do what follows them too (`gated`, `residual`). It saves kernels and costs barriers.
    pub(crate) fused: bool,
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matvec = match self.matvec {
            Matvec::Rows => "rows, f32",
            Matvec::RowsBytes => "rows, bytes",
            Matvec::Cooperative => "cooperative, f32",
            Matvec::CooperativeBytes => "cooperative, bytes",
        };
        let matmul = match self.matmul {
            Matmul::Rows => "rows, f32",
            Matmul::RowsBytes => "rows, bytes",
            Matmul::Tiled => "tiled, f32",
        };
        let fused = if self.fused { "fused" } else { "separate" };
        write!(f, "matvec: {matvec}, {fused}; matmul: {matmul}")
    }
}

impl KernelChoice {
    /// The kernels that run well on slow and on small adapters, with f32 activations.
    pub(crate) const PLAIN: Self = Self { matvec: Matvec::Rows, matmul: Matmul::Rows, fused: true };
}
