// How workgroups share a token's keys: each has a tile of those that are in the cache already, the first one the token's own besides.

// How many tiles so many keys are.
fn span_count(keys: u32, tile: u32) -> u32 {
    return max((keys + tile - 1u) / tile, 1u);
}

// The position from which on a token's keys are divided: of the chunk that it is in, and a multiple of eight as the cache may want it.
// `chunk` 0: all positions are one.
fn span_origin(position: u32, chunk: u32) -> u32 {
    if chunk == 0u { return 0u; }
    return position / chunk * chunk / 8u * 8u;
}
