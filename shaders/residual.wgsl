// x += W input, and what the norm behind it gives but for its division: h = x * weight, with the sum of squares of each block
// of x. With `experts` it adds the products of a token's chosen experts, each with its own input, in the order of their ranks.
//
// One token. Lanes hold rows as shared/lanes says; a workgroup's block of h is put together in workgroup memory.

import package::shared::guard::halted;
import package::shared::formats::Row;
import package::shared::dot::{Activation, dot_weights, load_activation, load_weights};
import package::shared::lanes::{HELD, LANES, ROWS, SLICES, lane_of, row_of, slice_of};
@if(subgroups) import package::shared::lanes::{PARTS, add_joined, joined};
import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    rows: u32,        // rows of W (of one expert)
    blocks: u32,      // columns of W / 32
    first_row: u32,   // where W's rows begin in x: whole blocks
    x_blocks: u32,    // all blocks of x
    first_group: u32, // groups before this part of the weights; the parts of experts are one, or one expert is chosen
    end_group: u32,   // first group behind this part
    ranks: u32,       // experts chosen, else 1
    to_bytes: u32,    // 1: h is bytes
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> stream: array<f32>; // x: [x_blocks, 32]
@group(0) @binding(5) var<storage, read> weight: array<f32>; // [columns of x]
@group(0) @binding(6) var<storage, read_write> h: array<vec4<u32>>; // [x_blocks, 3], see shared/blocks, or bits of [x_blocks, 8] and [x_blocks] squares
@if(experts)
@group(0) @binding(7) var<storage, read> chosen: array<u32>; // [ranks] which matrix of the stack

@if(cooperative)
var<workgroup> partial: array<f32, 256>;
@if(subgroups)
var<workgroup> parts: array<vec4<f32>, PARTS>; // sums of a team's rows
var<workgroup> updated: array<vec2<f32>, 32>; // x, h

fn matrix_at(rank: u32) -> u32 {
    @if(experts) {
        return chosen[rank];
    }
    @if(!experts) {
        return 0u;
    }
}

@compute @workgroup_size(LANES * SLICES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @if(subgroups) @builtin(subgroup_size) subgroup_size: u32,
) {
    if halted() { return; }
    let lane = lane_of(thread);
    let slice = slice_of(thread);
    let groups = (params.rows + 31u) / 32u;
    let group = workgroup.z * size.x + workgroup.x;
    let first = matrix_at(0u) * groups + group;
    if group >= groups || first >= params.end_group || first < params.first_group { return; }

    var sums: array<f32, ROWS>;
    for (var rank = 0u; rank < params.ranks; rank++) {
        let here = matrix_at(rank) * groups + group - params.first_group;
        var part: array<f32, ROWS>;
        for (var block = slice; block < params.blocks; block += SLICES) {
            let v = load_activation(rank * params.blocks + block);
            for (var r = 0u; r < ROWS; r++) {
                part[r] += dot_weights(load_weights(Row(here, row_of(lane, r), params.blocks), block), v);
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            sums[r] += part[r];
        }
    }
    @if(cooperative) {
        partial[thread] = sums[0];
        workgroupBarrier();
        for (var s = 1u; s < SLICES; s++) {
            sums[0] += partial[(slice + s) % SLICES * LANES + lane];
        }
    }
    @if(subgroups) {
        let lanes = joined(subgroup_size);
        let sum = add_joined(vec4(sums[0], sums[1], sums[2], sums[3]), lanes);
        if slice % lanes == 0u {
            parts[thread / lanes] = sum;
        }
        workgroupBarrier();
        sums[0] = 0.0;
        let count = SLICES / lanes;
        for (var p = 0u; p < count; p++) {
            sums[0] += parts[thread % 32u / ROWS * count + p][thread % ROWS];
        }
    }

    if thread < 32u {
        for (var r = 0u; r < HELD; r++) {
            let row = thread + LANES * r;
            var v = vec2(0.0);
            if group * 32u + row < params.rows {
                let at = params.first_row + group * 32u + row;
                let sum = stream[at] + sums[r];
                stream[at] = sum;
                v = vec2(sum, sum * weight[at]);
            }
            updated[row] = v;
        }
    }
    workgroupBarrier();
    if thread != 0u { return; }
    var v: array<vec4<f32>, 8>;
    var squares = vec4(0.0);
    for (var i = 0u; i < 8u; i++) {
        let at = 4u * i;
        let a = updated[at];
        let b = updated[at + 1u];
        let c = updated[at + 2u];
        let d = updated[at + 3u];
        let values = vec4(a.x, b.x, c.x, d.x);
        squares += values * values;
        v[i] = vec4(a.y, b.y, c.y, d.y);
    }
    let total = squares.x + squares.y + squares.z + squares.w;
    let block = params.first_row / 32u + group;
    if params.to_bytes == 1u {
        let made = to_bytes(v, total);
        h[block * 3u] = made.head;
        h[block * 3u + 1u] = made.lo;
        h[block * 3u + 2u] = made.hi;
    } else {
        for (var i = 0u; i < 8u; i++) {
            h[block * 8u + i] = bitcast<vec4<u32>>(v[i]);
        }
        h[params.x_blocks * 8u + block] = vec4(bitcast<u32>(total), 0u, 0u, 0u);
    }
}
