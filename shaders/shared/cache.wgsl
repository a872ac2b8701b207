// Elements of the KV cache. A row, which is a head's key or value at a position, is whole vectors of sixteen bytes, since many adapters
// load those as fast as a single word:
//     f16, which needs no feature: eight halves to a vector; what pads the last one is zero, as all memory in the beginning
//     kv_f32: four floats to a vector
//     kv_q8: head_dim / 16 vectors of bytes, then (head_dim + 127) / 128 of floats, one for each block of 32 that it is multiplied by

@if(kv_f32) const QUADS_OF_VECTOR: u32 = 1u;
@if(!kv_f32 && !kv_q8) const QUADS_OF_VECTOR: u32 = 2u;
@if(kv_q8) const QUADS_OF_VECTOR: u32 = 4u;

// Vectors of a row.
@if(!kv_q8)
fn row_length(head_dim: u32) -> u32 { return (head_dim / 4u + QUADS_OF_VECTOR - 1u) / QUADS_OF_VECTOR; }
@if(kv_q8)
fn row_length(head_dim: u32) -> u32 { return head_dim / 16u + (head_dim + 127u) / 128u; }

// Four of a vector's elements, of bytes yet to be multiplied by their scale.
@if(kv_f32)
fn quad_of(vector: vec4<u32>, i: u32) -> vec4<f32> { return bitcast<vec4<f32>>(vector); }
@if(!kv_f32 && !kv_q8)
fn quad_of(vector: vec4<u32>, i: u32) -> vec4<f32> {
    return vec4(unpack2x16float(vector[2u * i]), unpack2x16float(vector[2u * i + 1u]));
}
@if(kv_q8)
fn quad_of(vector: vec4<u32>, i: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(vector[i])); }

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
