// Elements of the KV cache. A row, which is a head's key or value at a position, is whole vectors of sixteen bytes, since many adapters
// load those as fast as a single word:
//     f16, which needs no feature: eight halves to a vector; what pads the last one is zero, as all memory in the beginning
//     kv_f32: four floats to a vector
//     kv_q8: bytes. Eight positions lie together: for each block of 32 two vectors of floats, which are what it is multiplied by at
//         each of the positions, so that one load serves four keys, and then their rows

@if(kv_f32) const QUADS_OF_VECTOR: u32 = 1u;
@if(!kv_f32 && !kv_q8) const QUADS_OF_VECTOR: u32 = 2u;
@if(kv_q8) const QUADS_OF_VECTOR: u32 = 4u;

// Vectors of a row.
fn row_length(head_dim: u32) -> u32 { return (head_dim / 4u + QUADS_OF_VECTOR - 1u) / QUADS_OF_VECTOR; }

// Vectors of a head's cache of so many positions.
@if(!kv_q8)
fn head_length(context: u32, head_dim: u32) -> u32 { return context * row_length(head_dim); }
@if(kv_q8)
fn head_length(context: u32, head_dim: u32) -> u32 { return (context + 7u) / 8u * 9u * row_length(head_dim); }

// Where the row of a position begins within its head.
@if(!kv_q8)
fn row_at(position: u32, head_dim: u32) -> u32 { return position * row_length(head_dim); }
@if(kv_q8)
fn row_at(position: u32, head_dim: u32) -> u32 { return (position / 8u * 9u + 1u + position % 8u) * row_length(head_dim); }

// Where those of four positions begin, from 4 * `four` on. In place of what is behind `last` are others that may be read, or of
// bytes the rows behind it, which whoever reads them leaves out.
@if(!kv_q8)
fn rows_at(four: u32, last: u32, head_dim: u32) -> vec4<u32> {
    return min(vec4(4u * four) + vec4(0u, 1u, 2u, 3u), vec4(last)) * row_length(head_dim);
}
@if(kv_q8)
fn rows_at(four: u32, last: u32, head_dim: u32) -> vec4<u32> {
    return vec4(row_at(4u * min(four, last / 4u), head_dim)) + vec4(0u, 1u, 2u, 3u) * row_length(head_dim);
}

// Where the vector is that has the factors of a block at those positions.
@if(kv_q8)
fn scales_at(four: u32, last: u32, block: u32, head_dim: u32) -> u32 {
    let there = min(four, last / 4u);
    return there / 2u * 9u * row_length(head_dim) + 2u * block + there % 2u;
}

// Four of a vector's elements, of bytes yet to be multiplied by their scale.
@if(kv_f32)
fn quad_of(vector: vec4<u32>, i: u32) -> vec4<f32> { return bitcast<vec4<f32>>(vector); }
@if(!kv_f32 && !kv_q8)
fn quad_of(vector: vec4<u32>, i: u32) -> vec4<f32> {
    return vec4(unpack2x16float(vector[2u * i]), unpack2x16float(vector[2u * i + 1u]));
}
@if(kv_q8)
fn quad_of(vector: vec4<u32>, i: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(vector[i])); }

// A vector of each of four rows.
struct Four { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

// Four elements of each.
fn quads_of(rows: Four, i: u32) -> mat4x4<f32> {
    return mat4x4(quad_of(rows.a, i), quad_of(rows.b, i), quad_of(rows.c, i), quad_of(rows.d, i));
}

// Two elements, as they are written.
@if(!kv_f32 && !kv_q8)
alias Pair = u32;
@if(kv_f32)
alias Pair = vec2<f32>;

@if(!kv_f32 && !kv_q8)
fn to_pair(v: vec2<f32>) -> Pair { return pack2x16float(clamp(v, vec2(-65504.0), vec2(65504.0))); }
@if(kv_f32)
fn to_pair(v: vec2<f32>) -> Pair { return v; }

@if(!kv_f32 && !kv_q8)
fn from_pair(p: Pair) -> vec2<f32> { return unpack2x16float(p); }
@if(kv_f32)
fn from_pair(p: Pair) -> vec2<f32> { return p; }

// Pairs of a row.
@if(!kv_q8)
fn row_pairs(head_dim: u32) -> u32 { return 2u * QUADS_OF_VECTOR * row_length(head_dim); }
