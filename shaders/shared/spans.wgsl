// How workgroups share a token's keys: each has a tile of those that are in the cache already, the first one the token's own besides.

// Tiles of so many keys.
fn span_count(keys: u32, tile: u32) -> u32 {
    return max((keys + tile - 1u) / tile, 1u);
}
