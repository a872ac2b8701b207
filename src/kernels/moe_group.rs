//! Grouping (token, rank) pairs by expert, so that a tile of them shares its weights.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { pairs: u32, experts: u32, tile: u32, tiles: u32 }

/// The most experts that the routing kernels' workgroup memory holds.
pub(crate) const MAX_EXPERTS: usize = 1024;

/// Tiles of `tile` pairs that `pairs` pairs can need: each expert's last tile may be partly empty.
pub(crate) fn max_tiles(pairs: usize, experts: usize, tile: usize) -> usize {
    pairs / tile + experts.min(pairs)
}

/// `ids` [pairs] to `tile_expert` [tiles] and `tile_pairs` [tiles, tile].
pub(crate) fn moe_group(
    r: &mut Recorder,
    ids: &Slice,
    tile_expert: &Slice,
    tile_pairs: &Slice,
    pairs: usize,
    experts: usize,
    tile: usize,
) {
    let tiles = max_tiles(pairs, experts, tile);
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { pairs: u32_of(pairs), experts: u32_of(experts), tile: u32_of(tile), tiles: u32_of(tiles) }.bytes(),
        bindings: vec![(1, ids.clone()), (2, tile_expert.clone()), (3, tile_pairs.clone())],
        groups: [1, 1, 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("moe_group")
}
