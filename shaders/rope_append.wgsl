// From the stacked projections [q heads | k heads | v heads] of each token: rotate q and k, normalise and scale them where
// the model does, write q to its own buffer and append k and v to the cache. One workgroup per head and token; a lane
// holds four elements, the two rotation pairs 2 i and 2 i + 1.

import package::shared::guard::halted;
@if(!kv_q8) import package::shared::cache::{Pair, row_pairs, to_pair};
@if(kv_q8) import package::shared::cache::{head_length, row_at, scales_at};
@if(kv_q8) import package::shared::blocks::{Bytes, to_bytes};
import package::shared::rotation::{Quad, Rotation, Turns, quad, qkv, temperature_at, turns};

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,     // a multiple of 4, of 32 for bytes
    stride: u32,       // row length of qkv, a multiple of 4
    context: u32,      // positions in the cache
    rotate: u32,       // see shared/rotation
    coarse_rows: u32,
    eps: f32,          // with `normalized` q and k are divided by the root of their mean square plus this, after the rotation
    floor_scale: f32,  // temperature: q *= log(1 + floor((position + 1) / floor_scale)) * temperature + 1
    temperature: f32,  // 0: none
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> step: array<u32>; // position of the first token, then the token ids
@group(0) @binding(4) var<storage, read_write> q: array<f32>; // [tokens, heads, head_dim]
@if(!kv_q8) @group(0) @binding(5) var<storage, read_write> k_cache: array<Pair>; // [kv_heads, context, row_pairs], see shared/cache
@if(!kv_q8) @group(0) @binding(6) var<storage, read_write> v_cache: array<Pair>; // [kv_heads, context, row_pairs], see shared/cache
// Words, since workgroups write different ones of a vector of scales.
@if(kv_q8) @group(0) @binding(5) var<storage, read_write> k_cache: array<u32>; // [kv_heads, head_length, 4], see shared/cache
@if(kv_q8) @group(0) @binding(6) var<storage, read_write> v_cache: array<u32>; // [kv_heads, head_length, 4], see shared/cache

// Lanes that a small head would leave idle cost a driver that computes few at a time as much as others.
const THREADS: u32 = 16u;
@if(normalized) var<workgroup> partial: array<f32, THREADS>; // sums of squares
@if(kv_q8) var<workgroup> made: array<vec2<f32>, 128>; // a head of up to 256 dimensions

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if halted() { return; }
    let head = workgroup.x;
    let token = workgroup.y;
    let position = step[0] + token;
    let is_q = head < params.heads;
    let is_v = head >= params.heads + params.kv_heads;
    let from_head = token * params.stride + head * params.head_dim;

    var factor = 1.0;
    @if(normalized) {
        // A rotation keeps the length, so that the sum of squares can be taken before it.
        var squares = 0.0;
        for (var i = lane; i < params.head_dim / 2u; i += THREADS) {
            let pair = qkv[from_head / 2u + i];
            squares += dot(pair, pair);
        }
        partial[lane] = squares;
        workgroupBarrier();
        var total = 0.0;
        for (var i = 0u; i < THREADS; i++) {
            total += partial[i];
        }
        factor = select(inverseSqrt(total / f32(params.head_dim) + params.eps), 1.0, is_v);
    }
    if is_q {
        factor *= temperature_at(position, params.floor_scale, params.temperature);
    }

    let shape = Rotation(params.head_dim, select(params.rotate, 0u, is_v), params.coarse_rows);
    for (var i = lane; i < params.head_dim / 4u; i += THREADS) {
        let four = quad(shape, from_head, i, turns(shape, i, position));
        let a = four.a * factor;
        let b = four.b * factor;
        if is_q {
            let to = (token * params.heads + head) * params.head_dim;
            q[to + four.first] = a.x;
            q[to + four.first + 1u] = a.y;
            q[to + four.second] = b.x;
            q[to + four.second + 1u] = b.y;
        } else {
            @if(!kv_q8) {
                let kv_head = head - params.heads - select(0u, params.kv_heads, is_v);
                let to = (kv_head * params.context + position) * row_pairs(params.head_dim);
                if is_v {
                    v_cache[to + four.first / 2u] = to_pair(a);
                    v_cache[to + four.second / 2u] = to_pair(b);
                } else {
                    k_cache[to + four.first / 2u] = to_pair(a);
                    k_cache[to + four.second / 2u] = to_pair(b);
                }
            }
            @if(kv_q8) {
                made[four.first / 2u] = a;
                made[four.second / 2u] = b;
            }
        }
    }
    @if(kv_q8) {
        let kv_head = head - params.heads - select(0u, params.kv_heads, is_v);
        if !is_q { append_block(kv_head, position, is_v, lane); }
    }
}

// `made` into a cache, a block of it by a lane.
@if(kv_q8)
fn append_block(kv_head: u32, position: u32, is_v: bool, lane: u32) {
    let dim = params.head_dim;
    workgroupBarrier();
    if lane >= dim / 32u { return; }
    var v: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        v[i] = vec4(made[16u * lane + 2u * i], made[16u * lane + 2u * i + 1u]);
    }
    let block = to_bytes(v, 0.0);
    let head = kv_head * head_length(params.context, dim);
    let to = 4u * (head + row_at(position, dim) + 2u * lane);
    for (var i = 0u; i < 4u; i++) {
        append(to + i, block.lo[i], is_v);
        append(to + 4u + i, block.hi[i], is_v);
    }
    append(4u * (head + scales_at(position / 4u, position, lane, dim)) + position % 4u, block.head.x, is_v);
}

@if(kv_q8)
fn append(to: u32, word: u32, is_v: bool) {
    if is_v { v_cache[to] = word; } else { k_cache[to] = word; }
}
