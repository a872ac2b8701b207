// Causal attention of one token over the cache. A workgroup has a tile of the keys and up to HEADS of the heads that share them, so
// that a key is loaded once for all of those heads. A lane scores sixteen keys at a time, for which it loads the queries once, and
// then sums up some dimensions of the values of a range of keys. Where there are several tiles, `merge_attention` puts together what they
// come to (flash attention).
//
// It does the work of `rope_append` too: workgroups turn their queries and the token's key themselves, the first of those that
// have that key appends it, and nobody needs from the cache what is only being written. (Of a cache of bytes, four rows and the factors
// of four keys are loaded together: what is not there yet is left out, and the other factors are written again as they were.)
//
// Loops have no barriers within them: software adapters make of a barrier the suspension of a function, and keep in memory, not in
// registers, whatever such a loop carries along.

import package::shared::guard::halted;
import package::shared::cache::{Four, QUADS_OF_VECTOR, head_length, quads_of, row_length, rows_at};
@if(kv_q8) import package::shared::cache::scales_at;
@if(!kv_q8) import package::shared::newest::{QUADS, THREADS, append, k_cache, new_key, new_value, stored, v_cache};
@if(kv_q8) import package::shared::newest::{QUADS, THREADS, append, k_cache, new_key, new_value, store_blocks, stored, v_cache};
import package::shared::rotation::{Quad, Rotation, Turns, quad, qkv, temperature_at, turns};
import package::shared::spans::{span_count, span_origin};
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
const LOWEST: f32 = -3.4e38;

var<workgroup> query: array<vec2<f32>, HEADS * QUADS * 2u>;
// The same in whole vectors, where memory allows.
@if(narrow)
var<workgroup> whole_query: array<vec4<f32>, HEADS * QUADS>;
var<workgroup> scores: array<vec4<f32>, HEADS * FOURS>; // in the end the result
// Of each lane, one number for each head. A lane writes a whole vector: to write an element of one may be to write all of it.
var<workgroup> of_lanes: array<vec4<f32>, THREADS>;
var<workgroup> of_fours: array<vec4<f32>, THREADS / 4u>; // of four lanes each
// The same of the score of the token's own key, of which each lane has a part.
var<workgroup> own_of_lanes: array<vec4<f32>, THREADS>;
var<workgroup> own_of_fours: array<vec4<f32>, THREADS / 4u>;
@if(normalized)
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
    @if(normalized) {
        // A rotation keeps the length, so that the sum of squares can be taken before it.
        var of_queries: array<f32, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            of_queries[h] = 0.0;
            for (var i = lane; i < dim / 2u; i += THREADS) {
                let pair = qkv[from_q[h] / 2u + i];
                of_queries[h] += dot(pair, pair);
            }
        }
        var of_key = 0.0;
        for (var i = lane; i < dim / 2u; i += THREADS) {
            let pair = qkv[from_k / 2u + i];
            of_key += dot(pair, pair);
        }
        of_lanes[lane] = of_heads(of_queries);
        squares[lane] = of_key;
        workgroupBarrier();
        let sums = sum_of_lanes(1u, THREADS);
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
    let unturned = Rotation(dim, 0u, params.coarse_rows);
    for (var i = lane; i < dim / 4u; i += THREADS) {
        let by = turns(shape, i, position);
        for (var h = 0u; h < HEADS; h++) {
            let q = quad(shape, from_q[h], i, by);
            query[h * QUADS * 2u + q.first / 2u] = q.a * (q_factors[h] * q_scale);
            query[h * QUADS * 2u + q.second / 2u] = q.b * (q_factors[h] * q_scale);
        }
        let k = quad(shape, from_k, i, by);
        new_key[k.first / 2u] = stored(k.a * k_factor);
        new_key[k.second / 2u] = stored(k.b * k_factor);
        let v = quad(unturned, from_v, i, by);
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

// For each head, of so many lanes that are `apart` from each other.
fn sum_of_lanes(apart: u32, count: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var i = 0u; i < count; i++) {
        sum += of_lanes[i * apart];
    }
    return sum;
}

// The highest scores of all lanes, and what their parts of the own key's come to.
struct Found { highest: vec4<f32>, own: vec4<f32> }

// In two steps: what every lane loads costs software adapters more than another barrier.
fn found_by_lanes(lane: u32) -> Found {
    if lane < THREADS / 4u {
        let begin = 4u * lane;
        of_fours[lane] = max(max(of_lanes[begin], of_lanes[begin + 1u]), max(of_lanes[begin + 2u], of_lanes[begin + 3u]));
        own_of_fours[lane] = own_of_lanes[begin] + own_of_lanes[begin + 1u] + own_of_lanes[begin + 2u] + own_of_lanes[begin + 3u];
    }
    workgroupBarrier();
    var found = Found(vec4(LOWEST), vec4(0.0));
    for (var i = 0u; i < THREADS / 4u; i++) {
        found.highest = max(found.highest, of_fours[i]);
        found.own += own_of_fours[i];
    }
    return found;
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

// What the queries times sixteen keys come to.
struct Products { a: array<vec4<f32>, HEADS>, b: array<vec4<f32>, HEADS>, c: array<vec4<f32>, HEADS>, d: array<vec4<f32>, HEADS> }

// Where the rows of those keys begin.
struct Rows { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn keys_at(rows: vec4<u32>, i: u32) -> Four {
    return Four(k_cache[rows.x + i], k_cache[rows.y + i], k_cache[rows.z + i], k_cache[rows.w + i]);
}

fn values_at(rows: vec4<u32>, i: u32) -> Four {
    return Four(v_cache[rows.x + i], v_cache[rows.y + i], v_cache[rows.z + i], v_cache[rows.w + i]);
}

// From here on what would be loops over heads and quads is written out: Mesa unrolls no loop of so much and SwiftShader none at all,
// and what is indexed in a loop leaves the registers.

// Adds the products of the keys' vectors i.
fn add_products(sums: ptr<function, Products>, rows: Rows, i: u32) {
    let a = keys_at(rows.a, i);
    let b = keys_at(rows.b, i);
    let c = keys_at(rows.c, i);
    let d = keys_at(rows.d, i);
    add_quad(sums, a, b, c, d, i, 0u);
    @if(!kv_f32) add_quad(sums, a, b, c, d, i, 1u);
    @if(kv_q8) add_quad(sums, a, b, c, d, i, 2u);
    @if(kv_q8) add_quad(sums, a, b, c, d, i, 3u);
}

fn add_quad(sums: ptr<function, Products>, a: Four, b: Four, c: Four, d: Four, i: u32, quad: u32) {
    let keys_a = quads_of(a, quad);
    let keys_b = quads_of(b, quad);
    let keys_c = quads_of(c, quad);
    let keys_d = quads_of(d, quad);
    let at = QUADS_OF_VECTOR * i + quad;
    add_head(sums, keys_a, keys_b, keys_c, keys_d, at, 0u);
    @if(heads_2 || heads_3 || heads_4) add_head(sums, keys_a, keys_b, keys_c, keys_d, at, 1u);
    @if(heads_3 || heads_4) add_head(sums, keys_a, keys_b, keys_c, keys_d, at, 2u);
    @if(heads_4) add_head(sums, keys_a, keys_b, keys_c, keys_d, at, 3u);
}

fn add_head(sums: ptr<function, Products>, a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>, at: u32, h: u32) {
    let q = query_at(h, at);
    (*sums).a[h] += q * a;
    (*sums).b[h] += q * b;
    (*sums).c[h] += q * c;
    (*sums).d[h] += q * d;
}

// Of sixteen keys, whose first are four times `four`. `cache` is where the head's begin.
@if(!kv_q8)
fn products_of_keys(cache: u32, four: u32, last: u32) -> Products {
    var products: Products;
    let rows = rows_of_keys(cache, four, last);
    for (var i = 0u; i < row_length(params.head_dim); i++) {
        add_products(&products, rows, i);
    }
    return products;
}

@if(kv_q8)
fn products_of_keys(cache: u32, four: u32, last: u32) -> Products {
    var products: Products;
    let rows = rows_of_keys(cache, four, last);
    for (var block = 0u; block < params.head_dim / 32u; block++) {
        var sums: Products;
        add_products(&sums, rows, 2u * block);
        add_products(&sums, rows, 2u * block + 1u);
        let a = bitcast<vec4<f32>>(k_cache[cache + scales_at(four, last, block, params.head_dim)]);
        let b = bitcast<vec4<f32>>(k_cache[cache + scales_at(four + 1u, last, block, params.head_dim)]);
        let c = bitcast<vec4<f32>>(k_cache[cache + scales_at(four + 2u, last, block, params.head_dim)]);
        let d = bitcast<vec4<f32>>(k_cache[cache + scales_at(four + 3u, last, block, params.head_dim)]);
        add_scaled(&products, sums, a, b, c, d, 0u);
        @if(heads_2 || heads_3 || heads_4) add_scaled(&products, sums, a, b, c, d, 1u);
        @if(heads_3 || heads_4) add_scaled(&products, sums, a, b, c, d, 2u);
        @if(heads_4) add_scaled(&products, sums, a, b, c, d, 3u);
    }
    return products;
}

@if(kv_q8)
fn add_scaled(products: ptr<function, Products>, sums: Products, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, h: u32) {
    (*products).a[h] += a * sums.a[h];
    (*products).b[h] += b * sums.b[h];
    (*products).c[h] += c * sums.c[h];
    (*products).d[h] += d * sums.d[h];
}

fn rows_of_keys(cache: u32, four: u32, last: u32) -> Rows {
    let dim = params.head_dim;
    return Rows(
        vec4(cache) + rows_at(four, last, dim), vec4(cache) + rows_at(four + 1u, last, dim),
        vec4(cache) + rows_at(four + 2u, last, dim), vec4(cache) + rows_at(four + 3u, last, dim),
    );
}

// Weighted values of four keys: adds those of a lane's vector i.
fn add_values(sums: ptr<function, array<vec4<f32>, HEADS * PART>>, values: Four, weights: array<vec4<f32>, HEADS>, i: u32) {
    add_weighted(sums, quads_of(values, 0u), weights, QUADS_OF_VECTOR * i);
    @if(!kv_f32) add_weighted(sums, quads_of(values, 1u), weights, QUADS_OF_VECTOR * i + 1u);
    @if(kv_q8) add_weighted(sums, quads_of(values, 2u), weights, 2u);
    @if(kv_q8) add_weighted(sums, quads_of(values, 3u), weights, 3u);
}

fn add_weighted(sums: ptr<function, array<vec4<f32>, HEADS * PART>>, values: mat4x4<f32>, weights: array<vec4<f32>, HEADS>, to: u32) {
    (*sums)[to] += values * weights[0];
    @if(heads_2 || heads_3 || heads_4) { (*sums)[PART + to] += values * weights[1]; }
    @if(heads_3 || heads_4) { (*sums)[2u * PART + to] += values * weights[2]; }
    @if(heads_4) { (*sums)[3u * PART + to] += values * weights[3]; }
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
    let origin = span_origin(position, params.chunk);
    let span = workgroup.x;
    if span >= span_count(position - origin, TILE) { return; }
    prepare(kv_head, batch, position, lane);

    let dim = params.head_dim;
    let quads = dim / 4u;
    let cache = kv_head * head_length(params.context, dim);
    if span == 0u && batch == 0u { append(cache, position, dim, lane); }
    let begin = origin + span * TILE;
    let keys = min(position - begin, TILE);
    let last = position - 1u; // that the cache has, if any
    // Up to seven in front of a chunk.
    var unseen = 0u;
    if params.chunk != 0u && span == 0u { unseen = position / params.chunk * params.chunk - origin; }

    // Of the token's own key a lane multiplies a few elements.
    var own: array<f32, HEADS>;
    var above: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        own[h] = 0.0;
        above[h] = LOWEST;
        for (var i = lane; i < quads; i += THREADS) {
            own[h] += dot(vec4(new_key[2u * i], new_key[2u * i + 1u]), query_at(h, i));
        }
    }
    own_of_lanes[lane] = of_heads(own);
    for (var key = 16u * lane; key < keys; key += 16u * THREADS) {
        let products = products_of_keys(cache, (begin + key) / 4u, last);
        let a = vec4(key) + vec4(0u, 1u, 2u, 3u) - vec4(unseen);
        let seen = vec4(keys - unseen); // what lies before `unseen` wraps
        for (var h = 0u; h < HEADS; h++) {
            let scores_a = select(vec4(LOWEST), products.a[h], a < seen);
            let scores_b = select(vec4(LOWEST), products.b[h], a + vec4(4u) < seen);
            let scores_c = select(vec4(LOWEST), products.c[h], a + vec4(8u) < seen);
            let scores_d = select(vec4(LOWEST), products.d[h], a + vec4(12u) < seen);
            let to = h * FOURS + key / 4u;
            scores[to] = scores_a;
            scores[to + 1u] = scores_b;
            scores[to + 2u] = scores_c;
            scores[to + 3u] = scores_d;
            let most = max(max(scores_a, scores_b), max(scores_c, scores_d));
            above[h] = max(above[h], max(max(most.x, most.y), max(most.z, most.w)));
        }
    }
    of_lanes[lane] = of_heads(above);
    workgroupBarrier();
    // The first tile has the own key besides.
    let found = found_by_lanes(lane);
    let own_score = select(vec4(LOWEST), found.own, span == 0u);
    let highest = max(found.highest, own_score);

    // As many ranges of keys as there are lanes for. Those of a range lie together, so that memory is read in its order.
    let parts = (quads + PART - 1u) / PART;
    let fours = (keys + 3u) / 4u;
    let slots = THREADS / parts;
    let part = lane % parts;
    let slot = lane / parts;
    let share = (fours + slots - 1u) / slots;
    var totals: array<vec4<f32>, HEADS>; // of the weights
    var sums: array<vec4<f32>, HEADS * PART>;
    for (var h = 0u; h < HEADS; h++) {
        let weight = select(0.0, exp(own_score[h] - highest[h]), slot == 0u);
        totals[h] = vec4(weight, 0.0, 0.0, 0.0);
        for (var i = 0u; i < PART; i++) {
            let at = 2u * min(PART * part + i, quads - 1u);
            sums[PART * h + i] = vec4(new_value[at], new_value[at + 1u]) * weight;
        }
    }
    let vectors = min(vec4(part * PART / QUADS_OF_VECTOR) + vec4(0u, 1u, 2u, 3u), vec4((quads - 1u) / QUADS_OF_VECTOR));
    for (var four = slot * share; four < min((slot + 1u) * share, fours); four++) {
        var weights: array<vec4<f32>, HEADS>;
        for (var h = 0u; h < HEADS; h++) {
            weights[h] = exp(scores[h * FOURS + four] - highest[h]);
            totals[h] += weights[h];
        }
        @if(kv_q8) {
            let scale = bitcast<vec4<f32>>(v_cache[cache + scales_at(begin / 4u + four, last, part * PART / 8u, dim)]);
            // Behind the last key it may be anything.
            let there = vec4(4u * four) + vec4(0u, 1u, 2u, 3u) < vec4(keys);
            for (var h = 0u; h < HEADS; h++) {
                weights[h] *= select(vec4(0.0), scale, there);
            }
        }
        let rows = vec4(cache) + rows_at(begin / 4u + four, last, dim);
        add_values(&sums, values_at(rows, vectors.x), weights, 0u);
        @if(!kv_q8) add_values(&sums, values_at(rows, vectors.y), weights, 1u);
        @if(kv_f32) add_values(&sums, values_at(rows, vectors.z), weights, 2u);
        @if(kv_f32) add_values(&sums, values_at(rows, vectors.w), weights, 3u);
    }
    workgroupBarrier();

    var total: array<f32, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        total[h] = totals[h].x + totals[h].y + totals[h].z + totals[h].w;
    }
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
    let weights = sum_of_lanes(parts, slots);
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
