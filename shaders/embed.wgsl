// x[token] = row of the embedding matrix, dequantised. One lane per block of 32 columns.

import package::shared::guard::halted;
import package::shared::formats::{Row, load_block};

struct Params {
    blocks: u32,     // columns / 32
    first_row: u32,  // vocabulary rows before this part of the matrix
    end_row: u32,    // first row behind this part
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> step: array<u32>; // position of the first token, then the token ids
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>; // [tokens, blocks, 8]

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if halted() { return; }
    let block = workgroup.x * 32u + lane;
    let token = step[1u + workgroup.y];
    if block >= params.blocks || token < params.first_row || token >= params.end_row { return; }
    let row = token - params.first_row;
    let v = load_block(Row(row / 32u, row % 32u, params.blocks), block);
    let at = (workgroup.y * params.blocks + block) * 8u;
    x[at] = v.a;
    x[at + 1u] = v.b;
    x[at + 2u] = v.c;
    x[at + 3u] = v.d;
    x[at + 4u] = v.e;
    x[at + 5u] = v.f;
    x[at + 6u] = v.g;
    x[at + 7u] = v.h;
}
