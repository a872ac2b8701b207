// Activations in blocks of 32, and the dot product of a block of weights with one: in f32, or of bytes (condition `i8`).
//
// With `swar` one 32-bit multiplication takes two bytes of each: with w = w0 + w1 << 16 and v = v1 + v0 << 16 the upper half of
// w v is w0 v0 + w1 v1. The lower half, w0 v1, stays a signed 16-bit number, also when four such products with w0, w1 in 0..31
// are added: at most 4 * 31 * 127 = 15748, and above it twice as much.
//
// With `in_place` (in shapes of four lanes) bytes are multiplied as floats, which hold the sums of their products exactly. A byte of a
// weight is not moved to the end of its word: masked there, it is the number times a power of two, which the activation is divided by.
// A driver that has no shift for vectors computes with these in a third of the instructions.
//
// Where a norm's division is still to come, x is the residual stream times the norm's weight, and says for each block the sum
// of squares of the residual stream: bytes in their blocks, floats in a vector for each block behind the last one.

import package::shared::formats::{Block, Row, load_block};
@if(quantized) import package::shared::formats::{Quants, load_quants, bytes};

@if(!i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [tokens, blocks, 8]
@if(i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>; // [tokens, blocks, 3], see shared/blocks

@if(in_place)
struct Activation { block: Block, correction: vec2<f32>, scale: vec2<f32> }
@if(i8 && !swar && !in_place)
struct Activation { lo: vec4<u32>, hi: vec4<u32>, scale: vec2<f32> }
@if(swar)
struct Activation { lo_even: vec4<i32>, lo_odd: vec4<i32>, hi_even: vec4<i32>, hi_odd: vec4<i32>, scale: vec2<f32> }
@if(!i8)
struct Activation { block: Block, sum: f32 }

@if(i8)
fn load_activation(index: u32) -> Activation {
    let at = index * 3u;
    let lo = x[at + 1u];
    let hi = x[at + 2u];
    // Two words and not four: on software adapters each costs.
    let scale = bitcast<vec2<f32>>(vec2(x[at].x, x[at].y));
    @if(swar) {
        return Activation(even_bytes(lo), odd_bytes(lo), even_bytes(hi), odd_bytes(hi), scale);
    }
    @if(in_place) {
        let v = Block(places(lo.x), places(lo.y), places(lo.z), places(lo.w),
            HI_UNIT * places(hi.x), HI_UNIT * places(hi.y), HI_UNIT * places(hi.z), HI_UNIT * places(hi.w));
        return Activation(v, vec2(dot(v.a + v.b + v.c + v.d, LO_LACKS), dot(v.e + v.f + v.g + v.h, HI_LACKS)), scale);
    }
    @if(!swar && !in_place) {
        return Activation(lo, hi, scale);
    }
}

// The signed bytes of a word, each divided by 256 for every byte before it.
@if(in_place)
fn places(word: u32) -> vec4<f32> {
    let at_top = (vec4(word) * vec4(0x1000000u, 0x10000u, 0x100u, 1u)) & vec4(0xff000000u);
    return vec4<f32>(bitcast<vec4<i32>>(at_top))
        * vec4(5.9604644775390625e-8, 2.3283064365386962890625e-10, 9.094947017729282379150390625e-13, 3.5527136788005009293556213378906e-15);
}

// The last byte of a word is read with its sign, the others without. What has to be flipped in the words of both halves for that, and
// what the sums then lack: unsigned bytes are 128 less behind the flip, signed ones 128 more.
@if(in_place && (q4_0 || q4_1 || q4_k)) const LO_FLIPS: u32 = 0u; // below 128 anyway
@if(in_place && (q4_0 || q4_1 || q4_k)) const HI_UNIT: f32 = 0.0625;
@if(in_place && (q4_0 || q4_1 || q4_k)) const HI_FLIPS: u32 = 0x80000000u;
@if(in_place && (q4_0 || q4_1 || q4_k)) const LO_LACKS: vec4<f32> = vec4(0.0);
@if(in_place && (q4_0 || q4_1 || q4_k)) const HI_LACKS: vec4<f32> = vec4(0.0, 0.0, 0.0, 2147483648.0);
@if(in_place && !(q4_0 || q4_1 || q4_k)) const LO_FLIPS: u32 = 0x00808080u;
@if(in_place && !(q4_0 || q4_1 || q4_k)) const HI_UNIT: f32 = 1.0;
@if(in_place && !(q4_0 || q4_1 || q4_k)) const HI_FLIPS: u32 = 0x00808080u;
@if(in_place && !(q4_0 || q4_1 || q4_k)) const LO_LACKS: vec4<f32> = vec4(-128.0, -32768.0, -8388608.0, 0.0);
@if(in_place && !(q4_0 || q4_1 || q4_k)) const HI_LACKS: vec4<f32> = vec4(-128.0, -32768.0, -8388608.0, 0.0);

// The four bytes of a word where they are.
@if(in_place)
fn in_place_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word) & vec4(0xffu, 0xff00u, 0xff0000u, 0xff000000u)));
}

// Bytes 2 and 0 of each word as the signed halves of a sum, byte 0 being the upper one.
@if(swar)
fn even_bytes(words: vec4<u32>) -> vec4<i32> {
    let v = bitcast<vec4<i32>>(words);
    return ((v << vec4(24u)) >> vec4(8u)) + ((v << vec4(8u)) >> vec4(24u));
}

// Bytes 3 and 1.
@if(swar)
fn odd_bytes(words: vec4<u32>) -> vec4<i32> {
    let v = bitcast<vec4<i32>>(words);
    return (((v << vec4(16u)) >> vec4(24u)) << vec4(16u)) + (v >> vec4(24u));
}

// The products of bytes 0 and 2 of each word of weights, added.
@if(swar)
fn dot_even(weights: vec4<u32>, v: vec4<i32>) -> i32 {
    let products = bitcast<vec4<i32>>(weights & vec4(0x00ff00ffu)) * v;
    // Half of the lower half's range makes what it borrows from the upper one good.
    return (products.x + products.y + products.z + products.w + 0x8000) >> 16u;
}

@if(!i8)
fn load_activation(index: u32) -> Activation {
    let at = index * 8u;
    let v = Block(x[at], x[at + 1u], x[at + 2u], x[at + 3u], x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
    return Activation(v, dot(v.a + v.b + v.c + v.d + v.e + v.f + v.g + v.h, vec4(1.0)));
}

// The sum of squares of a block of one row of `blocks`.
@if(i8)
fn block_squares(block: u32, _blocks: u32) -> f32 { return bitcast<f32>(x[block * 3u].z); }
@if(!i8)
fn block_squares(block: u32, blocks: u32) -> f32 { return x[blocks * 8u + block].x; }

// What a product with such an x is still to be multiplied by.
fn norm_factor(squares: f32, cols: u32, eps: f32) -> f32 {
    if cols == 0u { return 1.0; }
    return inverseSqrt(squares / f32(cols) + eps);
}

@if(quantized)
alias Weights = Quants;
@if(!quantized)
alias Weights = Block;

@if(quantized)
fn load_weights(row: Row, block: u32) -> Weights { return load_quants(row, block); }
@if(!quantized)
fn load_weights(row: Row, block: u32) -> Weights { return load_block(row, block); }

fn dot_block(w: Block, v: Block) -> f32 {
    return dot(w.a * v.a + w.b * v.b + w.c * v.c + w.d * v.d + w.e * v.e + w.f * v.f + w.g * v.g + w.h * v.h, vec4(1.0));
}

@if(!quantized)
fn dot_weights(w: Weights, v: Activation) -> f32 { return dot_block(w, v.block); }

@if(quantized && !i8)
fn dot_weights(w: Weights, v: Activation) -> f32 {
    let b = v.block;
    let lo = bytes(w.lo.x) * b.a + bytes(w.lo.y) * b.b + bytes(w.lo.z) * b.c + bytes(w.lo.w) * b.d;
    let hi = bytes(w.hi.x) * b.e + bytes(w.hi.y) * b.f + bytes(w.hi.z) * b.g + bytes(w.hi.w) * b.h;
    return dot(w.scale.x * lo + w.scale.y * hi, vec4(1.0)) + w.minimum * v.sum;
}

@if(swar)
fn dot_weights(w: Weights, v: Activation) -> f32 {
    let lo = dot_even(w.lo, v.lo_even) + dot_even(w.lo >> vec4(8u), v.lo_odd);
    let hi = dot_even(w.hi, v.hi_even) + dot_even(w.hi >> vec4(8u), v.hi_odd);
    return v.scale.x * (w.scale.x * f32(lo) + w.scale.y * f32(hi)) + w.minimum * v.scale.y;
}

@if(in_place)
fn dot_weights(w: Weights, v: Activation) -> f32 {
    let b = v.block;
    let l = w.lo ^ vec4(LO_FLIPS);
    let h = w.hi ^ vec4(HI_FLIPS);
    let lo = v.correction.x + dot(in_place_bytes(l.x), b.a) + dot(in_place_bytes(l.y), b.b) + dot(in_place_bytes(l.z), b.c)
        + dot(in_place_bytes(l.w), b.d);
    let hi = v.correction.y + dot(in_place_bytes(h.x), b.e) + dot(in_place_bytes(h.y), b.f) + dot(in_place_bytes(h.z), b.g)
        + dot(in_place_bytes(h.w), b.h);
    return v.scale.x * (w.scale.x * lo + w.scale.y * hi) + w.minimum * v.scale.y;
}

@if(quantized && i8 && !swar && !in_place)
fn dot_weights(w: Weights, v: Activation) -> f32 {
    let lo = dot4I8Packed(w.lo.x, v.lo.x) + dot4I8Packed(w.lo.y, v.lo.y) + dot4I8Packed(w.lo.z, v.lo.z) + dot4I8Packed(w.lo.w, v.lo.w);
    let hi = dot4I8Packed(w.hi.x, v.hi.x) + dot4I8Packed(w.hi.y, v.hi.y) + dot4I8Packed(w.hi.z, v.hi.z) + dot4I8Packed(w.hi.w, v.hi.w);
    return v.scale.x * (w.scale.x * f32(lo) + w.scale.y * f32(hi)) + w.minimum * v.scale.y;
}

// The same with four activations: a word's bytes become floats once.
@if(in_place)
fn dot_four(w: Weights, a: Activation, b: Activation, c: Activation, d: Activation) -> vec4<f32> {
    let l = w.lo ^ vec4(LO_FLIPS);
    let h = w.hi ^ vec4(HI_FLIPS);
    var lo = vec4(a.correction.x, b.correction.x, c.correction.x, d.correction.x);
    lo += each(l.x, a.block.a, b.block.a, c.block.a, d.block.a);
    lo += each(l.y, a.block.b, b.block.b, c.block.b, d.block.b);
    lo += each(l.z, a.block.c, b.block.c, c.block.c, d.block.c);
    lo += each(l.w, a.block.d, b.block.d, c.block.d, d.block.d);
    var hi = vec4(a.correction.y, b.correction.y, c.correction.y, d.correction.y);
    hi += each(h.x, a.block.e, b.block.e, c.block.e, d.block.e);
    hi += each(h.y, a.block.f, b.block.f, c.block.f, d.block.f);
    hi += each(h.z, a.block.g, b.block.g, c.block.g, d.block.g);
    hi += each(h.w, a.block.h, b.block.h, c.block.h, d.block.h);
    return vec4(a.scale.x, b.scale.x, c.scale.x, d.scale.x) * (w.scale.x * lo + w.scale.y * hi)
        + w.minimum * vec4(a.scale.y, b.scale.y, c.scale.y, d.scale.y);
}
@if(i8 && !in_place)
fn dot_four(w: Weights, a: Activation, b: Activation, c: Activation, d: Activation) -> vec4<f32> {
    return vec4(dot_weights(w, a), dot_weights(w, b), dot_weights(w, c), dot_weights(w, d));
}

@if(in_place)
fn each(word: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    let w = in_place_bytes(word);
    return vec4(dot(w, a), dot(w, b), dot(w, c), dot(w, d));
}
