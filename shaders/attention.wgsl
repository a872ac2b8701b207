// Causal attention of one query head and token over the cache, with a running maximum and sum (flash attention).
// One workgroup per head and token: tiles of THREADS keys, a lane per key for the scores, a lane per pair of dimensions
// for the weighted values.

import package::shared::guard::halted;
import package::shared::cache::{Pair, from_pair};

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32, // at most 256
    out_stride: u32,
    context: u32,  // positions in the cache
    chunk: u32,    // a query sees only keys of its own chunk of this many positions; 0: all
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(2) var<storage, read> k_cache: array<Pair>; // [kv_heads, context, head_dim / 2]
@group(0) @binding(3) var<storage, read> v_cache: array<Pair>; // [kv_heads, context, head_dim / 2]
@group(0) @binding(4) var<storage, read> step: array<u32>; // position of the first token, then the token ids
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [tokens, out_stride]

const THREADS: u32 = 32u;
@if(narrow) const SLOTS: u32 = 1u; // heads of up to 64 dimensions
@if(!narrow) const SLOTS: u32 = 4u; // heads of up to 256 dimensions
const LOWEST: f32 = -3.4e38;
var<workgroup> query: array<vec2<f32>, 128>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> weights: array<f32, THREADS>;
var<workgroup> key_count: u32;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let head = workgroup.x;
    let token = workgroup.y;
    let position = step[0] + token;
    var first = 0u;
    if params.chunk != 0u { first = position / params.chunk * params.chunk; }
    if thread == 0u { key_count = position + 1u - first; }
    let pairs = params.head_dim / 2u;
    let cache_head = head / (params.heads / params.kv_heads) * params.context;
    for (var p = thread; p < pairs; p += THREADS) {
        let at = (token * params.heads + head) * params.head_dim + 2u * p;
        query[p] = vec2(q[at], q[at + 1u]) * params.scale;
    }
    // The same for all lanes, but from storage: the barriers in the loop need a bound that is uniform for the compiler too.
    let count = workgroupUniformLoad(&key_count);

    var highest = LOWEST;
    var total = 0.0;
    var sums: array<vec2<f32>, SLOTS>; // pairs of dimensions thread, thread + THREADS, ...
    let tiles = (count + THREADS - 1u) / THREADS;
    for (var tile = 0u; tile < tiles; tile++) {
        let key = tile * THREADS + thread;
        var score = LOWEST;
        if key < count {
            let row = (cache_head + first + key) * pairs;
            var sum = vec2(0.0);
            for (var p = 0u; p < pairs; p++) {
                sum += from_pair(k_cache[row + p]) * query[p];
            }
            score = sum.x + sum.y;
        }
        scores[thread] = score;
        workgroupBarrier();

        let keys = min(THREADS, count - tile * THREADS);
        let before = highest;
        for (var j = 0u; j < keys; j++) {
            highest = max(highest, scores[j]);
        }
        // Behind the last key this is exp(LOWEST - highest), which nobody reads.
        weights[thread] = exp(score - highest);
        workgroupBarrier();

        let rescale = exp(before - highest);
        total *= rescale;
        for (var i = 0u; i < SLOTS; i++) {
            sums[i] *= rescale;
        }
        let row = (cache_head + first + tile * THREADS) * pairs + thread;
        for (var j = 0u; j < keys; j++) {
            let weight = weights[j];
            total += weight;
            for (var i = 0u; i < SLOTS; i++) {
                if thread + i * THREADS < pairs { sums[i] += weight * from_pair(v_cache[row + j * pairs + i * THREADS]); }
            }
        }
    }

    let to = token * params.out_stride + head * params.head_dim;
    for (var i = 0u; i < SLOTS; i++) {
        let pair = thread + i * THREADS;
        if pair < pairs {
            out[to + 2u * pair] = sums[i].x / total;
            out[to + 2u * pair + 1u] = sums[i].y / total;
        }
    }
}
