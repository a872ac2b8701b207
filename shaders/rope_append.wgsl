// From the stacked projections [q heads | k heads | v heads] of each token: rotate q and k, normalise and scale them where
// the model does, write q to its own buffer and append k and v to the cache. One workgroup per head and token; a lane
// holds four elements, the two rotation pairs 2 i and 2 i + 1.

import package::shared::guard::halted;
import package::shared::cache::{Pair, to_pair};
import package::shared::rotation::{Quad, Rotation, quad, qkv, temperature_at};

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,     // a multiple of 4
    stride: u32,       // row length of qkv
    context: u32,      // positions in the cache
    rotate: u32,       // see shared/rotation
    coarse_rows: u32,
    normalize: u32,    // 1: q and k divided by the root of their mean square, after the rotation
    eps: f32,
    floor_scale: f32,  // temperature: q *= log(1 + floor((position + 1) / floor_scale)) * temperature + 1
    temperature: f32,  // 0: none
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> step: array<u32>; // position of the first token, then the token ids
@group(0) @binding(4) var<storage, read_write> q: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(5) var<storage, read_write> k_cache: array<Pair>; // [kv_heads, context, head_dim / 2]
@group(0) @binding(6) var<storage, read_write> v_cache: array<Pair>; // [kv_heads, context, head_dim / 2]

const THREADS: u32 = 32u;
var<workgroup> partial: array<f32, THREADS>;

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
    if params.normalize == 1u {
        // A rotation keeps the length, so that the sum of squares can be taken before it.
        var squares = 0.0;
        for (var i = lane; i < params.head_dim; i += THREADS) {
            squares += qkv[from_head + i] * qkv[from_head + i];
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

    let shape = Rotation(params.head_dim, params.rotate, params.coarse_rows);
    for (var i = lane; i < params.head_dim / 4u; i += THREADS) {
        let four = quad(shape, from_head, i, position, is_v);
        let a = four.a * factor;
        let b = four.b * factor;
        if is_q {
            let to = (token * params.heads + head) * params.head_dim;
            q[to + four.first] = a.x;
            q[to + four.first + 1u] = a.y;
            q[to + four.second] = b.x;
            q[to + four.second + 1u] = b.y;
        } else {
            let kv_head = (head - params.heads) % params.kv_heads;
            let to = (kv_head * params.context + position) * params.head_dim / 2u;
            if is_v {
                v_cache[to + four.first / 2u] = to_pair(a);
                v_cache[to + four.second / 2u] = to_pair(b);
            } else {
                k_cache[to + four.first / 2u] = to_pair(a);
                k_cache[to + four.second / 2u] = to_pair(b);
            }
        }
    }
}
