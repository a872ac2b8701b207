/// Marks an empty place in a tile.
pub(crate) const NONE: u32 = u32::MAX;

/// The pairs 0..ids.len() sorted by expert, in their own order within an expert, and cut into tiles of `tile` pairs:
/// (expert, pairs) of each tile. The last tile of an expert is filled up with [`NONE`].
pub(crate) fn moe_group(ids: &[u32], experts: u32, tile: usize) -> Vec<(u32, Vec<u32>)> {
    let mut tiles = Vec::new();
    for expert in 0..experts {
        let pairs: Vec<u32> = (0..ids.len() as u32).filter(|&p| ids[p as usize] == expert).collect();
        for pairs in pairs.chunks(tile) {
            let mut pairs = pairs.to_vec();
            pairs.resize(tile, NONE);
            tiles.push((expert, pairs));
        }
    }
    tiles
}
