// y = silu(s * gate) * (s * up), s being 1 or, with `scaled`, the row's score: an expert's input times the score gives
// its gate and up times the score.

import package::shared::guard::halted;

struct Params {
    cols: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>; // [rows, 2, cols]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, y_stride]
@if(scaled)
@group(0) @binding(3) var<storage, read> scores: array<f32>; // [rows]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let col = workgroup.x * 64u + thread;
    let row = workgroup.y;
    if col >= params.y_stride { return; }
    if col >= params.cols {
        // Rows of other lengths use the same buffer: the padding has to be zeroed each time.
        y[row * params.y_stride + col] = 0.0;
        return;
    }
    var gate = gate_up[2u * row * params.cols + col];
    var up = gate_up[(2u * row + 1u) * params.cols + col];
    @if(scaled) {
        gate *= scores[row];
        up *= scores[row];
    }
    y[row * params.y_stride + col] = gate / (1.0 + exp(-gate)) * up;
}
