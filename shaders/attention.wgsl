// Causal attention of one token over the cache, with a running maximum and sum (flash attention). One workgroup per head: tiles
// of THREADS keys, a lane per key for the scores, a lane per pair of dimensions for the weighted values.
//
// It does the work of `rope_append` too: each head turns its query and the token's key itself, the first head of those that
// share a key appends it, and nobody reads from the cache what is only being written.

import package::shared::guard::halted;
import package::shared::cache::{Pair, from_pair, to_pair};
import package::shared::rotation::{Quad, Rotation, quad, qkv, temperature_at};
import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32, // at most 256
    context: u32,  // positions in the cache
    chunk: u32,    // a query sees only keys of its own chunk of this many positions; 0: all
    scale: f32,
    to_bytes: u32, // 1: out is bytes; then head_dim is a multiple of 32
    // As in rope_append.
    rotate: u32,
    coarse_rows: u32,
    normalize: u32,
    eps: f32,
    floor_scale: f32,
    temperature: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> step: array<u32>; // position of the token, then its id
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>; // bits of [heads * head_dim / 4], or [heads * head_dim / 32, 3], see shared/blocks
@group(0) @binding(5) var<storage, read_write> k_cache: array<Pair>; // [kv_heads, context, head_dim / 2]
@group(0) @binding(6) var<storage, read_write> v_cache: array<Pair>; // [kv_heads, context, head_dim / 2]

const THREADS: u32 = 32u;
@if(narrow) const SLOTS: u32 = 1u; // heads of up to 64 dimensions
@if(!narrow) const SLOTS: u32 = 4u; // heads of up to 256 dimensions
const LOWEST: f32 = -3.4e38;
var<workgroup> query: array<vec2<f32>, 128>; // in the end the result
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> weights: array<f32, THREADS>;
var<workgroup> key_count: u32;
var<workgroup> squares: array<vec2<f32>, THREADS>; // of q, of k
var<workgroup> new_key: array<vec2<f32>, 128>;
var<workgroup> new_value: array<vec2<f32>, 128>;

fn prepare(head: u32, position: u32, lane: u32) {
    let sharing = params.heads / params.kv_heads;
    let kv_head = head / sharing;
    let dim = params.head_dim;
    let from_q = head * dim;
    let from_k = (params.heads + kv_head) * dim;
    let from_v = (params.heads + params.kv_heads + kv_head) * dim;
    var factors = vec2(1.0);
    if params.normalize == 1u {
        // A rotation keeps the length, so that the sum of squares can be taken before it.
        var sums = vec2(0.0);
        for (var i = lane; i < dim; i += THREADS) {
            let v = vec2(qkv[from_q + i], qkv[from_k + i]);
            sums += v * v;
        }
        squares[lane] = sums;
        workgroupBarrier();
        var total = vec2(0.0);
        for (var i = 0u; i < THREADS; i++) {
            total += squares[i];
        }
        factors = inverseSqrt(total / f32(dim) + params.eps);
    }
    factors.x *= temperature_at(position, params.floor_scale, params.temperature) * params.scale;

    let shape = Rotation(dim, params.rotate, params.coarse_rows);
    let to = (kv_head * params.context + position) * dim / 2u;
    for (var i = lane; i < dim / 4u; i += THREADS) {
        let q = quad(shape, from_q, i, position, false);
        query[q.first / 2u] = q.a * factors.x;
        query[q.second / 2u] = q.b * factors.x;
        let k = quad(shape, from_k, i, position, false);
        let v = quad(shape, from_v, i, position, true);
        let k_a = to_pair(k.a * factors.y);
        let k_b = to_pair(k.b * factors.y);
        let v_a = to_pair(v.a);
        let v_b = to_pair(v.b);
        // As precise as what later tokens will read.
        new_key[k.first / 2u] = from_pair(k_a);
        new_key[k.second / 2u] = from_pair(k_b);
        new_value[v.first / 2u] = from_pair(v_a);
        new_value[v.second / 2u] = from_pair(v_b);
        if head % sharing == 0u {
            k_cache[to + k.first / 2u] = k_a;
            k_cache[to + k.second / 2u] = k_b;
            v_cache[to + v.first / 2u] = v_a;
            v_cache[to + v.second / 2u] = v_b;
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let head = workgroup.x;
    let position = step[0];
    var first = 0u;
    if params.chunk != 0u { first = position / params.chunk * params.chunk; }
    let pairs = params.head_dim / 2u;
    let cache_head = head / (params.heads / params.kv_heads) * params.context;
    if thread == 0u { key_count = position - first; }
    prepare(head, position, thread);
    // The same for all lanes, but from storage: the barriers in the loop need a bound that is uniform for the compiler too.
    let count = workgroupUniformLoad(&key_count);

    var highest = LOWEST;
    var total = 0.0;
    var sums: array<vec2<f32>, SLOTS>; // pairs of dimensions thread, thread + THREADS, ...
    var sum = vec2(0.0);
    for (var p = 0u; p < pairs; p++) {
        sum += new_key[p] * query[p];
    }
    highest = sum.x + sum.y;
    total = 1.0;
    for (var i = 0u; i < SLOTS; i++) {
        if thread + i * THREADS < pairs { sums[i] = new_value[thread + i * THREADS]; }
    }
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

    // The loop's last read of the query lies before a barrier; where the new key is the only one, this is it.
    workgroupBarrier();
    for (var i = 0u; i < SLOTS; i++) {
        let pair = thread + i * THREADS;
        if pair < pairs { query[pair] = sums[i] / total; }
    }
    workgroupBarrier();
    if params.to_bytes == 0u {
        let to = head * params.head_dim / 4u;
        for (var i = thread; i < params.head_dim / 4u; i += THREADS) {
            out[to + i] = bitcast<vec4<u32>>(vec4(query[2u * i], query[2u * i + 1u]));
        }
        return;
    }
    if thread >= params.head_dim / 32u { return; }
    var v: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        let at = thread * 16u + 2u * i;
        v[i] = vec4(query[at], query[at + 1u]);
    }
    let made = to_bytes(v, 0.0);
    let to = (head * params.head_dim / 32u + thread) * 3u;
    out[to] = made.head;
    out[to + 1u] = made.lo;
    out[to + 2u] = made.hi;
}
