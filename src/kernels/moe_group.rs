//! Grouping (token, rank) pairs by expert, so that a tile of them shares its weights.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { pairs: u32, experts: u32, tile: u32, tiles: u32, table_at: u32 }

/// The most experts that the routing kernels' workgroup memory holds.
pub(crate) const MAX_EXPERTS: usize = 1024;

/// Tiles of `tile` pairs that `pairs` pairs can need: each expert's last tile may be partly empty.
pub(crate) fn max_tiles(pairs: usize, experts: usize, tile: usize) -> usize {
    pairs / tile + experts.min(pairs)
}

/// Operands of [`moe_group`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupSlices<'a> {
    /// [pairs] expert ids.
    pub(crate) ids: &'a Slice,
    /// Slots of the experts, and where the layer's begin in it.
    pub(crate) table: (&'a Slice, usize),
    /// [tiles] slots.
    pub(crate) tile_expert: &'a Slice,
    /// [tiles, tile].
    pub(crate) tile_pairs: &'a Slice,
}

/// Groups the pairs of experts that the table knows.
pub(crate) fn moe_group(r: &mut Recorder, slices: &GroupSlices<'_>, pairs: usize, experts: usize, tile: usize) {
    let (table, table_at) = slices.table;
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params {
            pairs: u32_of(pairs),
            experts: u32_of(experts),
            tile: u32_of(tile),
            tiles: u32_of(max_tiles(pairs, experts, tile)),
            table_at: u32_of(table_at),
        }
        .bytes(),
        bindings: vec![
            (1, slices.ids.clone()),
            (2, slices.tile_expert.clone()),
            (3, slices.tile_pairs.clone()),
            (4, table.clone()),
        ],
        groups: [1, 1, 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("moe_group")
}
