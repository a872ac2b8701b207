// y[token, offset + row] (+)= dot(W[row], x[token]) for tiles of tokens, of bytes: the shape for drivers that compute four lanes at a
// time. Each load costs them much, wherever its lanes read, and so does an array's element where the index is not constant.
// A workgroup therefore computes several groups of rows, which share what is made of activations, several tokens, which share
// what is made of weights, and two blocks for each time that it takes a row's sums. It is six tokens because the loop over rows is
// then as long as the processor's cache of instructions, or its cache of decoded ones, allows. With `experts` a tile holds (token, rank) pairs that chose the same expert, as moe_group lists them.

import package::shared::guard::halted;
import package::shared::formats::{Column, Quants, Row, Two, column_of, load_two};
import package::shared::lanes::{LANES, ROWS, nth_row};
import package::shared::pairs::{Decoded, Token, decoded, dot_token, load_token};
import package::shared::product::{NONE, Params};

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [pairs, y_stride]
@if(experts)
@group(0) @binding(6) var<storage, read> tile_expert: array<u32>; // [tiles] which matrix of the stack, NONE behind the last one
@if(experts)
@group(0) @binding(7) var<storage, read> tile_pairs: array<u32>; // [tiles, 4], NONE where a tile is not full

const GROUPS: u32 = 12u; // at most

// Pairs that are not there are computed as the last one that is, and not written.
fn rows_of_x(pairs: vec4<u32>) -> vec4<u32> {
    return min(pairs, vec4(params.tokens - 1u)) / params.sharing * params.blocks;
}

// A token's block that counts `once` or, behind an odd number of blocks, not at all.
fn load_second(index: u32, once: f32) -> Token {
    var token = load_token(index);
    token.scale *= once;
    return token;
}

fn write(pair: u32, row: u32, sum: f32) {
    if pair >= params.tokens { return; }
    let at = pair * params.y_stride + params.y_offset + row;
    if params.accumulate == 1u { y[at] += sum; } else { y[at] = sum; }
}

fn write_four(pairs: vec4<u32>, row: u32, sums: vec4<f32>) {
    write(pairs.x, row, sums.x);
    write(pairs.y, row, sums.y);
    write(pairs.z, row, sums.z);
    write(pairs.w, row, sums.w);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if halted() { return; }
    let groups = (params.rows + 31u) / 32u;
    let first = (workgroup.z * size.x + workgroup.x) * params.groups;
    let tile = workgroup.y;
    var base = 0u;
    @if(!experts) let pairs = vec4(tile * 6u) + vec4(0u, 1u, 2u, 3u);
    @if(!experts) let further = pairs + vec4(4u);
    @if(experts)
    let pairs = vec4(tile_pairs[tile * 4u], tile_pairs[tile * 4u + 1u], tile_pairs[tile * 4u + 2u], tile_pairs[tile * 4u + 3u]);
    @if(experts) {
        if tile_expert[tile] == NONE { return; }
        base = tile_expert[tile] * groups;
    }
    // What of these groups is in this part of the weights.
    let begin = max(base + first, params.first_group);
    let end = min(base + min(first + params.groups, groups), params.end_group);
    if begin >= end { return; }
    let row_vectors = (end - begin) * ROWS;
    let x_rows = rows_of_x(pairs);
    @if(!experts) let further_x_rows = rows_of_x(further);

    var sums: array<vec4<f32>, GROUPS * ROWS>;
    @if(!experts) var further_sums: array<vec2<f32>, GROUPS * ROWS>;
    for (var block = 0u; block < params.blocks; block += 2u) {
        let second = min(block + 1u, params.blocks - 1u);
        let once = select(0.0, 1.0, second > block);
        let v0 = load_token(x_rows.x + block);
        let v1 = load_token(x_rows.y + block);
        let v2 = load_token(x_rows.z + block);
        let v3 = load_token(x_rows.w + block);
        @if(!experts) let v4 = load_token(further_x_rows.x + block);
        @if(!experts) let v5 = load_token(further_x_rows.y + block);
        let u0 = load_second(x_rows.x + second, once);
        let u1 = load_second(x_rows.y + second, once);
        let u2 = load_second(x_rows.z + second, once);
        let u3 = load_second(x_rows.w + second, once);
        @if(!experts) let u4 = load_second(further_x_rows.x + second, once);
        @if(!experts) let u5 = load_second(further_x_rows.y + second, once);
        let here = column_of(params.blocks, block);
        let behind = column_of(params.blocks, second);
        for (var r = 0u; r < row_vectors; r++) {
            let two = load_two(nth_row(begin - params.first_group, r, lane, params.blocks), here, behind);
            let w = decoded(two.first);
            let z = decoded(two.second);
            sums[r] += vec4(dot_token(w, v0), dot_token(w, v1), dot_token(w, v2), dot_token(w, v3))
                + vec4(dot_token(z, u0), dot_token(z, u1), dot_token(z, u2), dot_token(z, u3));
            @if(!experts) {
                further_sums[r] += vec2(dot_token(w, v4), dot_token(w, v5)) + vec2(dot_token(z, u4), dot_token(z, u5));
            }
        }
    }

    for (var r = 0u; r < row_vectors; r++) {
        let row = (begin - base) * 32u + lane + LANES * r;
        if row >= params.rows { return; }
        write_four(pairs, row, sums[r]);
        @if(!experts) {
            write(further.x, row, further_sums[r].x);
            write(further.y, row, further_sums[r].y);
        }
    }
}
