// A token's own key and value of a head: in workgroup memory, as precise as later tokens will read them, and appended to the cache.

import package::shared::cache::{QUADS_OF_VECTOR, quad_of, row_at, row_length};
@if(kv_q8) import package::shared::cache::scales_at;
@if(!kv_q8) import package::shared::cache::{Pair, from_pair, to_pair};
@if(kv_q8) import package::shared::blocks::{Bytes, to_bytes};

@group(0) @binding(5) var<storage, read_write> k_cache: array<vec4<u32>>; // [kv_heads, head_length], see shared/cache
@group(0) @binding(6) var<storage, read_write> v_cache: array<vec4<u32>>; // [kv_heads, head_length], see shared/cache

// Lanes of a workgroup.
const THREADS: u32 = 32u;
@if(narrow) const QUADS: u32 = 16u; // heads of up to 64 dimensions
@if(!narrow) const QUADS: u32 = 64u; // heads of up to 256 dimensions

var<workgroup> new_key: array<vec2<f32>, QUADS * 2u>;
var<workgroup> new_value: array<vec2<f32>, QUADS * 2u>;
@if(kv_q8) const MOST_BLOCKS: u32 = QUADS / 8u;
// The bytes of the new key and then of the new value, and their scales.
@if(kv_q8) var<workgroup> new_bytes: array<vec4<u32>, 4u * MOST_BLOCKS>;
@if(kv_q8) var<workgroup> new_scales: array<f32, 2u * MOST_BLOCKS>;

// As precise as what later tokens will read.
@if(!kv_q8)
fn stored(pair: vec2<f32>) -> vec2<f32> {
    return from_pair(to_pair(pair));
}

// That takes whole blocks, see store_blocks.
@if(kv_q8)
fn stored(pair: vec2<f32>) -> vec2<f32> {
    return pair;
}

// A lane rounds a block of the new key or value.
@if(kv_q8)
fn store_blocks(head_dim: u32, lane: u32) {
    let block = lane % MOST_BLOCKS;
    let is_value = lane >= MOST_BLOCKS;
    if lane >= 2u * MOST_BLOCKS { return; }
    var scale = 0.0;
    if block < head_dim / 32u {
        var v: array<vec4<f32>, 8>;
        for (var i = 0u; i < 8u; i++) {
            let at = 16u * block + 2u * i;
            if is_value { v[i] = vec4(new_value[at], new_value[at + 1u]); } else { v[i] = vec4(new_key[at], new_key[at + 1u]); }
        }
        let made = to_bytes(v, 0.0);
        scale = bitcast<f32>(made.head.x);
        new_bytes[2u * lane] = made.lo;
        new_bytes[2u * lane + 1u] = made.hi;
        for (var i = 0u; i < 8u; i++) {
            let at = 16u * block + 2u * i;
            var word = 0u;
            if i < 4u { word = made.lo[i]; } else { word = made.hi[i - 4u]; }
            let read = scale * quad_of(vec4(word), 0u);
            if is_value {
                new_value[at] = read.xy;
                new_value[at + 1u] = read.zw;
            } else {
                new_key[at] = read.xy;
                new_key[at + 1u] = read.zw;
            }
        }
    }
    new_scales[lane] = scale;
}

// A vector of the new key's row, or of the value's.
@if(kv_f32)
fn new_vector(i: u32, is_value: bool) -> vec4<u32> {
    let key = vec4(new_key[2u * i], new_key[2u * i + 1u]);
    let value = vec4(new_value[2u * i], new_value[2u * i + 1u]);
    return bitcast<vec4<u32>>(select(key, value, is_value));
}

@if(!kv_f32 && !kv_q8)
fn new_vector(i: u32, is_value: bool) -> vec4<u32> {
    var words: vec4<u32>;
    for (var j = 0u; j < 4u; j++) {
        words[j] = to_pair(select(new_key[4u * i + j], new_value[4u * i + j], is_value));
    }
    return words;
}

// The new key and value into their caches, in which the head's begin at `head`.
@if(!kv_q8)
fn append(head: u32, position: u32, head_dim: u32, lane: u32) {
    let to = head + row_at(position, head_dim);
    for (var i = lane; i < row_length(head_dim); i += THREADS) {
        k_cache[to + i] = new_vector(i, false);
        v_cache[to + i] = new_vector(i, true);
    }
}

@if(kv_q8)
fn append(head: u32, position: u32, head_dim: u32, lane: u32) {
    let to = head + row_at(position, head_dim);
    if lane < head_dim / 16u {
        k_cache[to + lane] = new_bytes[lane];
        v_cache[to + lane] = new_bytes[2u * MOST_BLOCKS + lane];
    }
    // The other positions' scales are written again as they are.
    if lane < head_dim / 32u {
        let at = head + scales_at(position / 4u, position, lane, head_dim);
        k_cache[at] = replaced(k_cache[at], position % 4u, new_scales[lane]);
        v_cache[at] = replaced(v_cache[at], position % 4u, new_scales[MOST_BLOCKS + lane]);
    }
}

@if(kv_q8)
fn replaced(scales: vec4<u32>, place: u32, scale: f32) -> vec4<u32> {
    return select(scales, vec4(bitcast<u32>(scale)), vec4(place) == vec4(0u, 1u, 2u, 3u));
}
