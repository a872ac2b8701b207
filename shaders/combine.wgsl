// x[token] += the sum of its experts' outputs in rank order, each times its weight with `weighted`.

import package::shared::guard::halted;

struct Params {
    cols: u32,
    stride: u32, // row length of x and of parts
    chosen: u32, // k
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<f32>; // [tokens, k, stride]
@group(0) @binding(2) var<storage, read_write> x: array<f32>; // [tokens, stride]
@if(weighted)
@group(0) @binding(3) var<storage, read> weights: array<f32>; // [tokens, k]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let col = workgroup.x * 64u + thread;
    let token = workgroup.y;
    if col >= params.cols { return; }
    var sum = 0.0;
    for (var rank = 0u; rank < params.chosen; rank++) {
        let pair = token * params.chosen + rank;
        var part = parts[pair * params.stride + col];
        @if(weighted) { part *= weights[pair]; }
        sum += part;
    }
    x[token * params.stride + col] += sum;
}
