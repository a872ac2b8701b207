// y[offset + row] (+)= dot(W[row], x) for each token, or with `experts` for each (token, chosen expert) pair.
//
// A workgroup computes a group of 32 rows, see shared/lanes.

import package::shared::guard::halted;
import package::shared::formats::Row;
import package::shared::dot::{Activation, block_squares, dot_weights, load_activation, load_weights, norm_factor};
import package::shared::lanes::{HELD, LANES, ROWS, SLICES, lane_of, row_of, slice_of};
@if(subgroups) import package::shared::lanes::{PARTS, add_joined, joined};
import package::shared::product::Params;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [pairs, y_stride]
@if(experts)
@group(0) @binding(6) var<storage, read> chosen: array<u32>; // [pairs] which matrix of the stack

@if(cooperative)
var<workgroup> partial: array<vec2<f32>, 256>; // sum, squares
@if(subgroups)
var<workgroup> parts: array<vec4<f32>, PARTS>; // sums of a team's rows
@if(subgroups)
var<workgroup> parts_squares: array<f32, PARTS>;

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
    let groups = (params.rows + 31u) / 32u;
    let group = workgroup.z * size.x + workgroup.x;
    var base = 0u;
    @if(experts) {
        base = chosen[pair] * groups;
    }
    // Nothing of this part of the weights is wanted here.
    if group >= groups || base + group >= params.end_group || base + group < params.first_group { return; }
    let here = base + group - params.first_group;
    let x_row = pair / params.sharing * params.blocks;

    var sums: array<f32, ROWS>;
    var squares = 0.0;
    for (var block = slice; block < params.blocks; block += SLICES) {
        let v = load_activation(x_row + block);
        if params.norm_cols != 0u { squares += block_squares(block, params.blocks); }
        for (var r = 0u; r < ROWS; r++) {
            sums[r] += dot_weights(load_weights(Row(here, row_of(lane, r), params.blocks), block), v);
        }
    }

    @if(cooperative) {
        partial[thread] = vec2(sums[0], squares);
        workgroupBarrier();
        if slice != 0u { return; }
        for (var s = 1u; s < SLICES; s++) {
            sums[0] += partial[s * 32u + lane].x;
            squares += partial[s * 32u + lane].y;
        }
    }
    @if(subgroups) {
        let lanes = joined(subgroup_size);
        let sum = add_joined(vec4(sums[0], sums[1], sums[2], sums[3]), lanes);
        let sum_squares = add_joined(vec4(squares, 0.0, 0.0, 0.0), lanes).x;
        if slice % lanes == 0u {
            parts[thread / lanes] = sum;
            parts_squares[thread / lanes] = sum_squares;
        }
        workgroupBarrier();
        if thread >= 32u { return; }
        sums[0] = 0.0;
        squares = 0.0;
        let count = SLICES / lanes;
        for (var p = 0u; p < count; p++) {
            let at = thread / ROWS * count + p;
            sums[0] += parts[at][thread % ROWS];
            squares += parts_squares[at];
        }
    }
    let factor = norm_factor(squares, params.norm_cols, params.norm_eps);
    for (var r = 0u; r < HELD; r++) {
        let row = group * 32u + thread + LANES * r;
        if row < params.rows {
            let at = pair * params.y_stride + params.y_offset + row;
            if params.accumulate == 1u { y[at] += factor * sums[r]; } else { y[at] = factor * sums[r]; }
        }
    }
}
