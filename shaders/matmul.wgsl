// y[token, offset + row] (+)= dot(W[row], x[token]) for tiles of TOKENS tokens; row-per-thread shape without barriers.
// With `experts` a tile holds (token, rank) pairs that chose the same expert, as moe_group lists them.

import package::shared::guard::halted;
import package::shared::formats::{Block, Row, load_block};
import package::shared::dot::{Activation, Weights, load_activation, load_weights, dot_block, dot_weights};
import package::shared::product::{NONE, Params};

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [pairs, y_stride]
@if(experts)
@group(0) @binding(6) var<storage, read> tile_expert: array<u32>; // [tiles] which matrix of the stack, NONE behind the last one
@if(experts)
@group(0) @binding(7) var<storage, read> tile_pairs: array<u32>; // [tiles, TOKENS], NONE where a tile is not full

const TOKENS: u32 = 4u;
const LANES: u32 = 8u; // see shared/lanes
const ROWS: u32 = 32u / LANES;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if halted() { return; }
    let groups = (params.rows + 31u) / 32u;
    let group = workgroup.z * size.x + workgroup.x;
    let tile = workgroup.y;
    var base = 0u;
    var pairs = vec4(tile * TOKENS) + vec4(0u, 1u, 2u, 3u);
    @if(experts) {
        if tile_expert[tile] == NONE { return; }
        base = tile_expert[tile] * groups;
        pairs = vec4(tile_pairs[tile * TOKENS], tile_pairs[tile * TOKENS + 1u], tile_pairs[tile * TOKENS + 2u], tile_pairs[tile * TOKENS + 3u]);
    }
    // Nothing of this part of the weights is wanted here.
    if group >= groups || base + group >= params.end_group || base + group < params.first_group { return; }
    let here = base + group - params.first_group;
    // A token that is not there is computed as the last one that is, and not written.
    let x_rows = min(pairs, vec4(params.tokens - 1u)) / params.sharing * params.blocks;

    var sums: array<vec4<f32>, ROWS>;
    for (var block = 0u; block < params.blocks; block++) {
        let v0 = load_activation(x_rows.x + block);
        let v1 = load_activation(x_rows.y + block);
        let v2 = load_activation(x_rows.z + block);
        let v3 = load_activation(x_rows.w + block);
        for (var r = 0u; r < ROWS; r++) {
            let row = Row(here, lane + LANES * r, params.blocks);
            @if(i8) {
                let w = load_weights(row, block);
                sums[r] += vec4(dot_weights(w, v0), dot_weights(w, v1), dot_weights(w, v2), dot_weights(w, v3));
            }
            @if(!i8) {
                let w = load_block(row, block);
                sums[r] += vec4(dot_block(w, v0.block), dot_block(w, v1.block), dot_block(w, v2.block), dot_block(w, v3.block));
            }
        }
    }

    for (var r = 0u; r < ROWS; r++) {
        let row = group * 32u + lane + LANES * r;
        if row >= params.rows { return; }
        for (var t = 0u; t < TOKENS; t++) {
            if pairs[t] < params.tokens {
                let at = pairs[t] * params.y_stride + params.y_offset + row;
                if params.accumulate == 1u { y[at] += sums[r][t]; } else { y[at] = sums[r][t]; }
            }
        }
    }
}
