// y = silu(s * gate) * (s * up) with gate and up the products of x with the two halves of W, for one token or each of its
// chosen experts; s is 1 or an expert's score, which may multiply y instead.
//
// A lane holds the rows of gate and of up that belong together (see shared/lanes), so W's halves are whole groups; a workgroup's block of y is put together in workgroup memory.

import package::shared::guard::halted;
import package::shared::formats::Row;
import package::shared::dot::{Activation, block_squares, dot_weights, load_activation, load_weights, norm_factor};
import package::shared::lanes::{HELD, LANES, ROWS, SLICES, lane_of, row_of, slice_of};
@if(subgroups) import package::shared::lanes::{PARTS, add_joined, joined};
import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    groups: u32,      // of 32 rows of y, as many as gate and up have each
    blocks: u32,      // columns of W / 32
    first_group: u32, // groups before this part of the weights, which holds whole matrices
    end_group: u32,   // first group behind this part
    to_bytes: u32,    // 1: y is bytes
    scores: u32,      // SCORE_INPUT, or else the score multiplies y
    norm_cols: u32,   // columns of the norm whose division is still to come, see shared/dot; 0: none
    norm_eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>; // [pairs, groups, 3], see shared/blocks, or bits of [pairs, groups, 8]
@if(experts)
@group(0) @binding(6) var<storage, read> chosen: array<u32>; // [pairs] which matrix of the stack
@if(experts)
@group(0) @binding(7) var<storage, read> scores: array<f32>; // [pairs]

const SCORE_INPUT: u32 = 1u;

@if(cooperative)
var<workgroup> partial: array<vec3<f32>, 256>; // gate, up, squares
@if(subgroups)
var<workgroup> parts_gate: array<vec4<f32>, PARTS>; // sums of a team's rows
@if(subgroups)
var<workgroup> parts_up: array<vec4<f32>, PARTS>;
@if(subgroups)
var<workgroup> parts_squares: array<f32, PARTS>;
var<workgroup> values: array<f32, 32>;

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
    let pair = workgroup.y;
    let group = workgroup.z * size.x + workgroup.x;
    var base = 0u;
    @if(experts) {
        base = chosen[pair] * 2u * params.groups;
    }
    if group >= params.groups || base < params.first_group || base >= params.end_group { return; }
    let here = base - params.first_group + group;

    var gates: array<f32, ROWS>;
    var ups: array<f32, ROWS>;
    var squares = 0.0;
    for (var block = slice; block < params.blocks; block += SLICES) {
        let v = load_activation(block);
        if params.norm_cols != 0u { squares += block_squares(block, params.blocks); }
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(lane, r);
            gates[r] += dot_weights(load_weights(Row(here, row, params.blocks), block), v);
            ups[r] += dot_weights(load_weights(Row(here + params.groups, row, params.blocks), block), v);
        }
    }
    @if(cooperative) {
        partial[thread] = vec3(gates[0], ups[0], squares);
        workgroupBarrier();
        for (var s = 1u; s < SLICES; s++) {
            // All slices add up in the same order, and the first one's sum is used.
            let other = partial[(slice + s) % SLICES * LANES + lane];
            gates[0] += other.x;
            ups[0] += other.y;
            squares += other.z;
        }
    }
    @if(subgroups) {
        let lanes = joined(subgroup_size);
        let gate = add_joined(vec4(gates[0], gates[1], gates[2], gates[3]), lanes);
        let up = add_joined(vec4(ups[0], ups[1], ups[2], ups[3]), lanes);
        let sum_squares = add_joined(vec4(squares, 0.0, 0.0, 0.0), lanes).x;
        if slice % lanes == 0u {
            parts_gate[thread / lanes] = gate;
            parts_up[thread / lanes] = up;
            parts_squares[thread / lanes] = sum_squares;
        }
        workgroupBarrier();
        gates[0] = 0.0;
        ups[0] = 0.0;
        squares = 0.0;
        let count = SLICES / lanes;
        for (var p = 0u; p < count; p++) {
            let at = thread % 32u / ROWS * count + p;
            gates[0] += parts_gate[at][thread % ROWS];
            ups[0] += parts_up[at][thread % ROWS];
            squares += parts_squares[at];
        }
    }

    var factor = norm_factor(squares, params.norm_cols, params.norm_eps);
    var after = 1.0;
    @if(experts) {
        if params.scores == SCORE_INPUT { factor *= scores[pair]; } else { after = scores[pair]; }
    }
    if thread < 32u {
        for (var r = 0u; r < HELD; r++) {
            let gate = factor * gates[r];
            values[thread + LANES * r] = gate / (1.0 + exp(-gate)) * (factor * ups[r]) * after;
        }
    }
    workgroupBarrier();
    if thread != 0u { return; }
    var v: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        v[i] = vec4(values[4u * i], values[4u * i + 1u], values[4u * i + 2u], values[4u * i + 3u]);
    }
    let block = pair * params.groups + group;
    if params.to_bytes == 1u {
        let made = to_bytes(v, 0.0);
        y[block * 3u] = made.head;
        y[block * 3u + 1u] = made.lo;
        y[block * 3u + 2u] = made.hi;
    } else {
        for (var i = 0u; i < 8u; i++) {
            y[block * 8u + i] = bitcast<vec4<u32>>(v[i]);
        }
    }
}
