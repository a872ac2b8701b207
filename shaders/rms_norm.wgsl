// y = x / sqrt(mean(x^2) + eps) * weight. One workgroup per row.
//
// With `bytes` y is blocks of bytes: rows are whole blocks, and a lane makes a block at a time; with `quads` too, by four lanes.

import package::shared::guard::halted;
@if(bytes) import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    cols: u32,
    x_stride: u32,
    y_stride: u32,
    first_row: u32, // first row of x; y begins at row 0
    eps: f32,
}

@if(!bytes)
alias Value = f32;
@if(bytes)
alias Value = vec4<f32>;
@if(!bytes)
const VALUES: u32 = 1u; // columns in a Value
@if(bytes)
const VALUES: u32 = 4u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>; // [rows, x_stride]
@group(0) @binding(2) var<storage, read> weight: array<Value>; // [cols]
@if(!bytes)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, y_stride]
@if(bytes)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<u32>>; // [rows, y_stride / 32, 3]

// Few, because software drivers begin anew behind the barrier with every few of them; with `quads` as many as there is one beginning for.
@if(!quads)
const THREADS: u32 = 32u;
@if(quads)
const THREADS: u32 = 4u;
// No lane writes a part of a vector: WGSL lets that be a write of the whole one.
var<workgroup> partial: array<f32, THREADS>;

fn four(at: u32) -> vec4<f32> {
    return vec4(partial[at], partial[at + 1u], partial[at + 2u], partial[at + 3u]);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let from_row = (params.first_row + workgroup.x) * params.x_stride / VALUES;
    var squares = 0.0;
    for (var i = thread; i < params.cols / VALUES; i += THREADS) {
        let v = x[from_row + i];
        @if(!bytes) { squares += v * v; }
        @if(bytes) { squares += dot(v, v); }
    }
    partial[thread] = squares;
    workgroupBarrier();
    @if(!quads)
    let sums = four(0u) + four(4u) + four(8u) + four(12u) + four(16u) + four(20u) + four(24u) + four(28u);
    @if(quads)
    let sums = four(0u);
    let total = sums.x + sums.y + sums.z + sums.w;
    let scale = inverseSqrt(total / f32(params.cols) + params.eps);
    @if(!bytes) {
        let to_row = workgroup.x * params.y_stride;
        for (var i = thread; i < params.cols; i += THREADS) {
            y[to_row + i] = x[from_row + i] * scale * weight[i];
        }
    }
    @if(bytes) {
        let blocks = params.cols / 32u;
        for (var block = thread; block < blocks; block += THREADS) {
            var v: array<vec4<f32>, 8>;
            for (var i = 0u; i < 8u; i++) {
                v[i] = x[from_row + block * 8u + i] * scale * weight[block * 8u + i];
            }
            let made = to_bytes(v, 0.0);
            let to = (workgroup.x * blocks + block) * 3u;
            y[to] = made.head;
            y[to + 1u] = made.lo;
            y[to + 2u] = made.hi;
        }
    }
}
