// Causal attention of several tokens over the cache, with a running maximum and sum (flash attention).
// A lane computes a row: one token's query of one of the heads that share a key. It holds query and result in registers, and
// all rows of a workgroup walk over the same keys, so that no lane waits for another: barriers cost software adapters more than
// anything else, and on GPUs a load at one address serves all lanes.

import package::shared::guard::halted;
import package::shared::cache::{QUADS_OF_VECTOR, quad_of, row_length};
import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32, // a multiple of 4, of 32 for bytes, at most 4 * QUADS
    out_stride: u32,
    context: u32,  // positions in the cache
    chunk: u32,    // a query sees only keys of its own chunk of this many positions; 0: all
    scale: f32,
    to_bytes: u32, // 1: out is bytes; then head_dim is a multiple of 32
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>; // [tokens, heads, head_dim / 4]
@group(0) @binding(3) var<storage, read> step: array<u32>; // position of the first token, then the token ids
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>; // bits of [tokens, out_stride / 4], or [tokens, out_stride / 32, 3], see shared/blocks
@group(0) @binding(5) var<storage, read> k_cache: array<vec4<u32>>; // [kv_heads, context, row_length], see shared/cache
@group(0) @binding(6) var<storage, read> v_cache: array<vec4<u32>>; // [kv_heads, context, row_length], see shared/cache

const ROWS: u32 = 32u;
@if(up_to_64) const QUADS: u32 = 16u;
@if(up_to_128) const QUADS: u32 = 32u;
@if(!up_to_64 && !up_to_128) const QUADS: u32 = 64u;
const LOWEST: f32 = -3.4e38;

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if halted() { return; }
    let sharing = params.heads / params.kv_heads;
    let rows = params.tokens * sharing;
    let first_row = workgroup.x * ROWS;
    let row = first_row + lane;
    if row >= rows { return; }
    let token = row / sharing;
    let head = workgroup.y * sharing + row % sharing;

    // What this row sees, and what any of the workgroup does.
    let position = step[0] + token;
    var first = 0u;
    var begin = 0u;
    if params.chunk != 0u {
        first = position / params.chunk * params.chunk;
        begin = (step[0] + first_row / sharing) / params.chunk * params.chunk;
    }
    let end = step[0] + (min(first_row + ROWS, rows) - 1u) / sharing + 1u;

    // What pads a head is multiplied too: its last four elements again, by zero.
    let quads = params.head_dim / 4u;
    var query: array<vec4<f32>, QUADS>;
    var sums: array<vec4<f32>, QUADS>;
    for (var i = 0u; i < QUADS; i++) {
        let at = (token * params.heads + head) * quads + min(i, quads - 1u);
        query[i] = q[at] * select(0.0, params.scale, i < quads);
        sums[i] = vec4(0.0);
    }
    let vectors = row_length(params.head_dim);
    var highest = LOWEST;
    var total = 0.0;
    for (var key = begin; key < end; key++) {
        let at = (workgroup.y * params.context + key) * vectors;
        var products = vec4(0.0);
        @if(!kv_q8) {
            for (var i = 0u; i < QUADS / QUADS_OF_VECTOR; i++) {
                let vector = k_cache[at + min(i, vectors - 1u)];
                for (var j = 0u; j < QUADS_OF_VECTOR; j++) {
                    products += quad_of(vector, j) * query[QUADS_OF_VECTOR * i + j];
                }
            }
        }
        @if(kv_q8) {
            for (var i = 0u; i < QUADS / 8u; i++) {
                let block = min(i, quads / 8u - 1u);
                let lo = k_cache[at + 2u * block];
                let hi = k_cache[at + 2u * block + 1u];
                var sum = vec4(0.0);
                for (var j = 0u; j < 4u; j++) {
                    sum += quad_of(lo, j) * query[8u * i + j] + quad_of(hi, j) * query[8u * i + 4u + j];
                }
                products += bitcast<f32>(k_cache[at + quads / 4u + block / 4u][block % 4u]) * sum;
            }
        }
        let seen = key >= first && key <= position;
        let score = select(LOWEST, products.x + products.y + products.z + products.w, seen);
        let rescale = exp(highest - max(highest, score));
        highest = max(highest, score);
        // Before the first key that the row sees, the difference is zero.
        let weight = select(0.0, exp(score - highest), seen);
        total = total * rescale + weight;
        @if(!kv_q8) {
            for (var i = 0u; i < QUADS / QUADS_OF_VECTOR; i++) {
                let vector = v_cache[at + min(i, vectors - 1u)];
                for (var j = 0u; j < QUADS_OF_VECTOR; j++) {
                    let to = QUADS_OF_VECTOR * i + j;
                    sums[to] = sums[to] * rescale + weight * quad_of(vector, j);
                }
            }
        }
        @if(kv_q8) {
            for (var i = 0u; i < QUADS / 8u; i++) {
                let block = min(i, quads / 8u - 1u);
                let lo = v_cache[at + 2u * block];
                let hi = v_cache[at + 2u * block + 1u];
                let scaled = weight * bitcast<f32>(v_cache[at + quads / 4u + block / 4u][block % 4u]);
                for (var j = 0u; j < 4u; j++) {
                    sums[8u * i + j] = sums[8u * i + j] * rescale + scaled * quad_of(lo, j);
                    sums[8u * i + 4u + j] = sums[8u * i + 4u + j] * rescale + scaled * quad_of(hi, j);
                }
            }
        }
    }

    let column = token * params.out_stride + head * params.head_dim;
    if params.to_bytes == 0u {
        for (var i = 0u; i < QUADS; i++) {
            if i < quads { out[column / 4u + i] = bitcast<vec4<u32>>(sums[i] / total); }
        }
        return;
    }
    for (var block = 0u; block < QUADS / 8u; block++) {
        if 8u * block < quads {
            var v: array<vec4<f32>, 8>;
            for (var i = 0u; i < 8u; i++) {
                v[i] = sums[8u * block + i] / total;
            }
            let made = to_bytes(v, 0.0);
            let to = (column / 32u + block) * 3u;
            out[to] = made.head;
            out[to + 1u] = made.lo;
            out[to + 2u] = made.hi;
        }
    }
}
