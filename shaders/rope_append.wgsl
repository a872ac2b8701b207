// From the stacked projections [q heads | k heads | v heads] of each token: rotate q and k, normalise and scale them where
// the model does, write q to its own buffer and append k and v to the cache. One workgroup per head and token; a lane
// holds four elements, the two rotation pairs 2 i and 2 i + 1.

import package::shared::guard::halted;
import package::shared::cache::{Pair, to_pair};

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,     // a multiple of 4
    stride: u32,       // row length of qkv
    context: u32,      // positions in the cache
    rotate: u32,       // 0: no rotation, 1: adjacent pairs (0,1), (2,3), 2: halves (0,n), (1,n+1)
    coarse_rows: u32,  // rows of the table that count in steps of FINE positions; FINE rows of single steps follow
    normalize: u32,    // 1: q and k divided by the root of their mean square, after the rotation
    eps: f32,
    floor_scale: f32,  // temperature: q *= log(1 + floor((position + 1) / floor_scale)) * temperature + 1
    temperature: f32,  // 0: none
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>; // [tokens, stride]
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>; // [coarse_rows + FINE, head_dim / 2] cosine, sine
@group(0) @binding(3) var<storage, read> step: array<u32>; // position of the first token, then the token ids
@group(0) @binding(4) var<storage, read_write> q: array<f32>; // [tokens, heads, head_dim]
@group(0) @binding(5) var<storage, read_write> k_cache: array<Pair>; // [kv_heads, context, head_dim / 2]
@group(0) @binding(6) var<storage, read_write> v_cache: array<Pair>; // [kv_heads, context, head_dim / 2]

const FINE: u32 = 256u;
const THREADS: u32 = 32u;
var<workgroup> partial: array<f32, THREADS>;

// Cosine and sine of position * frequency, put together from two table entries: (a + b) turned is a turned, turned by b.
fn angle(position: u32, pair: u32) -> vec2<f32> {
    let pairs = params.head_dim / 2u;
    let a = table[(position / FINE) * pairs + pair];
    let b = table[(params.coarse_rows + position % FINE) * pairs + pair];
    return vec2(a.x * b.x - a.y * b.y, a.y * b.x + a.x * b.y);
}

// floor(count / floor_scale). A division may be off by a few units in the last place, which a whole quotient would not survive.
fn whole_steps(count: f32) -> f32 {
    let steps = floor(count / params.floor_scale);
    if (steps + 1.0) * params.floor_scale <= count { return steps + 1.0; }
    if steps * params.floor_scale > count { return steps - 1.0; }
    return steps;
}

fn turn(v: vec2<f32>, by: vec2<f32>) -> vec2<f32> {
    return vec2(v.x * by.x - v.y * by.y, v.x * by.y + v.y * by.x);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if halted() { return; }
    let head = workgroup.x;
    let token = workgroup.y;
    let position = step[0] + token;
    let is_q = head < params.heads;
    let is_v = head >= params.heads + params.kv_heads;
    let from_head = token * params.stride + head * params.head_dim;
    let halves = params.rotate == 2u && !is_v;

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
    if is_q && params.temperature != 0.0 {
        factor *= log(1.0 + whole_steps(f32(position + 1u))) * params.temperature + 1.0;
    }

    for (var i = lane; i < params.head_dim / 4u; i += THREADS) {
        // The four elements in two runs of neighbours, as the cache packs them.
        let first = select(4u * i, 2u * i, halves);
        let second = select(4u * i + 2u, 2u * i + params.head_dim / 2u, halves);
        var a = vec2(qkv[from_head + first], qkv[from_head + first + 1u]);
        var b = vec2(qkv[from_head + second], qkv[from_head + second + 1u]);
        if params.rotate != 0u && !is_v {
            let by_0 = angle(position, 2u * i);
            let by_1 = angle(position, 2u * i + 1u);
            if halves {
                let p = turn(vec2(a.x, b.x), by_0);
                let r = turn(vec2(a.y, b.y), by_1);
                a = vec2(p.x, r.x);
                b = vec2(p.y, r.y);
            } else {
                a = turn(a, by_0);
                b = turn(b, by_1);
            }
        }
        a *= factor;
        b *= factor;
        if is_q {
            let to = (token * params.heads + head) * params.head_dim;
            q[to + first] = a.x;
            q[to + first + 1u] = a.y;
            q[to + second] = b.x;
            q[to + second + 1u] = b.y;
        } else {
            let kv_head = (head - params.heads) % params.kv_heads;
            let to = (kv_head * params.context + position) * params.head_dim / 2u;
            if is_v {
                v_cache[to + first / 2u] = to_pair(a);
                v_cache[to + second / 2u] = to_pair(b);
            } else {
                k_cache[to + first / 2u] = to_pair(a);
                k_cache[to + second / 2u] = to_pair(b);
            }
        }
    }
}
