// y[token, offset + row] (+)= dot(W[row], x[token]) for tiles of ROWS rows and TOKENS tokens, whose weights and activations
// pass through workgroup memory as floats: the shape for adapters with many lanes and fast barriers.
// With `experts` a tile holds (token, rank) pairs that chose the same expert, as moe_group lists them.

import package::shared::guard::halted;
import package::shared::formats::{Row, load_block};
import package::shared::product::{NONE, Params};

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [tokens, blocks, 8]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [pairs, y_stride]
@if(experts)
@group(0) @binding(6) var<storage, read> tile_expert: array<u32>; // [tiles] which matrix of the stack, NONE behind the last one
@if(experts)
@group(0) @binding(7) var<storage, read> tile_pairs: array<u32>; // [tiles, TOKENS], NONE where a tile is not full

const ROWS: u32 = 64u;   // two groups
const TOKENS: u32 = 32u;
const THREADS: u32 = 128u; // each computes rows r, r + 16, r + 32, r + 48 of four tokens
var<workgroup> w_tile: array<f32, 2048>; // [32 columns, ROWS]
var<workgroup> x_tile: array<f32, 1024>; // [32 columns, TOKENS]

fn pair_at(tile: u32, token: u32) -> u32 {
    @if(experts) {
        return tile_pairs[tile * TOKENS + token];
    }
    @if(!experts) {
        return tile * TOKENS + token;
    }
}

fn store_weights(row: u32, column: u32, v: vec4<f32>) {
    w_tile[column * ROWS + row] = v.x;
    w_tile[(column + 1u) * ROWS + row] = v.y;
    w_tile[(column + 2u) * ROWS + row] = v.z;
    w_tile[(column + 3u) * ROWS + row] = v.w;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if halted() { return; }
    let groups = (params.rows + 31u) / 32u;
    let group = (workgroup.z * size.x + workgroup.x) * 2u;
    let tile = workgroup.y;
    var base = 0u;
    @if(experts) {
        if tile_expert[tile] == NONE { return; }
        base = tile_expert[tile] * groups;
    }
    // Nothing of this part of the weights is wanted here.
    if group >= groups || base + group >= params.end_group || base + group + 2u <= params.first_group { return; }

    let lane_row = thread % 16u;
    let lane_token = thread / 16u * 4u;
    var sums: array<vec4<f32>, 4>; // for each of the four rows, the four tokens
    for (var block = 0u; block < params.blocks; block++) {
        if thread < ROWS {
            let mine = base + min(group + thread / 32u, groups - 1u);
            let here = clamp(mine, params.first_group, params.end_group - 1u) - params.first_group;
            let w = load_block(Row(here, thread % 32u, params.blocks), block);
            store_weights(thread, 0u, w.a);
            store_weights(thread, 4u, w.b);
            store_weights(thread, 8u, w.c);
            store_weights(thread, 12u, w.d);
            store_weights(thread, 16u, w.e);
            store_weights(thread, 20u, w.f);
            store_weights(thread, 24u, w.g);
            store_weights(thread, 28u, w.h);
        } else {
            // 64 lanes bring the 8 vectors of 32 tokens; a token that is not there counts as the last one.
            for (var i = thread - ROWS; i < TOKENS * 8u; i += THREADS - ROWS) {
                let token = i / 8u;
                let column = i % 8u * 4u;
                let row = min(pair_at(tile, token), params.tokens - 1u) / params.sharing;
                let v = x[(row * params.blocks + block) * 8u + i % 8u];
                x_tile[column * TOKENS + token] = v.x;
                x_tile[(column + 1u) * TOKENS + token] = v.y;
                x_tile[(column + 2u) * TOKENS + token] = v.z;
                x_tile[(column + 3u) * TOKENS + token] = v.w;
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let at = k * TOKENS + lane_token;
            let v = vec4(x_tile[at], x_tile[at + 1u], x_tile[at + 2u], x_tile[at + 3u]);
            let from_row = k * ROWS + lane_row;
            sums[0] += w_tile[from_row] * v;
            sums[1] += w_tile[from_row + 16u] * v;
            sums[2] += w_tile[from_row + 32u] * v;
            sums[3] += w_tile[from_row + 48u] * v;
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < 4u; r++) {
        let row = group * 32u + lane_row + 16u * r;
        let global = base + row / 32u;
        if row < params.rows && global >= params.first_group && global < params.end_group {
            for (var t = 0u; t < 4u; t++) {
                let pair = pair_at(tile, lane_token + t);
                if pair < params.tokens {
                    let at = pair * params.y_stride + params.y_offset + row;
                    if params.accumulate == 1u { y[at] += sums[r][t]; } else { y[at] = sums[r][t]; }
                }
            }
        }
    }
}
