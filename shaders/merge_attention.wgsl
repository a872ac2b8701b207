// What several workgroups of `attention` computed of one token's heads over spans of the keys, as one result. Spans are summed in
// their order. A lane makes up to 32 dimensions of a head. Whether they become bytes is not a parameter: a lavapipe that could drop half
// of a kernel for what it knows of its parameters compiles it again for each dispatch.

import package::shared::guard::halted;
import package::shared::spans::{span_count, span_origin};
@if(bytes) import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    heads: u32,
    head_dim: u32, // a multiple of 4, of 32 for bytes
    chunk: u32,    // as in attention
    tile: u32,     // keys of a workgroup of attention
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>; // [spans, heads, 1 + head_dim / 4], the first being (highest score, sum of weights, 0, 0)
@group(0) @binding(3) var<storage, read> step: array<u32>; // position of the token, then its id
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>; // bits of [heads * head_dim / 4], or [heads * head_dim / 32, 3], see shared/blocks

const THREADS: u32 = 32u;
const LOWEST: f32 = -3.4e38;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if halted() { return; }
    let quads = params.head_dim / 4u;
    let blocks = (quads + 7u) / 8u;
    let at = workgroup.x * THREADS + lane;
    if at >= params.heads * blocks { return; }
    let head = at / blocks;
    let first_quad = at % blocks * 8u;

    // Keys before the token's own decide how many spans were written.
    let position = step[0];
    let count = span_count(position - span_origin(position, params.chunk), params.tile);
    let stride = params.heads * (quads + 1u);
    let from_span = head * (quads + 1u);
    var highest = LOWEST;
    for (var span = 0u; span < count; span++) {
        highest = max(highest, spans[span * stride + from_span].x);
    }
    var total = 0.0;
    var v: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        v[i] = vec4(0.0);
    }
    for (var span = 0u; span < count; span++) {
        let head_of_span = spans[span * stride + from_span];
        let weight = exp(head_of_span.x - highest);
        total += weight * head_of_span.y;
        for (var i = 0u; i < 8u; i++) {
            v[i] += weight * spans[span * stride + from_span + 1u + min(first_quad + i, quads - 1u)];
        }
    }
    for (var i = 0u; i < 8u; i++) {
        v[i] /= total;
    }
    @if(!bytes) {
        for (var i = 0u; i < 8u; i++) {
            if first_quad + i < quads { out[head * quads + first_quad + i] = bitcast<vec4<u32>>(v[i]); }
        }
    }
    @if(bytes) {
        let made = to_bytes(v, 0.0);
        out[at * 3u] = made.head;
        out[at * 3u + 1u] = made.lo;
        out[at * 3u + 2u] = made.hi;
    }
}
