// Causal attention of one token over the cache, with a running maximum and sum (flash attention). A workgroup computes up to
// HEADS of the heads that share a key, so that a key is loaded once for all of them. In a tile of keys a lane scores four of them
// at a time, and then sums up sixteen dimensions of the values of every few keys. Where workgroups share the keys, each has a
// span of them, and `merge_attention` puts their results together.
//
// It does the work of `rope_append` too: workgroups turn their queries and the token's key themselves, the first of those that
// have that key appends it, and nobody reads from the cache what is only being written.

import package::shared::guard::halted;
@if(!kv_q8) import package::shared::cache::{Four, from_four, from_pair, row_length, to_four, to_pair};
@if(kv_q8) import package::shared::cache::{from_word, row_length};
import package::shared::rotation::{Quad, Rotation, quad, qkv, temperature_at};
import package::shared::spans::{TILE, span_count};
import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32, // a multiple of 4, of 32 for bytes, at most 4 * QUADS
    context: u32,  // positions in the cache
    chunk: u32,    // a query sees only keys of its own chunk of this many positions; 0: all
    scale: f32,
    spans: u32,    // workgroups that share the keys, see span_count
    batches: u32,  // workgroups that share the heads of a key
    to_bytes: u32, // 1: out is bytes; then head_dim is a multiple of 32, and there is one span
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
@group(0) @binding(4) var<storage, read_write> out: array<vec4<u32>>; // bits of [heads * head_dim / 4], or [heads * head_dim / 32, 3], see shared/blocks; of several spans [spans, heads, 1 + head_dim / 4], the first being (highest score, sum of weights, 0, 0)
@if(!kv_q8) @group(0) @binding(5) var<storage, read_write> k_cache: array<Four>; // [kv_heads, context, head_dim / 4]
@if(!kv_q8) @group(0) @binding(6) var<storage, read_write> v_cache: array<Four>; // [kv_heads, context, head_dim / 4]
@if(kv_q8) @group(0) @binding(5) var<storage, read_write> k_cache: array<vec4<u32>>; // [kv_heads, context, row_length], see shared/cache
@if(kv_q8) @group(0) @binding(6) var<storage, read_write> v_cache: array<vec4<u32>>; // [kv_heads, context, row_length], see shared/cache

const THREADS: u32 = 32u;
@if(heads_1) const HEADS: u32 = 1u;
@if(heads_2) const HEADS: u32 = 2u;
@if(heads_3) const HEADS: u32 = 3u;
@if(heads_4) const HEADS: u32 = 4u;
@if(narrow) const QUADS: u32 = 16u; // heads of up to 64 dimensions
@if(!narrow) const QUADS: u32 = 64u; // heads of up to 256 dimensions
const FOURS: u32 = TILE / 4u;
const LOWEST: f32 = -3.4e38;
var<workgroup> query: array<vec2<f32>, HEADS * QUADS * 2u>;
// The same in whole vectors, where memory allows: scoring four keys takes as many loads of queries as of keys.
@if(narrow)
var<workgroup> whole_query: array<vec4<f32>, HEADS * QUADS>;
var<workgroup> new_key: array<vec2<f32>, QUADS * 2u>;
var<workgroup> new_value: array<vec2<f32>, QUADS * 2u>;
@if(kv_q8) const MOST_BLOCKS: u32 = QUADS / 8u;
// The bytes of the new key and then of the new value, and their scales.
@if(kv_q8) var<workgroup> new_bytes: array<vec4<u32>, 4u * MOST_BLOCKS>;
@if(kv_q8) var<workgroup> new_scales: array<f32, 2u * MOST_BLOCKS>;
var<workgroup> scores: array<vec4<f32>, HEADS * FOURS>; // then weights, in the end the result
var<workgroup> of_lanes: array<f32, (HEADS + 1u) * THREADS>;
var<workgroup> key_count: u32;

// Queries and the new key and value in workgroup memory. Of heads that are not there the last one is taken again.
fn prepare(kv_head: u32, batch: u32, position: u32, lane: u32) {
    let sharing = params.heads / params.kv_heads;
    let dim = params.head_dim;
    let from_k = (params.heads + kv_head) * dim;
    let from_v = (params.heads + params.kv_heads + kv_head) * dim;
    var from_q: array<u32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        from_q[h] = (kv_head * sharing + min(batch * HEADS + h, sharing - 1u)) * dim;
    }
    var q_factors: array<f32, HEADS>;
    var k_factor = 1.0;
    for (var h = 0u; h < HEADS; h++) {
        q_factors[h] = 1.0;
    }
    if params.normalize == 1u {
        // A rotation keeps the length, so that the sum of squares can be taken before it.
        for (var h = 0u; h < HEADS; h++) {
            var sum = 0.0;
            for (var i = lane; i < dim; i += THREADS) {
                sum += qkv[from_q[h] + i] * qkv[from_q[h] + i];
            }
            of_lanes[h * THREADS + lane] = sum;
        }
        var sum = 0.0;
        for (var i = lane; i < dim; i += THREADS) {
            sum += qkv[from_k + i] * qkv[from_k + i];
        }
        of_lanes[HEADS * THREADS + lane] = sum;
        workgroupBarrier();
        for (var h = 0u; h < HEADS; h++) {
            q_factors[h] = inverseSqrt(sum_of_lanes(h) / f32(dim) + params.eps);
        }
        k_factor = inverseSqrt(sum_of_lanes(HEADS) / f32(dim) + params.eps);
    }
    let q_scale = temperature_at(position, params.floor_scale, params.temperature) * params.scale;

    let shape = Rotation(dim, params.rotate, params.coarse_rows);
    for (var i = lane; i < dim / 4u; i += THREADS) {
        for (var h = 0u; h < HEADS; h++) {
            let q = quad(shape, from_q[h], i, position, false);
            query[h * QUADS * 2u + q.first / 2u] = q.a * (q_factors[h] * q_scale);
            query[h * QUADS * 2u + q.second / 2u] = q.b * (q_factors[h] * q_scale);
        }
        let k = quad(shape, from_k, i, position, false);
        new_key[k.first / 2u] = stored(k.a * k_factor);
        new_key[k.second / 2u] = stored(k.b * k_factor);
        let v = quad(shape, from_v, i, position, true);
        new_value[v.first / 2u] = stored(v.a);
        new_value[v.second / 2u] = stored(v.b);
    }
    workgroupBarrier();
    @if(kv_q8) {
        store_blocks(lane);
    }
    @if(narrow) {
        for (var i = lane; i < HEADS * QUADS; i += THREADS) {
            whole_query[i] = vec4(query[2u * i], query[2u * i + 1u]);
        }
    }
    @if(narrow || kv_q8) {
        workgroupBarrier();
    }
}

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
fn store_blocks(lane: u32) {
    let block = lane % MOST_BLOCKS;
    let is_value = lane >= MOST_BLOCKS;
    if lane >= 2u * MOST_BLOCKS { return; }
    var scale = 0.0;
    if block < params.head_dim / 32u {
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
            let read = scale * from_word(word);
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

fn sum_of_lanes(row: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < THREADS; i++) {
        sum += of_lanes[row * THREADS + i];
    }
    return sum;
}

@if(narrow)
fn query_at(h: u32, i: u32) -> vec4<f32> {
    return whole_query[h * QUADS + i];
}

@if(!narrow)
fn query_at(h: u32, i: u32) -> vec4<f32> {
    let at = (h * QUADS + i) * 2u;
    return vec4(query[at], query[at + 1u]);
}

// The new key and value into the rows that begin at `to`.
@if(!kv_q8)
fn append(to: u32, quads: u32, lane: u32) {
    for (var i = lane; i < quads; i += THREADS) {
        k_cache[to + i] = to_four(vec4(new_key[2u * i], new_key[2u * i + 1u]));
        v_cache[to + i] = to_four(vec4(new_value[2u * i], new_value[2u * i + 1u]));
    }
}

@if(kv_q8)
fn append(to: u32, quads: u32, lane: u32) {
    let sixteens = quads / 4u;
    if lane < sixteens {
        k_cache[to + lane] = new_bytes[lane];
        v_cache[to + lane] = new_bytes[2u * MOST_BLOCKS + lane];
    }
    // What there are no blocks for is zero.
    if lane < (sixteens + 7u) / 8u {
        k_cache[to + sixteens + lane] = scales_from(4u * lane, 0u);
        v_cache[to + sixteens + lane] = scales_from(4u * lane, MOST_BLOCKS);
    }
}

@if(kv_q8)
fn scales_from(block: u32, first: u32) -> vec4<u32> {
    var scales = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        if block + i < MOST_BLOCKS { scales[i] = new_scales[first + block + i]; }
    }
    return bitcast<vec4<u32>>(scales);
}

// The queries times four keys, whose rows begin at `at`.
@if(!kv_q8)
fn products_of_keys(at: vec4<u32>, quads: u32) -> array<vec4<f32>, HEADS> {
    var products: array<vec4<f32>, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        products[h] = vec4(0.0);
    }
    for (var i = 0u; i < quads; i++) {
        let a = from_four(k_cache[at.x + i]);
        let b = from_four(k_cache[at.y + i]);
        let c = from_four(k_cache[at.z + i]);
        let d = from_four(k_cache[at.w + i]);
        for (var h = 0u; h < HEADS; h++) {
            let q = query_at(h, i);
            products[h] += vec4(dot(a, q), dot(b, q), dot(c, q), dot(d, q));
        }
    }
    return products;
}

@if(kv_q8)
fn products_of_keys(at: vec4<u32>, quads: u32) -> array<vec4<f32>, HEADS> {
    var products: array<vec4<f32>, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        products[h] = vec4(0.0);
    }
    for (var block = 0u; block < quads / 8u; block++) {
        let to_scale = at + quads / 4u + block / 4u;
        let scale = bitcast<vec4<f32>>(vec4(
            k_cache[to_scale.x][block % 4u], k_cache[to_scale.y][block % 4u],
            k_cache[to_scale.z][block % 4u], k_cache[to_scale.w][block % 4u]
        ));
        var sums: array<vec4<f32>, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            sums[h] = vec4(0.0);
        }
        for (var sixteen = 2u * block; sixteen < 2u * block + 2u; sixteen++) {
            let a = k_cache[at.x + sixteen];
            let b = k_cache[at.y + sixteen];
            let c = k_cache[at.z + sixteen];
            let d = k_cache[at.w + sixteen];
            for (var i = 0u; i < 4u; i++) {
                let four_a = from_word(a[i]);
                let four_b = from_word(b[i]);
                let four_c = from_word(c[i]);
                let four_d = from_word(d[i]);
                for (var h = 0u; h < HEADS; h++) {
                    let q = query_at(h, 4u * sixteen + i);
                    sums[h] += vec4(dot(four_a, q), dot(four_b, q), dot(four_c, q), dot(four_d, q));
                }
            }
        }
        for (var h = 0u; h < HEADS; h++) {
            products[h] += scale * sums[h];
        }
    }
    return products;
}

// Four dimensions of the weighted values, summed up by every slot.
fn result(h: u32, quad: u32, slots: u32, spread: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var slot = 0u; slot < slots; slot++) {
        sum += scores[h * FOURS + slot * spread + quad];
    }
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if halted() { return; }
    let kv_head = workgroup.y / params.batches;
    let batch = workgroup.y % params.batches;
    let position = step[0];
    var first = 0u;
    if params.chunk != 0u { first = position / params.chunk * params.chunk; }
    let span = workgroup.x;
    if span >= span_count(position - first, params.spans) { return; }
    if lane == 0u { key_count = position - first; }
    prepare(kv_head, batch, position, lane);
    // The same for all lanes, but from storage: the barriers in the loop need a bound that is uniform for the compiler too.
    let count = workgroupUniformLoad(&key_count);

    let quads = params.head_dim / 4u;
    let row_vectors = row_length(params.head_dim);
    let cache_head = kv_head * params.context * row_vectors;
    // Sixteen dimensions for each lane, and as many keys at once as there are lanes for.
    let parts = (quads + 3u) / 4u;
    let slots = THREADS / parts;
    let part = lane % parts;
    let slot = lane / parts;

    var highest: array<f32, HEADS>;
    var total: array<f32, HEADS>; // of this lane's keys
    var sums: array<vec4<f32>, HEADS * 4u>; // of this slot's keys
    for (var h = 0u; h < HEADS; h++) {
        highest[h] = LOWEST;
        total[h] = 0.0;
    }
    for (var i = 0u; i < HEADS * 4u; i++) {
        sums[i] = vec4(0.0);
    }
    if span == 0u {
        for (var h = 0u; h < HEADS; h++) {
            var sum = vec4(0.0);
            for (var i = 0u; i < quads; i++) {
                sum += vec4(new_key[2u * i], new_key[2u * i + 1u]) * query_at(h, i);
            }
            highest[h] = sum.x + sum.y + sum.z + sum.w;
            if lane == 0u { total[h] = 1.0; }
        }
        if slot == 0u {
            for (var i = 0u; i < HEADS * 4u; i++) {
                let at = 2u * min(4u * part + i % 4u, quads - 1u);
                sums[i] = vec4(new_value[at], new_value[at + 1u]);
            }
        }
        if batch == 0u { append(cache_head + position * row_vectors, quads, lane); }
    }

    for (var tile = span * TILE; tile < count; tile += params.spans * TILE) {
        let keys = min(count - tile, TILE);
        let fours = (keys + 3u) / 4u;
        let row = cache_head + (first + tile) * row_vectors;

        var above: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            above[h] = highest[h];
        }
        for (var four = lane; four < fours; four += THREADS) {
            let at = vec4(row) + min(vec4(4u * four) + vec4(0u, 1u, 2u, 3u), vec4(keys - 1u)) * row_vectors;
            let products = products_of_keys(at, quads);
            let there = vec4(4u * four) + vec4(0u, 1u, 2u, 3u) < vec4(keys);
            for (var h = 0u; h < HEADS; h++) {
                let score = select(vec4(LOWEST), products[h], there);
                scores[h * FOURS + four] = score;
                above[h] = max(above[h], max(max(score.x, score.y), max(score.z, score.w)));
            }
        }
        for (var h = 0u; h < HEADS; h++) {
            of_lanes[h * THREADS + lane] = above[h];
        }
        workgroupBarrier();

        for (var h = 0u; h < HEADS; h++) {
            let before = highest[h];
            for (var i = 0u; i < THREADS; i++) {
                highest[h] = max(highest[h], of_lanes[h * THREADS + i]);
            }
            let rescale = exp(before - highest[h]);
            total[h] *= rescale;
            for (var i = 0u; i < 4u; i++) {
                sums[4u * h + i] *= rescale;
            }
        }
        for (var four = lane; four < fours; four += THREADS) {
            for (var h = 0u; h < HEADS; h++) {
                let weight = exp(scores[h * FOURS + four] - highest[h]);
                scores[h * FOURS + four] = weight;
                total[h] += weight.x + weight.y + weight.z + weight.w;
            }
        }
        workgroupBarrier();

        if slot < slots {
            for (var four = slot; four < fours; four += slots) {
                let at = vec4(row) + min(vec4(4u * four) + vec4(0u, 1u, 2u, 3u), vec4(keys - 1u)) * row_vectors;
                var weights: array<vec4<f32>, HEADS>;
                for (var h = 0u; h < HEADS; h++) {
                    weights[h] = scores[h * FOURS + four];
                }
                @if(!kv_q8) {
                    for (var i = 0u; i < 4u; i++) {
                        let quad = min(4u * part + i, quads - 1u);
                        let a = from_four(v_cache[at.x + quad]);
                        let b = from_four(v_cache[at.y + quad]);
                        let c = from_four(v_cache[at.z + quad]);
                        let d = from_four(v_cache[at.w + quad]);
                        for (var h = 0u; h < HEADS; h++) {
                            let w = weights[h];
                            sums[4u * h + i] += w.x * a + w.y * b + w.z * c + w.w * d;
                        }
                    }
                }
                @if(kv_q8) {
                    let a = v_cache[at.x + part];
                    let b = v_cache[at.y + part];
                    let c = v_cache[at.z + part];
                    let d = v_cache[at.w + part];
                    let to_scale = at + quads / 4u + part / 8u;
                    let block = part / 2u % 4u;
                    let scale = bitcast<vec4<f32>>(vec4(
                        v_cache[to_scale.x][block], v_cache[to_scale.y][block], v_cache[to_scale.z][block], v_cache[to_scale.w][block]
                    ));
                    for (var h = 0u; h < HEADS; h++) {
                        weights[h] *= scale;
                    }
                    for (var i = 0u; i < 4u; i++) {
                        let four_a = from_word(a[i]);
                        let four_b = from_word(b[i]);
                        let four_c = from_word(c[i]);
                        let four_d = from_word(d[i]);
                        for (var h = 0u; h < HEADS; h++) {
                            let w = weights[h];
                            sums[4u * h + i] += w.x * four_a + w.y * four_b + w.z * four_c + w.w * four_d;
                        }
                    }
                }
            }
        }
        workgroupBarrier();
    }

    for (var h = 0u; h < HEADS; h++) {
        of_lanes[h * THREADS + lane] = total[h];
        if slot < slots {
            for (var i = 0u; i < 4u; i++) {
                scores[h * FOURS + 4u * lane + i] = sums[4u * h + i];
            }
        }
    }
    workgroupBarrier();
    let sharing = params.heads / params.kv_heads;
    let first_head = kv_head * sharing + batch * HEADS;
    let there = min(HEADS, sharing - batch * HEADS);
    let spread = 4u * parts;
    if params.to_bytes == 1u {
        // A lane makes a block.
        let blocks = quads / 8u;
        let h = lane / blocks;
        if h >= there { return; }
        let total_weight = sum_of_lanes(h);
        var v: array<vec4<f32>, 8>;
        for (var i = 0u; i < 8u; i++) {
            v[i] = result(h, lane % blocks * 8u + i, slots, spread) / total_weight;
        }
        let made = to_bytes(v, 0.0);
        let to = ((first_head + h) * blocks + lane % blocks) * 3u;
        out[to] = made.head;
        out[to + 1u] = made.lo;
        out[to + 2u] = made.hi;
        return;
    }
    for (var h = 0u; h < there; h++) {
        let head = first_head + h;
        let total_weight = sum_of_lanes(h);
        var to = head * quads;
        var divisor = total_weight;
        if params.spans > 1u {
            to = (span * params.heads + head) * (quads + 1u) + 1u;
            divisor = 1.0;
            if lane == 0u { out[to - 1u] = bitcast<vec4<u32>>(vec4(highest[h], total_weight, 0.0, 0.0)); }
        }
        for (var i = lane; i < quads; i += THREADS) {
            out[to + i] = bitcast<vec4<u32>>(result(h, i, slots, spread) / divisor);
        }
    }
}
