// Elements of the KV cache. f16: two halves in a word (pack2x16float needs no feature), four in a vector; `kv_f32`: floats; `kv_q8`:
// sixteen bytes in a vector, with a float for each block of 32 that they are multiplied by. A head's vector at a position, a row, is
// there its bytes and then the scales of its blocks, so that it is whole vectors:
//     head_dim / 16 vectors of bytes, (head_dim + 127) / 128 vectors of scales

@if(!kv_q8 && !kv_f32)
alias Pair = u32;
@if(kv_f32)
alias Pair = vec2<f32>;

@if(!kv_q8 && !kv_f32)
fn to_pair(v: vec2<f32>) -> Pair { return pack2x16float(clamp(v, vec2(-65504.0), vec2(65504.0))); }
@if(kv_f32)
fn to_pair(v: vec2<f32>) -> Pair { return v; }

@if(!kv_q8 && !kv_f32)
fn from_pair(p: Pair) -> vec2<f32> { return unpack2x16float(p); }
@if(kv_f32)
fn from_pair(p: Pair) -> vec2<f32> { return p; }

// Four of them.
@if(!kv_q8 && !kv_f32)
alias Four = vec2<u32>;
@if(kv_f32)
alias Four = vec4<f32>;

@if(!kv_q8 && !kv_f32)
fn from_four(p: Four) -> vec4<f32> { return vec4(unpack2x16float(p.x), unpack2x16float(p.y)); }
@if(kv_f32)
fn from_four(p: Four) -> vec4<f32> { return p; }

@if(!kv_q8 && !kv_f32)
fn to_four(v: vec4<f32>) -> Four { return Four(to_pair(v.xy), to_pair(v.zw)); }
@if(kv_f32)
fn to_four(v: vec4<f32>) -> Four { return v; }

// Vectors of a row.
@if(!kv_q8)
fn row_length(head_dim: u32) -> u32 { return head_dim / 4u; }
@if(kv_q8)
fn row_length(head_dim: u32) -> u32 { return head_dim / 16u + (head_dim + 127u) / 128u; }

// Four bytes, yet to be multiplied by their scale.
@if(kv_q8)
fn from_word(word: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(word)); }
