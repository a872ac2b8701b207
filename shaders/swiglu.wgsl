// y = silu(s * gate) * (s * up), s being 1 or, with `scaled`, the row's score: an expert's input times the score gives
// its gate and up times the score.
//
// With `bytes` y is blocks of bytes: rows are whole blocks, and a lane makes one of them.

import package::shared::guard::halted;
@if(bytes) import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    cols: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@if(!bytes)
@group(0) @binding(1) var<storage, read> gate_up: array<f32>; // [rows, 2, cols]
@if(bytes)
@group(0) @binding(1) var<storage, read> gate_up: array<vec4<f32>>; // [rows, 2, cols / 4]
@if(!bytes)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, y_stride]
@if(bytes)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>; // [rows, y_stride / 32, 3]
@if(scaled)
@group(0) @binding(3) var<storage, read> scores: array<f32>; // [rows]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let at = workgroup.x * 64u + thread;
    let row = workgroup.y;
    var score = 1.0;
    @if(scaled) { score = scores[row]; }
    @if(!bytes) {
        if at >= params.y_stride { return; }
        if at >= params.cols {
            // Rows of other lengths use the same buffer: the padding has to be zeroed each time.
            y[row * params.y_stride + at] = 0.0;
            return;
        }
        let gate = score * gate_up[2u * row * params.cols + at];
        let up = score * gate_up[(2u * row + 1u) * params.cols + at];
        y[row * params.y_stride + at] = gate / (1.0 + exp(-gate)) * up;
    }
    @if(bytes) {
        let blocks = params.cols / 32u;
        if at >= blocks { return; }
        var v: array<vec4<f32>, 8>;
        for (var i = 0u; i < 8u; i++) {
            let gate = score * gate_up[(2u * row * blocks + at) * 8u + i];
            let up = score * gate_up[((2u * row + 1u) * blocks + at) * 8u + i];
            v[i] = gate / (vec4(1.0) + exp(-gate)) * up;
        }
        let made = to_bytes(v, 0.0);
        let to = (row * blocks + at) * 3u;
        y[to] = made.head;
        y[to + 1u] = made.lo;
        y[to + 2u] = made.hi;
    }
}
