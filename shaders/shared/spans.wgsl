// How workgroups share a token's keys. Those that are in the cache already are cut into tiles, which are dealt out to the spans in
// turn, so that all have much the same to do at any position. The first span has the token's own key besides.

const TILE: u32 = 512u;

// Spans that have something to do for a token with so many keys in the cache.
fn span_count(keys: u32, spans: u32) -> u32 {
    return clamp((keys + TILE - 1u) / TILE, 1u, spans);
}
