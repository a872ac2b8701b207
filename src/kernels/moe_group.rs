//! Grouping (token, rank) pairs by expert, so that a tile of them shares its weights.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { pairs: u32, experts: u32, tiles: u32 }

/// Pairs in a tile: the tokens that `matmul` computes together.
pub(crate) const TILE: usize = 4;
/// The most experts that the routing kernels' workgroup memory holds.
pub(crate) const MAX_EXPERTS: usize = 1024;

/// Tiles that `pairs` pairs can need: each expert's last tile may be partly empty.
pub(crate) fn max_tiles(pairs: usize, experts: usize) -> usize {
    pairs / TILE + experts.min(pairs)
}

/// `ids` [pairs] to `tile_expert` [tiles] and `tile_pairs` [tiles, TILE].
pub(crate) fn moe_group(r: &mut Recorder, ids: &Slice, tile_expert: &Slice, tile_pairs: &Slice, pairs: usize, experts: usize) {
    r.dispatch(Dispatch {
        shader: Shader::new("moe_group"),
        params: Params { pairs: u32_of(pairs), experts: u32_of(experts), tiles: u32_of(max_tiles(pairs, experts)) }.bytes(),
        bindings: vec![(1, ids.clone()), (2, tile_expert.clone()), (3, tile_pairs.clone())],
        groups: [1, 1, 1],
        weight_bytes: 0,
    });
}
