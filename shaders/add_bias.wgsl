// y[row, offset + col] += bias[col].

import package::shared::guard::halted;

struct Params {
    cols: u32,
    stride: u32, // row length of y
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bias: array<f32>; // [cols]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, stride]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let col = workgroup.x * 64u + thread;
    if col >= params.cols { return; }
    y[workgroup.y * params.stride + params.offset + col] += bias[col];
}
