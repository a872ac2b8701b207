//! Which kernel computes a matrix product. Measured per adapter (see `tuning`), never derived from its name.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::matrix::for_product;
use super::moe_group::max_tiles;
use super::rms_norm::Normed;
use crate::gpu::{Caps, HALVES, MATRICES, SUBGROUPS, Shader};
use crate::weights::DType;

/// The kernel for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matvec {
    /// Eight lanes hold the rows of a group; f32 activations. Runs everywhere and is the yardstick of the others.
    Rows,
    /// The same with bytes: activations quantised in blocks of 32.
    RowsBytes,
    /// The same with four lanes and more rows, and bytes multiplied in place as floats: for drivers that compute with so many at a
    /// time and have no shifts for them.
    QuadsBytes,
    /// Several lanes share a row; f32 activations.
    Cooperative,
    /// The same with bytes.
    CooperativeBytes,
    /// More lanes share several rows and add up within subgroups, on devices that have these; f32 activations.
    Subgroups,
    /// The same with bytes.
    SubgroupsBytes,
}

/// The kernel for many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matmul {
    /// A lane holds whole rows for a few tokens; f32 activations.
    Rows,
    /// The same with bytes.
    RowsBytes,
    /// The same with four lanes, more rows and more tokens, and without shifts.
    QuadsBytes,
    /// Tiles of weights and activations in workgroup memory; f32 activations.
    Tiled,
    /// The same with bytes.
    TiledBytes,
    /// The same with 16-bit floats, on devices that compute with them.
    TiledHalves,
    /// The same on the matrix units of devices that multiply matrices of 8 by 8.
    MatrixUnits8,
    /// Of 16 by 16.
    MatrixUnits16,
    /// Of 16 by 16, each subgroup computing twice as much: for subgroups of 64 lanes.
    MatrixUnits16Wide,
}

impl Matvec {
    pub(crate) const ALL: [Self; 7] = [
        Self::Rows,
        Self::RowsBytes,
        Self::QuadsBytes,
        Self::Cooperative,
        Self::CooperativeBytes,
        Self::Subgroups,
        Self::SubgroupsBytes,
    ];

    /// Those that a device can run.
    pub(crate) fn on(caps: &Caps) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.lacks(caps).is_none())
    }

    /// What the kernel needs and a device has not.
    fn lacks(self, caps: &Caps) -> Option<&'static str> {
        (self.in_subgroups() && !caps.subgroups).then_some("subgroups")
    }

    pub(crate) fn bytes(self) -> bool {
        matches!(self, Self::RowsBytes | Self::QuadsBytes | Self::CooperativeBytes | Self::SubgroupsBytes)
    }

    fn in_subgroups(self) -> bool {
        matches!(self, Self::Subgroups | Self::SubgroupsBytes)
    }

    /// Whether products of bytes, or of floats, are those of four lanes.
    pub(super) fn in_quads(self, bytes: bool) -> bool {
        bytes && self == Self::QuadsBytes
    }

    /// The variant of a shader with this kernel's lanes, and with what they multiply.
    pub(super) fn variant(self, shader: Shader, dtype: DType, bytes: bool) -> Shader {
        let cooperative = matches!(self, Self::Cooperative | Self::CooperativeBytes);
        let quads = self.in_quads(bytes);
        let shader = shader.with_if(cooperative, "cooperative").with_if(self.in_subgroups(), SUBGROUPS);
        for_product(shader, dtype, bytes, !cooperative && !self.in_subgroups() && !quads).with_if(quads, QUADS)
    }
}

impl Matmul {
    pub(crate) const ALL: [Self; 9] = [
        Self::Rows,
        Self::RowsBytes,
        Self::QuadsBytes,
        Self::Tiled,
        Self::TiledBytes,
        Self::TiledHalves,
        Self::MatrixUnits8,
        Self::MatrixUnits16,
        Self::MatrixUnits16Wide,
    ];

    /// Those that a device can run.
    pub(crate) fn on(caps: &Caps) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.lacks(caps).is_none())
    }

    /// What the kernel needs and a device has not.
    fn lacks(self, caps: &Caps) -> Option<&'static str> {
        match self {
            Self::TiledHalves if !caps.f16 => Some("16-bit floats in shaders"),
            Self::MatrixUnits8 if caps.matrix_units != Some(8) => Some("matrix units of 8 by 8"),
            Self::MatrixUnits16 | Self::MatrixUnits16Wide if caps.matrix_units != Some(16) => Some("matrix units of 16 by 16"),
            Self::MatrixUnits16Wide if caps.subgroup_size.1 < 64 => Some("subgroups of 64 lanes"),
            _ => None,
        }
    }

    /// Whether it rounds weights and activations to 16-bit floats.
    pub(crate) fn halves(self) -> bool {
        matches!(self, Self::TiledHalves | Self::MatrixUnits8 | Self::MatrixUnits16 | Self::MatrixUnits16Wide)
    }

    /// Whether it multiplies other activations than it is given.
    pub(crate) fn rounds(self) -> bool {
        self.bytes() || self.halves()
    }

    pub(crate) fn bytes(self) -> bool {
        matches!(self, Self::RowsBytes | Self::QuadsBytes | Self::TiledBytes)
    }

    fn tiled(self) -> bool {
        matches!(self, Self::Tiled | Self::TiledBytes) || self.halves()
    }

    /// The shader with what this kernel multiplies, `bytes` or floats.
    pub(super) fn shader(self, dtype: DType, bytes: bool) -> Shader {
        let [of_8, of_16] = MATRICES;
        let shader = match self {
            _ if self.in_quads(bytes) => Shader::new("matmul_quads").with(QUADS),
            Self::Rows | Self::RowsBytes | Self::QuadsBytes => Shader::new("matmul"),
            Self::Tiled | Self::TiledBytes => Shader::new("matmul_tiled"),
            Self::TiledHalves => Shader::new("matmul_tiled").with(HALVES),
            Self::MatrixUnits8 => Shader::new("matmul_matrix_units").with(of_8),
            Self::MatrixUnits16 => Shader::new("matmul_matrix_units").with(of_16),
            Self::MatrixUnits16Wide => Shader::new("matmul_matrix_units").with(of_16).with("wide"),
        };
        for_product(shader, dtype, bytes, !self.tiled() && !self.in_quads(bytes))
    }

    /// Whether products of bytes, or of floats, are those of four lanes.
    pub(super) fn in_quads(self, bytes: bool) -> bool {
        bytes && self == Self::QuadsBytes
    }

    /// Groups of rows that a workgroup computes, but in four lanes.
    pub(super) fn groups(self) -> usize {
        if self.tiled() { 2 } else { 1 }
    }

    /// Tokens that a workgroup computes, of products of bytes or of floats.
    pub(super) fn tile(self, bytes: bool) -> usize {
        match self {
            _ if self.in_quads(bytes) => 6,
            _ if self.tiled() => WIDE_TILE,
            _ => ROWS_TILE,
        }
    }

    /// (token, rank) pairs that a workgroup computes, where so many choose among `experts`: tiles that most experts fill, or smaller
    /// ones. It follows from what is computed alone and not from who is on the GPU.
    pub(crate) fn expert_tile(self, pairs: usize, experts: usize) -> usize {
        match self.tiled() {
            true if pairs < WIDE_TILE * experts => SMALL_TILE,
            true => WIDE_TILE,
            false => ROWS_TILE,
        }
    }

    /// Whether tiles of so many pairs are the smaller ones.
    pub(super) fn has_small_tiles(self, pairs: usize) -> bool {
        self.tiled() && pairs < WIDE_TILE
    }

    /// Words of the lists of tiles and of their pairs that any number of pairs, up to this, may need.
    pub(crate) fn tile_words(self, pairs: usize, experts: usize) -> (usize, usize) {
        let sizes = [self.expert_tile(usize::MAX, experts), self.expert_tile(0, experts)]
            .map(|tile| (max_tiles(pairs, experts, tile), tile));
        let tiles = sizes.iter().map(|(tiles, _)| *tiles).max().unwrap_or(0);
        (tiles, sizes.iter().map(|(tiles, tile)| tiles * tile).max().unwrap_or(0))
    }
}

/// The condition of shapes of four lanes.
pub(super) const QUADS: &str = "quads";

/// The most groups of rows that a workgroup of `matvec_quads` or `matmul_quads` computes.
const QUADS_GROUPS: usize = 12;
/// Workgroups that each get as much to do as another, before they get more: for the processors that share them.
const QUADS_WORKGROUPS: usize = 8;

/// Groups of rows that a workgroup of `matvec_quads` or `matmul_quads` computes where there are so many of them, for so many tokens or
/// tiles: many, which share what is made of activations, but not so many that processors wait for one of them.
pub(super) fn quads_groups(groups: usize, tiles: usize) -> usize {
    let most = (groups * tiles).div_ceil(QUADS_WORKGROUPS).clamp(1, QUADS_GROUPS);
    groups.div_ceil(groups.div_ceil(most).max(1)).max(1)
}

/// Tokens of a tile in workgroup memory, and those of one with the condition `few`.
const WIDE_TILE: usize = 64;
const SMALL_TILE: usize = 16;

/// (token, rank) pairs of a workgroup whose lanes hold whole rows, and its tokens but in `matmul_quads`.
const ROWS_TILE: usize = 4;

/// Which kernels compute matrix products and attention of prompts: what measuring them on an adapter comes to.
///
/// It can be serialised, to be kept and handed in again as [`Tuning::Known`](crate::Tuning::Known). Every choice is right for every
/// model, but that 16-bit floats (`tiled, f16` and matrix units) clamp activations beyond 65,504; which one is fast differs by
/// adapter, weight format and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelChoice {
    pub(crate) matvec: Matvec,
    pub(crate) matmul: Matmul,
    /// Whether one token's products do what follows them too (`gated`, `residual`). It saves kernels and costs barriers.
    pub(crate) fused: bool,
    /// Whether a lane computes four rows of a prompt's attention, and not one. It loads less and needs four times the registers.
    pub(crate) four_rows: bool,
}

impl fmt::Display for Matvec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "rows, f32",
            Self::RowsBytes => "rows, bytes",
            Self::QuadsBytes => "rows of four lanes, bytes",
            Self::Cooperative => "cooperative, f32",
            Self::CooperativeBytes => "cooperative, bytes",
            Self::Subgroups => "subgroups, f32",
            Self::SubgroupsBytes => "subgroups, bytes",
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
            Self::TiledBytes => "tiled, bytes",
            Self::TiledHalves => "tiled, f16",
            Self::MatrixUnits8 => "matrix units of 8, f16",
            Self::MatrixUnits16 => "matrix units of 16, f16",
            Self::MatrixUnits16Wide => "matrix units of 16, 64 lanes, f16",
        })
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fused = if self.fused { "fused" } else { "separate" };
        write!(f, "matvec: {}, {fused}; matmul: {}; attention: {}", self.matvec, self.matmul, self.attention_name())
    }
}

impl KernelChoice {
    /// The kernels that run well on slow and on small adapters, with f32 activations.
    pub(crate) const PLAIN: Self = Self { matvec: Matvec::Rows, matmul: Matmul::Rows, fused: true, four_rows: false };

    /// Choices in which each kernel that a device can run occurs: for one token, for what follows its products by itself, with floats
    /// and with bytes, for several tokens, and for their attention.
    pub fn each(caps: &Caps) -> Vec<Self> {
        let one = Matvec::on(caps).map(|matvec| Self { matvec, ..Self::PLAIN });
        let separate = [Matvec::Rows, Matvec::RowsBytes].map(|matvec| Self { matvec, fused: false, ..Self::PLAIN });
        let several = Matmul::on(caps).filter(|&matmul| matmul != Self::PLAIN.matmul);
        let several = several.map(|matmul| Self { matmul, ..Self::PLAIN });
        one.chain(separate).chain(several).chain([Self { four_rows: true, ..Self::PLAIN }]).collect()
    }

    /// The kernel for attention of prompts, in words.
    pub(crate) fn attention_name(self) -> &'static str {
        if self.four_rows { "four rows" } else { "one row" }
    }

    /// How norms make bytes: with the lanes of the products of one token, whatever they are for, so that a row is the same in any
    /// company.
    pub(crate) fn bytes_of_norms(self) -> Normed {
        if self.matvec.in_quads(true) { Normed::BytesInQuads } else { Normed::Bytes }
    }

    /// For products of floats that must not be rounded. Kernels of bytes are not asked for them.
    pub(crate) fn unrounded(self) -> Self {
        if self.matmul.halves() { Self { matmul: Matmul::Tiled, ..self } } else { self }
    }

    /// What its kernels need and a device has not, in words.
    #[must_use]
    pub fn lacks(&self, caps: &Caps) -> Option<&'static str> {
        self.matvec.lacks(caps).or_else(|| self.matmul.lacks(caps))
    }

    /// Whether activations are rounded, to bytes or to 16-bit floats, anywhere, which [`Precision::Exact`](crate::Precision::Exact)
    /// rules out.
    #[must_use]
    pub fn rounds_activations(&self) -> bool {
        self.matvec.bytes() || self.matmul.rounds()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn caps(optional: bool, matrix_units: Option<u32>, lanes: u32) -> Caps {
        Caps {
            f16: optional,
            subgroups: optional,
            matrix_units,
            subgroup_size: (32, lanes),
            timestamps: false,
            max_binding_bytes: 0,
            max_buffer_bytes: 0,
            max_workgroup_invocations: 0,
            max_workgroups_per_dimension: 0,
        }
    }

    #[test]
    fn a_choice_is_kept_as_text() {
        for choice in KernelChoice::each(&caps(true, Some(16), 64)) {
            let text = serde_json::to_string(&choice).unwrap();
            assert_eq!(serde_json::from_str::<KernelChoice>(&text).unwrap(), choice, "{text}");
        }
        for wrong in [
            r#"{}"#,
            r#"{"matvec":"fast","matmul":"rows","fused":true,"four_rows":true}"#,
            r#"{"matvec":"rows","matmul":"rows","fused":true}"#,
        ] {
            assert!(serde_json::from_str::<KernelChoice>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn workgroups_of_four_lanes_share_rows_evenly() {
        assert_eq!([1, 8, 9, 18, 30, 96, 1536].map(|groups| quads_groups(groups, 1)), [1, 1, 2, 3, 4, 12, 12]);
        assert_eq!([1, 8, 9, 18, 30, 96, 1536].map(|groups| quads_groups(groups, 8)), [1, 8, 9, 9, 10, 12, 12]);
        assert_eq!([quads_groups(0, 1), quads_groups(1, 0), quads_groups(0, 0)], [1; 3]);
    }

    #[test]
    fn each_kernel_occurs_where_it_can_run() {
        for (caps, matvecs, matmuls) in [
            (caps(false, None, 32), 5, 5),
            (caps(true, None, 64), 7, 6),
            (caps(true, Some(8), 64), 7, 7),
            (caps(true, Some(16), 32), 7, 7),
            (caps(true, Some(16), 64), 7, 8),
        ] {
            let choices = KernelChoice::each(&caps);
            let one: BTreeSet<_> = choices.iter().map(|c| (c.matvec.to_string(), c.fused)).collect();
            let several: BTreeSet<_> = choices.iter().map(|c| c.matmul.to_string()).collect();
            assert_eq!((one.len(), several.len()), (matvecs + 2, matmuls));
            assert_eq!(choices.len(), matvecs + 2 + matmuls);
            assert!(choices.iter().all(|choice| choice.lacks(&caps).is_none()));
        }
        let lacking = |from: &Caps, of: &Caps| -> BTreeSet<_> {
            KernelChoice::each(from).iter().filter_map(|choice| choice.lacks(of)).collect()
        };
        let (base, small) = (caps(false, None, 32), caps(true, Some(8), 32));
        let (large, wide) = (caps(true, Some(16), 32), caps(true, Some(16), 64));
        let expected = BTreeSet::from(["16-bit floats in shaders", "matrix units of 16 by 16", "subgroups"]);
        assert_eq!(lacking(&wide, &base), expected);
        assert_eq!(lacking(&small, &wide), BTreeSet::from(["matrix units of 8 by 8"]));
        assert_eq!(lacking(&wide, &large), BTreeSet::from(["subgroups of 64 lanes"]));
    }
}
