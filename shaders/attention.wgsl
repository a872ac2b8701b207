// Causal attention of one token over the cache. A workgroup has a tile of the keys and up to HEADS of the heads that share them, so
// that a key is loaded once for all of those heads. A lane scores eight keys at a time, and then sums up some dimensions of the values
// of a range of keys. Where there are several tiles, `merge_attention` puts together what they come to (flash attention).
//
// It does the work of `rope_append` too: workgroups turn their queries and the token's key themselves, the first of those that
// have that key appends it, and nobody reads from the cache what is only being written.
//
// Loops have no barriers within them: software adapters make of a barrier the suspension of a function, and keep in memory, not in
// registers, whatever such a loop carries along.

import package::shared::guard::halted;
import package::shared::cache::{QUADS_OF_VECTOR, quad_of, row_length};
@if(!kv_q8) import package::shared::newest::{QUADS, THREADS, append, k_cache, new_key, new_value, stored, v_cache};
@if(kv_q8) import package::shared::newest::{QUADS, THREADS, append, k_cache, new_key, new_value, store_blocks, stored, v_cache};
import package::shared::rotation::{Quad, Rotation, quad, qkv, temperature_at};
import package::shared::spans::span_count;
import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32, // a multiple of 4, of 32 for bytes, at most 4 * QUADS
    context: u32,  // positions in the cache
    chunk: u32,    // a query sees only keys of its own chunk of this many positions; 0: all
    scale: f32,
    spans: u32,    // most tiles that there can be
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

@if(heads_1) const HEADS: u32 = 1u;
@if(heads_2) const HEADS: u32 = 2u;
@if(heads_3) const HEADS: u32 = 3u;
@if(heads_4) const HEADS: u32 = 4u;
// Keys of a workgroup, as memory for their scores allows.
@if(long_tiles) const TILE: u32 = 1024u;
@if(!long_tiles) const TILE: u32 = 512u;
const FOURS: u32 = TILE / 4u;
// Sixteen dimensions of values that a lane sums up.
const PART: u32 = 4u;
const PART_VECTORS: u32 = PART / QUADS_OF_VECTOR;
const LOWEST: f32 = -3.4e38;

var<workgroup> query: array<vec2<f32>, HEADS * QUADS * 2u>;
// The same in whole vectors, where memory allows.
@if(narrow)
var<workgroup> whole_query: array<vec4<f32>, HEADS * QUADS>;
var<workgroup> scores: array<vec4<f32>, HEADS * FOURS>; // then weights, in the end the result
// Of each lane, one number for each head. A lane writes a whole vector: to write an element of one may be to write all of it.
var<workgroup> of_lanes: array<vec4<f32>, THREADS>;
var<workgroup> squares: array<f32, THREADS>; // of the key

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
        var of_queries: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            of_queries[h] = 0.0;
            for (var i = lane; i < dim; i += THREADS) {
                of_queries[h] += qkv[from_q[h] + i] * qkv[from_q[h] + i];
            }
        }
        var of_key = 0.0;
        for (var i = lane; i < dim; i += THREADS) {
            of_key += qkv[from_k + i] * qkv[from_k + i];
        }
        of_lanes[lane] = of_heads(of_queries);
        squares[lane] = of_key;
        workgroupBarrier();
        let sums = sum_of_lanes();
        for (var h = 0u; h < HEADS; h++) {
            q_factors[h] = inverseSqrt(sums[h] / f32(dim) + params.eps);
        }
        var sum = 0.0;
        for (var i = 0u; i < THREADS; i++) {
            sum += squares[i];
        }
        k_factor = inverseSqrt(sum / f32(dim) + params.eps);
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
    @if(!kv_q8 && !kv_f32) {
        // What pads the last vector of a row is multiplied too.
        if lane == 0u && dim % 8u != 0u {
            for (var i = dim / 2u; i < dim / 2u + 2u; i++) {
                for (var h = 0u; h < HEADS; h++) {
                    query[h * QUADS * 2u + i] = vec2(0.0);
                }
                new_key[i] = vec2(0.0);
                new_value[i] = vec2(0.0);
            }
        }
    }
    workgroupBarrier();
    @if(kv_q8) {
        store_blocks(dim, lane);
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

fn of_heads(numbers: array<f32, HEADS>) -> vec4<f32> {
    var all = vec4(0.0);
    for (var h = 0u; h < HEADS; h++) {
        all[h] = numbers[h];
    }
    return all;
}

// For each head.
fn sum_of_lanes() -> vec4<f32> {
    var sum = vec4(0.0);
    for (var i = 0u; i < THREADS; i++) {
        sum += of_lanes[i];
    }
    return sum;
}

fn highest_of_lanes() -> vec4<f32> {
    var highest = vec4(LOWEST);
    for (var i = 0u; i < THREADS; i++) {
        highest = max(highest, of_lanes[i]);
    }
    return highest;
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

// What the queries times eight keys come to.
struct Products { lo: array<vec4<f32>, HEADS>, hi: array<vec4<f32>, HEADS> }

fn no_products() -> Products {
    var products: Products;
    for (var h = 0u; h < HEADS; h++) {
        products.lo[h] = vec4(0.0);
        products.hi[h] = vec4(0.0);
    }
    return products;
}

// Adds those of the vectors i of the rows that begin at `lo` and `hi`.
fn add_products(products: ptr<function, Products>, lo: vec4<u32>, hi: vec4<u32>, i: u32) {
    let a = k_cache[lo.x + i];
    let b = k_cache[lo.y + i];
    let c = k_cache[lo.z + i];
    let d = k_cache[lo.w + i];
    let e = k_cache[hi.x + i];
    let f = k_cache[hi.y + i];
    let g = k_cache[hi.z + i];
    let k = k_cache[hi.w + i];
    for (var j = 0u; j < QUADS_OF_VECTOR; j++) {
        let quad_a = quad_of(a, j);
        let quad_b = quad_of(b, j);
        let quad_c = quad_of(c, j);
        let quad_d = quad_of(d, j);
        let quad_e = quad_of(e, j);
        let quad_f = quad_of(f, j);
        let quad_g = quad_of(g, j);
        let quad_k = quad_of(k, j);
        for (var h = 0u; h < HEADS; h++) {
            let q = query_at(h, QUADS_OF_VECTOR * i + j);
            (*products).lo[h] += vec4(dot(quad_a, q), dot(quad_b, q), dot(quad_c, q), dot(quad_d, q));
            (*products).hi[h] += vec4(dot(quad_e, q), dot(quad_f, q), dot(quad_g, q), dot(quad_k, q));
        }
    }
}

// The queries times the eight keys whose rows begin at `lo` and `hi`.
@if(!kv_q8)
fn products_of_keys(lo: vec4<u32>, hi: vec4<u32>, quads: u32) -> Products {
    var products = no_products();
    for (var i = 0u; i < row_length(params.head_dim); i++) {
        add_products(&products, lo, hi, i);
    }
    return products;
}

@if(kv_q8)
fn products_of_keys(lo: vec4<u32>, hi: vec4<u32>, quads: u32) -> Products {
    var products = no_products();
    for (var block = 0u; block < quads / 8u; block++) {
        var sums = no_products();
        add_products(&sums, lo, hi, 2u * block);
        add_products(&sums, lo, hi, 2u * block + 1u);
        let to_scale = quads / 4u + block / 4u;
        let at = block % 4u;
        let scale_lo = bitcast<vec4<f32>>(vec4(
            k_cache[lo.x + to_scale][at], k_cache[lo.y + to_scale][at], k_cache[lo.z + to_scale][at], k_cache[lo.w + to_scale][at]
        ));
        let scale_hi = bitcast<vec4<f32>>(vec4(
            k_cache[hi.x + to_scale][at], k_cache[hi.y + to_scale][at], k_cache[hi.z + to_scale][at], k_cache[hi.w + to_scale][at]
        ));
        for (var h = 0u; h < HEADS; h++) {
            products.lo[h] += scale_lo * sums.lo[h];
            products.hi[h] += scale_hi * sums.hi[h];
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
    if span >= span_count(position - first, TILE) { return; }
    prepare(kv_head, batch, position, lane);

    let quads = params.head_dim / 4u;
    let row_vectors = row_length(params.head_dim);
    let cache_head = kv_head * params.context * row_vectors;
    let keys = min(position - first - span * TILE, TILE);
    let row = cache_head + (first + span * TILE) * row_vectors;
    if span == 0u && batch == 0u { append(cache_head + position * row_vectors, params.head_dim, lane); }

    // The first tile has the token's own key besides.
    var own: array<f32, HEADS>;
    var above: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        own[h] = LOWEST;
        if span == 0u {
            var products = vec4(0.0);
            for (var i = 0u; i < quads; i++) {
                products += vec4(new_key[2u * i], new_key[2u * i + 1u]) * query_at(h, i);
            }
            own[h] = products.x + products.y + products.z + products.w;
        }
        above[h] = own[h];
    }
    for (var eight = lane; 8u * eight < keys; eight += THREADS) {
        let lo = vec4(8u * eight) + vec4(0u, 1u, 2u, 3u);
        let hi = lo + vec4(4u);
        let last = vec4(keys - 1u);
        let products = products_of_keys(vec4(row) + min(lo, last) * row_vectors, vec4(row) + min(hi, last) * row_vectors, quads);
        for (var h = 0u; h < HEADS; h++) {
            let scores_lo = select(vec4(LOWEST), products.lo[h], lo < vec4(keys));
            let scores_hi = select(vec4(LOWEST), products.hi[h], hi < vec4(keys));
            scores[h * FOURS + 2u * eight] = scores_lo;
            scores[h * FOURS + 2u * eight + 1u] = scores_hi;
            let most = max(scores_lo, scores_hi);
            above[h] = max(above[h], max(max(most.x, most.y), max(most.z, most.w)));
        }
    }
    of_lanes[lane] = of_heads(above);
    workgroupBarrier();

    let fours = (keys + 3u) / 4u;
    let highest = highest_of_lanes();
    var total: array<f32, HEADS>; // of the lane's keys
    for (var h = 0u; h < HEADS; h++) {
        own[h] = exp(own[h] - highest[h]);
        total[h] = select(0.0, own[h], lane == 0u);
    }
    for (var four = lane; four < fours; four += THREADS) {
        for (var h = 0u; h < HEADS; h++) {
            let weight = exp(scores[h * FOURS + four] - highest[h]);
            scores[h * FOURS + four] = weight;
            total[h] += weight.x + weight.y + weight.z + weight.w;
        }
    }
    workgroupBarrier();

    // As many ranges of keys as there are lanes for. Those of a range lie together, so that memory is read in its order.
    let parts = (quads + PART - 1u) / PART;
    let slots = THREADS / parts;
    let part = lane % parts;
    let slot = lane / parts;
    let share = (fours + slots - 1u) / slots;
    var sums: array<vec4<f32>, HEADS * PART>;
    for (var h = 0u; h < HEADS; h++) {
        for (var i = 0u; i < PART; i++) {
            let at = 2u * min(PART * part + i, quads - 1u);
            sums[PART * h + i] = vec4(new_value[at], new_value[at + 1u]) * select(0.0, own[h], slot == 0u);
        }
    }
    for (var four = slot * share; four < min((slot + 1u) * share, fours); four++) {
        let at = vec4(row) + min(vec4(4u * four) + vec4(0u, 1u, 2u, 3u), vec4(keys - 1u)) * row_vectors;
        var weights: array<vec4<f32>, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            weights[h] = scores[h * FOURS + four];
        }
        @if(kv_q8) {
            let to_scale = at + quads / 4u + part * PART / 32u;
            let block = part * PART / 8u % 4u;
            let scale = bitcast<vec4<f32>>(vec4(
                v_cache[to_scale.x][block], v_cache[to_scale.y][block], v_cache[to_scale.z][block], v_cache[to_scale.w][block]
            ));
            for (var h = 0u; h < HEADS; h++) {
                weights[h] *= scale;
            }
        }
        for (var i = 0u; i < PART_VECTORS; i++) {
            let vector = min(PART_VECTORS * part + i, (quads - 1u) / QUADS_OF_VECTOR);
            let a = v_cache[at.x + vector];
            let b = v_cache[at.y + vector];
            let c = v_cache[at.z + vector];
            let d = v_cache[at.w + vector];
            for (var j = 0u; j < QUADS_OF_VECTOR; j++) {
                let quad_a = quad_of(a, j);
                let quad_b = quad_of(b, j);
                let quad_c = quad_of(c, j);
                let quad_d = quad_of(d, j);
                for (var h = 0u; h < HEADS; h++) {
                    let w = weights[h];
                    sums[PART * h + QUADS_OF_VECTOR * i + j] += w.x * quad_a + w.y * quad_b + w.z * quad_c + w.w * quad_d;
                }
            }
        }
    }
    workgroupBarrier();

    of_lanes[lane] = of_heads(total);
    if slot < slots {
        for (var h = 0u; h < HEADS; h++) {
            for (var i = 0u; i < PART; i++) {
                scores[h * FOURS + PART * lane + i] = sums[PART * h + i];
            }
        }
    }
    workgroupBarrier();
    let sharing = params.heads / params.kv_heads;
    let first_head = kv_head * sharing + batch * HEADS;
    let there = min(HEADS, sharing - batch * HEADS);
    let spread = PART * parts;
    let weights = sum_of_lanes();
    if params.to_bytes == 1u {
        // A lane makes a block.
        let blocks = quads / 8u;
        let h = lane / blocks;
        if h >= there { return; }
        var v: array<vec4<f32>, 8>;
        for (var i = 0u; i < 8u; i++) {
            v[i] = result(h, lane % blocks * 8u + i, slots, spread) / weights[h];
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
        var to = head * quads;
        var divisor = weights[h];
        if params.spans > 1u {
            to = (span * params.heads + head) * (quads + 1u) + 1u;
            divisor = 1.0;
            if lane == 0u { out[to - 1u] = bitcast<vec4<u32>>(vec4(highest[h], weights[h], 0.0, 0.0)); }
        }
        for (var i = lane; i < quads; i += THREADS) {
            out[to + i] = bitcast<vec4<u32>>(result(h, i, slots, spread) / divisor);
        }
    }
}
