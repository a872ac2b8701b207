// y[offset + row] (+)= dot(W[row], x) for each token, or with `experts` for each (token, chosen expert) pair, of bytes: the shape for
// drivers that compute four lanes at a time, see matmul_quads. A workgroup computes several groups of rows, so that what is made of
// activations serves more of them, and two blocks at a time, so that a row's sum is taken from its array and put back half as often.
// More blocks are slower: the loop does not stay where the processor keeps what it has decoded.

import package::shared::guard::halted;
import package::shared::formats::{Column, Row, Two, column_of, load_two};
import package::shared::dot::{Activation, block_squares, dot_weights, load_activation, norm_factor};
import package::shared::lanes::{LANES, ROWS, nth_row};
import package::shared::product::Params;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [pairs, y_stride]
@if(experts)
@group(0) @binding(6) var<storage, read> chosen: array<u32>; // [pairs] which matrix of the stack

const GROUPS: u32 = 12u; // at most

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if halted() { return; }
    let pair = workgroup.y;
    let groups = (params.rows + 31u) / 32u;
    let first = (workgroup.z * size.x + workgroup.x) * params.groups;
    var base = 0u;
    @if(experts) {
        base = chosen[pair] * groups;
    }
    // What of these groups is in this part of the weights.
    let begin = max(base + first, params.first_group);
    let end = min(base + min(first + params.groups, groups), params.end_group);
    if begin >= end { return; }
    let row_vectors = (end - begin) * ROWS;
    let x_row = pair / params.sharing * params.blocks;

    var sums: array<f32, GROUPS * ROWS>;
    var squares = 0.0;
    for (var block = 0u; block < params.blocks; block += 2u) {
        // The last of an odd number of blocks counts once.
        let second = min(block + 1u, params.blocks - 1u);
        let once = select(0.0, 1.0, second > block);
        let v = load_activation(x_row + block);
        var u = load_activation(x_row + second);
        u.scale *= once;
        if params.norm_cols != 0u { squares += block_squares(block, params.blocks) + once * block_squares(second, params.blocks); }
        let here = column_of(params.blocks, block);
        let behind = column_of(params.blocks, second);
        for (var r = 0u; r < row_vectors; r++) {
            let w = load_two(nth_row(begin - params.first_group, r, lane, params.blocks), here, behind);
            sums[r] += dot_weights(w.first, v) + dot_weights(w.second, u);
        }
    }

    let factor = norm_factor(squares, params.norm_cols, params.norm_eps);
    for (var r = 0u; r < row_vectors; r++) {
        let row = (begin - base) * 32u + lane + LANES * r;
        if row >= params.rows { return; }
        let at = pair * params.y_stride + params.y_offset + row;
        if params.accumulate == 1u { y[at] += factor * sums[r]; } else { y[at] = factor * sums[r]; }
    }
}
