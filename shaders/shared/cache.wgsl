// Pairs of elements in the KV cache: two halves in a word (pack2x16float needs no feature), or with `kv_f32` two floats.

@if(!kv_f32)
alias Pair = u32;
@if(kv_f32)
alias Pair = vec2<f32>;

@if(!kv_f32)
fn to_pair(v: vec2<f32>) -> Pair { return pack2x16float(clamp(v, vec2(-65504.0), vec2(65504.0))); }
@if(kv_f32)
fn to_pair(v: vec2<f32>) -> Pair { return v; }

@if(!kv_f32)
fn from_pair(p: Pair) -> vec2<f32> { return unpack2x16float(p); }
@if(kv_f32)
fn from_pair(p: Pair) -> vec2<f32> { return p; }

// Four of them.
@if(!kv_f32)
alias Four = vec2<u32>;
@if(kv_f32)
alias Four = vec4<f32>;

@if(!kv_f32)
fn from_four(p: Four) -> vec4<f32> { return vec4(unpack2x16float(p.x), unpack2x16float(p.y)); }
@if(kv_f32)
fn from_four(p: Four) -> vec4<f32> { return p; }

@if(!kv_f32)
fn to_four(v: vec4<f32>) -> Four { return Four(to_pair(v.xy), to_pair(v.zw)); }
@if(kv_f32)
fn to_four(v: vec4<f32>) -> Four { return v; }
