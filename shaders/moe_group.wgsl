// Sorts (token, rank) pairs by expert into tiles, in the order of the pairs, so that a tile's weights are
// read once for all of its tokens. Pairs of experts that the table calls absent get no tile: their turn comes later.
// One workgroup; each lane serves some experts.

import package::shared::guard::halted;

struct Params {
    pairs: u32,   // tokens * k
    experts: u32, // at most 1024
    tile: u32,    // pairs in a tile
    tiles: u32,   // tiles there is room for: at least pairs / tile + min(experts, pairs)
    table_at: u32, // where the layer begins in the table
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>; // [pairs] chosen expert
@group(0) @binding(2) var<storage, read_write> tile_expert: array<u32>; // [tiles] slot, NONE behind the last one
@group(0) @binding(3) var<storage, read_write> tile_pairs: array<u32>; // [tiles, tile], NONE where a tile is not full
@group(0) @binding(4) var<storage, read> table: array<u32>; // [layers, experts] slots, NONE: absent

const THREADS: u32 = 64u;
const NONE: u32 = 0xffffffffu;
var<workgroup> first_tile: array<u32, 1025>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    for (var e = thread; e < params.experts; e += THREADS) {
        var count = 0u;
        if table[params.table_at + e] != NONE {
            for (var p = 0u; p < params.pairs; p++) {
                count += u32(ids[p] == e);
            }
        }
        first_tile[e] = (count + params.tile - 1u) / params.tile;
    }
    workgroupBarrier();
    if thread == 0u {
        var next = 0u;
        for (var e = 0u; e < params.experts; e++) {
            let tiles = first_tile[e];
            first_tile[e] = next;
            next += tiles;
        }
        first_tile[params.experts] = next;
    }
    workgroupBarrier();
    for (var e = thread; e < params.experts; e += THREADS) {
        var slot = first_tile[e] * params.tile;
        let end = first_tile[e + 1u] * params.tile;
        if slot == end { continue; }
        for (var p = 0u; p < params.pairs; p++) {
            if ids[p] == e {
                tile_pairs[slot] = p;
                slot++;
            }
        }
        for (; slot < end; slot++) {
            tile_pairs[slot] = NONE;
        }
        for (var tile = first_tile[e]; tile < first_tile[e + 1u]; tile++) {
            tile_expert[tile] = table[params.table_at + e];
        }
    }
    for (var tile = first_tile[params.experts] + thread; tile < params.tiles; tile += THREADS) {
        tile_expert[tile] = NONE;
    }
}
