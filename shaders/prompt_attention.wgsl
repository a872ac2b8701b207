// Causal attention of several tokens over the cache, with a running maximum and sum (flash attention).
// A row is one token's query of one of the heads that share a key. A lane computes one row or four of them, whose queries and results
// it holds in registers, and all rows of a workgroup walk over the same keys, so that no lane waits for another: barriers cost software
// adapters more than anything else, and on GPUs a load at one address serves all lanes. Software adapters load for each lane what all
// of them load, which four rows need only once.
// Indices of what is in registers are written out, because an array is memory for SwiftShader where an index is not constant.

import package::shared::guard::halted;
import package::shared::cache::{head_length, quad_of, row_at, row_length};
@if(kv_q8) import package::shared::cache::scales_at;
import package::shared::blocks::{Bytes, to_bytes};

struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32, // a multiple of 4, of 32 for bytes
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
@group(0) @binding(5) var<storage, read> k_cache: array<vec4<u32>>; // [kv_heads, head_length], see shared/cache
@group(0) @binding(6) var<storage, read> v_cache: array<vec4<u32>>; // [kv_heads, head_length], see shared/cache

const ROWS: u32 = 32u;
const LOWEST: f32 = -3.4e38;

// Rows of a lane, and what it has of them: a number of each; a count of each; four elements of each.
@if(four_rows) const LANE_ROWS: u32 = 4u;
@if(four_rows) alias Rows = vec4<f32>;
@if(four_rows) alias Places = vec4<u32>;
@if(four_rows) alias Quads = mat4x4<f32>;
@if(!four_rows) const LANE_ROWS: u32 = 1u;
@if(!four_rows) alias Rows = f32;
@if(!four_rows) alias Places = u32;
@if(!four_rows) alias Quads = vec4<f32>;

// 32 elements of each row.
alias Block = array<Quads, 8>;

@compute @workgroup_size(ROWS / LANE_ROWS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if halted() { return; }
    let sharing = params.heads / params.kv_heads;
    let rows = params.tokens * sharing;
    let first_row = workgroup.x * ROWS;
    let own_row = first_row + lane * LANE_ROWS;
    if own_row >= rows { return; }
    // Behind the last row its computation is repeated.
    let row = rows_of_lane(own_row, rows - 1u);
    let token = row / sharing;
    let head = workgroup.y * sharing + row % sharing;

    // What each row sees, and what any of the workgroup does.
    let position = step[0] + token;
    var first = Places(0u);
    var begin = 0u;
    if params.chunk != 0u {
        first = position / params.chunk * params.chunk;
        begin = (step[0] + first_row / sharing) / params.chunk * params.chunk;
    }
    let end = step[0] + (min(first_row + ROWS, rows) - 1u) / sharing + 1u;

    let query = (token * params.heads + head) * (params.head_dim / 4u);
    var q0 = query_block(query, 0u);
    var q1 = query_block(query, 1u);
    var s0: Block;
    var s1: Block;
    @if(above_64) var q2 = query_block(query, 2u);
    @if(above_64) var q3 = query_block(query, 3u);
    @if(above_64) var s2: Block;
    @if(above_64) var s3: Block;
    @if(above_128) var q4 = query_block(query, 4u);
    @if(above_128) var q5 = query_block(query, 5u);
    @if(above_128) var q6 = query_block(query, 6u);
    @if(above_128) var q7 = query_block(query, 7u);
    @if(above_128) var s4: Block;
    @if(above_128) var s5: Block;
    @if(above_128) var s6: Block;
    @if(above_128) var s7: Block;

    let cache = workgroup.y * head_length(params.context, params.head_dim);
    var highest = Rows(LOWEST);
    var total = Rows(0.0);
    for (var key = begin; key < end; key++) {
        let at = entry(cache, key);
        var scores = score(&q0, at, 0u) + score(&q1, at, 1u);
        @if(above_64) {
            scores += score(&q2, at, 2u) + score(&q3, at, 3u);
        }
        @if(above_128) {
            scores += score(&q4, at, 4u) + score(&q5, at, 5u) + score(&q6, at, 6u) + score(&q7, at, 7u);
        }
        let seen = (Places(key) >= first) & (Places(key) <= position);
        scores = select(Rows(LOWEST), scores, seen);
        let higher = max(highest, scores);
        let rescale = exp(highest - higher);
        highest = higher;
        // Before the first key that a row sees, the difference is zero.
        let weights = select(Rows(0.0), exp(scores - highest), seen);
        total = total * rescale + weights;
        add_value(&s0, rescale, weights, at, 0u);
        add_value(&s1, rescale, weights, at, 1u);
        @if(above_64) {
            add_value(&s2, rescale, weights, at, 2u);
            add_value(&s3, rescale, weights, at, 3u);
        }
        @if(above_128) {
            add_value(&s4, rescale, weights, at, 4u);
            add_value(&s5, rescale, weights, at, 5u);
            add_value(&s6, rescale, weights, at, 6u);
            add_value(&s7, rescale, weights, at, 7u);
        }
    }

    let columns = token * params.out_stride + head * params.head_dim;
    for (var i = 0u; i < min(LANE_ROWS, rows - own_row); i++) {
        let column = place_of(columns, i);
        let factor = 1.0 / number_of(total, i);
        write_block(&s0, factor, column, i, 0u);
        write_block(&s1, factor, column, i, 1u);
        @if(above_64) {
            write_block(&s2, factor, column, i, 2u);
            write_block(&s3, factor, column, i, 3u);
        }
        @if(above_128) {
            write_block(&s4, factor, column, i, 4u);
            write_block(&s5, factor, column, i, 5u);
            write_block(&s6, factor, column, i, 6u);
            write_block(&s7, factor, column, i, 7u);
        }
    }
}

@if(four_rows)
fn rows_of_lane(row: u32, last: u32) -> Places { return min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(last)); }
@if(!four_rows)
fn rows_of_lane(row: u32, last: u32) -> Places { return row; }

// What a lane has of its row i.
@if(four_rows)
fn place_of(places: Places, i: u32) -> u32 { return places[i]; }
@if(!four_rows)
fn place_of(places: Places, i: u32) -> u32 { return places; }
@if(four_rows)
fn number_of(numbers: Rows, i: u32) -> f32 { return numbers[i]; }
@if(!four_rows)
fn number_of(numbers: Rows, i: u32) -> f32 { return numbers; }
@if(four_rows)
fn quad_of_row(quads: Quads, i: u32) -> vec4<f32> { return vec4(quads[0][i], quads[1][i], quads[2][i], quads[3][i]); }
@if(!four_rows)
fn quad_of_row(quads: Quads, i: u32) -> vec4<f32> { return quads; }

// Four elements of each row's query, of those that begin at these quads.
@if(four_rows)
fn query_quads(at: Places) -> Quads { return transpose(mat4x4(q[at.x], q[at.y], q[at.z], q[at.w])); }
@if(!four_rows)
fn query_quads(at: Places) -> Quads { return q[at]; }

// What pads a head is multiplied too: its last four elements again, by zero.
fn scaled_query(at: Places, i: u32) -> Quads {
    let quads = params.head_dim / 4u;
    return query_quads(at + Places(min(i, quads - 1u))) * select(0.0, params.scale, i < quads);
}

fn query_block(at: Places, block: u32) -> Block {
    let i = 8u * block;
    return Block(
        scaled_query(at, i), scaled_query(at, i + 1u), scaled_query(at, i + 2u), scaled_query(at, i + 3u),
        scaled_query(at, i + 4u), scaled_query(at, i + 5u), scaled_query(at, i + 6u), scaled_query(at, i + 7u),
    );
}

// Vector i of a row of the caches; behind it, where the query is zero, its last one.
fn clamped(i: u32) -> u32 { return min(i, row_length(params.head_dim) - 1u); }

// Where the caches, in which the head's begin at `cache`, have a position.
@if(!kv_q8)
struct Entry { row: u32 }
@if(!kv_q8)
fn entry(cache: u32, position: u32) -> Entry { return Entry(cache + row_at(position, params.head_dim)); }

// Besides its row the first of the scales' vectors, and which of a vector is its own.
@if(kv_q8)
struct Entry { row: u32, scales: u32, place: u32 }
@if(kv_q8)
fn entry(cache: u32, position: u32) -> Entry {
    let scales = cache + scales_at(position / 4u, position, 0u, params.head_dim);
    return Entry(cache + row_at(position, params.head_dim), scales, position % 4u);
}

@if(kv_q8)
fn scale_of(block: u32) -> u32 { return 2u * min(block, params.head_dim / 32u - 1u); }

// By 32 elements of a key, the sum of their products with each row's query.
@if(kv_f32)
fn score(query: ptr<function, Block>, at: Entry, block: u32) -> Rows {
    let a = k_cache[at.row + clamped(8u * block)];
    let b = k_cache[at.row + clamped(8u * block + 1u)];
    let c = k_cache[at.row + clamped(8u * block + 2u)];
    let d = k_cache[at.row + clamped(8u * block + 3u)];
    let e = k_cache[at.row + clamped(8u * block + 4u)];
    let f = k_cache[at.row + clamped(8u * block + 5u)];
    let g = k_cache[at.row + clamped(8u * block + 6u)];
    let h = k_cache[at.row + clamped(8u * block + 7u)];
    return (products((*query)[0], quad_of(a, 0u)) + products((*query)[1], quad_of(b, 0u)))
        + (products((*query)[2], quad_of(c, 0u)) + products((*query)[3], quad_of(d, 0u)))
        + (products((*query)[4], quad_of(e, 0u)) + products((*query)[5], quad_of(f, 0u)))
        + (products((*query)[6], quad_of(g, 0u)) + products((*query)[7], quad_of(h, 0u)));
}
@if(!kv_f32 && !kv_q8)
fn score(query: ptr<function, Block>, at: Entry, block: u32) -> Rows {
    let a = k_cache[at.row + clamped(4u * block)];
    let b = k_cache[at.row + clamped(4u * block + 1u)];
    let c = k_cache[at.row + clamped(4u * block + 2u)];
    let d = k_cache[at.row + clamped(4u * block + 3u)];
    return (products((*query)[0], quad_of(a, 0u)) + products((*query)[1], quad_of(a, 1u)))
        + (products((*query)[2], quad_of(b, 0u)) + products((*query)[3], quad_of(b, 1u)))
        + (products((*query)[4], quad_of(c, 0u)) + products((*query)[5], quad_of(c, 1u)))
        + (products((*query)[6], quad_of(d, 0u)) + products((*query)[7], quad_of(d, 1u)));
}
@if(kv_q8)
fn score(query: ptr<function, Block>, at: Entry, block: u32) -> Rows {
    let a = k_cache[at.row + clamped(2u * block)];
    let b = k_cache[at.row + clamped(2u * block + 1u)];
    let sum = (products((*query)[0], quad_of(a, 0u)) + products((*query)[1], quad_of(a, 1u)))
        + (products((*query)[2], quad_of(a, 2u)) + products((*query)[3], quad_of(a, 3u)))
        + (products((*query)[4], quad_of(b, 0u)) + products((*query)[5], quad_of(b, 1u)))
        + (products((*query)[6], quad_of(b, 2u)) + products((*query)[7], quad_of(b, 3u)));
    return sum * bitcast<f32>(k_cache[at.scales + scale_of(block)][at.place]);
}

// Scales 32 elements of the results, and adds those of a value by its weights.
@if(kv_f32)
fn add_value(sums: ptr<function, Block>, rescale: Rows, weights: Rows, at: Entry, block: u32) {
    let a = v_cache[at.row + clamped(8u * block)];
    (*sums)[0] = added((*sums)[0], rescale, weights, quad_of(a, 0u));
    let b = v_cache[at.row + clamped(8u * block + 1u)];
    (*sums)[1] = added((*sums)[1], rescale, weights, quad_of(b, 0u));
    let c = v_cache[at.row + clamped(8u * block + 2u)];
    (*sums)[2] = added((*sums)[2], rescale, weights, quad_of(c, 0u));
    let d = v_cache[at.row + clamped(8u * block + 3u)];
    (*sums)[3] = added((*sums)[3], rescale, weights, quad_of(d, 0u));
    let e = v_cache[at.row + clamped(8u * block + 4u)];
    (*sums)[4] = added((*sums)[4], rescale, weights, quad_of(e, 0u));
    let f = v_cache[at.row + clamped(8u * block + 5u)];
    (*sums)[5] = added((*sums)[5], rescale, weights, quad_of(f, 0u));
    let g = v_cache[at.row + clamped(8u * block + 6u)];
    (*sums)[6] = added((*sums)[6], rescale, weights, quad_of(g, 0u));
    let h = v_cache[at.row + clamped(8u * block + 7u)];
    (*sums)[7] = added((*sums)[7], rescale, weights, quad_of(h, 0u));
}
@if(!kv_f32 && !kv_q8)
fn add_value(sums: ptr<function, Block>, rescale: Rows, weights: Rows, at: Entry, block: u32) {
    let a = v_cache[at.row + clamped(4u * block)];
    (*sums)[0] = added((*sums)[0], rescale, weights, quad_of(a, 0u));
    (*sums)[1] = added((*sums)[1], rescale, weights, quad_of(a, 1u));
    let b = v_cache[at.row + clamped(4u * block + 1u)];
    (*sums)[2] = added((*sums)[2], rescale, weights, quad_of(b, 0u));
    (*sums)[3] = added((*sums)[3], rescale, weights, quad_of(b, 1u));
    let c = v_cache[at.row + clamped(4u * block + 2u)];
    (*sums)[4] = added((*sums)[4], rescale, weights, quad_of(c, 0u));
    (*sums)[5] = added((*sums)[5], rescale, weights, quad_of(c, 1u));
    let d = v_cache[at.row + clamped(4u * block + 3u)];
    (*sums)[6] = added((*sums)[6], rescale, weights, quad_of(d, 0u));
    (*sums)[7] = added((*sums)[7], rescale, weights, quad_of(d, 1u));
}
@if(kv_q8)
fn add_value(sums: ptr<function, Block>, rescale: Rows, weights: Rows, at: Entry, block: u32) {
    let scaled = weights * bitcast<f32>(v_cache[at.scales + scale_of(block)][at.place]);
    let a = v_cache[at.row + clamped(2u * block)];
    (*sums)[0] = added((*sums)[0], rescale, scaled, quad_of(a, 0u));
    (*sums)[1] = added((*sums)[1], rescale, scaled, quad_of(a, 1u));
    (*sums)[2] = added((*sums)[2], rescale, scaled, quad_of(a, 2u));
    (*sums)[3] = added((*sums)[3], rescale, scaled, quad_of(a, 3u));
    let b = v_cache[at.row + clamped(2u * block + 1u)];
    (*sums)[4] = added((*sums)[4], rescale, scaled, quad_of(b, 0u));
    (*sums)[5] = added((*sums)[5], rescale, scaled, quad_of(b, 1u));
    (*sums)[6] = added((*sums)[6], rescale, scaled, quad_of(b, 2u));
    (*sums)[7] = added((*sums)[7], rescale, scaled, quad_of(b, 3u));
}

@if(four_rows)
fn products(query: Quads, key: vec4<f32>) -> Rows { return query * key; }
@if(!four_rows)
fn products(query: Quads, key: vec4<f32>) -> Rows { return dot(query, key); }

@if(four_rows)
fn added(sums: Quads, rescale: Rows, weights: Rows, value: vec4<f32>) -> Quads {
    return Quads(
        sums[0] * rescale + weights * value.x,
        sums[1] * rescale + weights * value.y,
        sums[2] * rescale + weights * value.z,
        sums[3] * rescale + weights * value.w,
    );
}
@if(!four_rows)
fn added(sums: Quads, rescale: Rows, weights: Rows, value: vec4<f32>) -> Quads { return sums * rescale + weights * value; }

// 32 elements of the result of a lane's row i, whose first element is this column.
fn write_block(sums: ptr<function, Block>, factor: f32, column: u32, i: u32, block: u32) {
    let quads = params.head_dim / 4u;
    let first = 8u * block;
    if first >= quads { return; }
    let v = array<vec4<f32>, 8>(
        factor * quad_of_row((*sums)[0], i), factor * quad_of_row((*sums)[1], i),
        factor * quad_of_row((*sums)[2], i), factor * quad_of_row((*sums)[3], i),
        factor * quad_of_row((*sums)[4], i), factor * quad_of_row((*sums)[5], i),
        factor * quad_of_row((*sums)[6], i), factor * quad_of_row((*sums)[7], i),
    );
    if params.to_bytes != 0u {
        let made = to_bytes(v, 0.0);
        let to = (column / 32u + block) * 3u;
        out[to] = made.head;
        out[to + 1u] = made.lo;
        out[to + 2u] = made.hi;
        return;
    }
    let to = column / 4u + first;
    out[to] = bitcast<vec4<u32>>(v[0]);
    if first + 1u < quads { out[to + 1u] = bitcast<vec4<u32>>(v[1]); }
    if first + 2u < quads { out[to + 2u] = bitcast<vec4<u32>>(v[2]); }
    if first + 3u < quads { out[to + 3u] = bitcast<vec4<u32>>(v[3]); }
    if first + 4u < quads { out[to + 4u] = bitcast<vec4<u32>>(v[4]); }
    if first + 5u < quads { out[to + 5u] = bitcast<vec4<u32>>(v[5]); }
    if first + 6u < quads { out[to + 6u] = bitcast<vec4<u32>>(v[6]); }
    if first + 7u < quads { out[to + 7u] = bitcast<vec4<u32>>(v[7]); }
}
