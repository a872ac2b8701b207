// y = x / sqrt(mean(x^2) + eps) * weight. One workgroup per row.

import package::shared::guard::halted;

struct Params {
    cols: u32,
    x_stride: u32,
    y_stride: u32,
    first_row: u32, // first row of x; y begins at row 0
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, x_stride]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [cols]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, y_stride]

const THREADS: u32 = 64u;
var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let from_row = (params.first_row + workgroup.x) * params.x_stride;
    let to_row = workgroup.x * params.y_stride;
    var squares = 0.0;
    for (var i = thread; i < params.cols; i += THREADS) {
        let v = x[from_row + i];
        squares += v * v;
    }
    partial[thread] = squares;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < THREADS; i++) {
        total += partial[i];
    }
    let scale = inverseSqrt(total / f32(params.cols) + params.eps);
    for (var i = thread; i < params.cols; i += THREADS) {
        y[to_row + i] = x[from_row + i] * scale * weight[i];
    }
}
