// Activations in blocks of 32, and the dot product of a block of weights with one: in f32, or of bytes (condition `i8`).
//
// With `swar` one 32-bit multiplication takes two bytes of each: with w = w0 + w1 << 16 and v = v1 + v0 << 16 the upper half of
// w v is w0 v0 + w1 v1. The lower half, w0 v1, stays a signed 16-bit number, also when four such products with w0, w1 in 0..31
// are added: at most 4 * 31 * 127 = 15748, and above it twice as much.
//
// With `quads` bytes are multiplied as floats, which hold the sums of their products exactly. A byte of a weight is not moved to the
// end of its word: masked there, it is the number times a power of two, which the activation is divided by. A driver that has no
// shift for vectors computes with these in a third of the instructions.
//
// Where a norm's division is still to come, x is the residual stream times the norm's weight, and says for each block the sum
// of squares of the residual stream: bytes in their blocks, floats in a vector for each block behind the last one.

import package::shared::formats::{Block, Row, load_block};
@if(quantized) import package::shared::formats::{Quants, bytes, column_of, load_quants};

@if(!i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [tokens, blocks, 8]
@if(i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>; // [tokens, blocks, 3], see shared/blocks

@if(quads)
struct Activation { block: Block, correction: vec2<f32>, scale: vec2<f32> }
@if(i8 && !swar && !quads)
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
    @if(quads) {
        let v = Block(places(lo.x), places(lo.y), places(lo.z), places(lo.w),
            HI_UNIT * places(hi.x), HI_UNIT * places(hi.y), HI_UNIT * places(hi.z), HI_UNIT * places(hi.w));
        return Activation(v, vec2(dot(v.a + v.b + v.c + v.d, LO_LACKS), dot(v.e + v.f + v.g + v.h, HI_LACKS)), scale);
    }
    @if(!swar && !quads) {
        return Activation(lo, hi, scale);
    }
}

// The signed bytes of a word, each divided by 256 for every byte before it.
@if(quads)
fn places(word: u32) -> vec4<f32> {
    let at_top = (vec4(word) * vec4(0x1000000u, 0x10000u, 0x100u, 1u)) & vec4(0xff000000u);
    return vec4<f32>(bitcast<vec4<i32>>(at_top))
        * vec4(5.9604644775390625e-8, 2.3283064365386962890625e-10, 9.094947017729282379150390625e-13, 3.5527136788005009293556213378906e-15);
}

// What of a word belongs to the two halves of a block; four bits stay where they are in their byte, in a vector that both halves share.
@if(quads && (q4_0 || q4_1 || q4_k)) const LO_MASKS: vec4<u32> = vec4(0xfu, 0xf00u, 0xf0000u, 0xf000000u);
@if(quads && (q4_0 || q4_1 || q4_k)) const HI_MASKS: vec4<u32> = vec4(0xf0u, 0xf000u, 0xf00000u, 0xf0000000u);
@if(quads && !(q4_0 || q4_1 || q4_k)) const LO_MASKS: vec4<u32> = vec4(0xffu, 0xff00u, 0xff0000u, 0xff000000u);
@if(quads && !(q4_0 || q4_1 || q4_k)) const HI_MASKS: vec4<u32> = LO_MASKS;

// The last byte of a word is read with its sign, the others without. What has to be flipped in the words of both halves for that, and
// what the sums then lack: unsigned bytes are 128 less behind the flip, signed ones 128 more.
@if(quads && (q4_0 || q4_1 || q4_k)) const LO_FLIPS: u32 = 0u; // below 128 anyway
@if(quads && (q4_0 || q4_1 || q4_k)) const HI_UNIT: f32 = 0.0625;
@if(quads && (q4_0 || q4_1 || q4_k)) const HI_FLIPS: u32 = 0x80000000u;
@if(quads && (q4_0 || q4_1 || q4_k)) const LO_LACKS: vec4<f32> = vec4(0.0);
@if(quads && (q4_0 || q4_1 || q4_k)) const HI_LACKS: vec4<f32> = vec4(0.0, 0.0, 0.0, 2147483648.0);
@if(quads && !(q4_0 || q4_1 || q4_k)) const LO_FLIPS: u32 = 0x00808080u;
@if(quads && !(q4_0 || q4_1 || q4_k)) const HI_UNIT: f32 = 1.0;
@if(quads && !(q4_0 || q4_1 || q4_k)) const HI_FLIPS: u32 = 0x00808080u;
@if(quads && !(q4_0 || q4_1 || q4_k)) const LO_LACKS: vec4<f32> = vec4(-128.0, -32768.0, -8388608.0, 0.0);
@if(quads && !(q4_0 || q4_1 || q4_k)) const HI_LACKS: vec4<f32> = vec4(-128.0, -32768.0, -8388608.0, 0.0);

// 32 weights as floats, each in its place.
@if(quads)
fn placed(w: Weights) -> Block {
    let l = w.lo ^ vec4(LO_FLIPS);
    let h = w.hi ^ vec4(HI_FLIPS);
    return Block(masked(l.x, LO_MASKS), masked(l.y, LO_MASKS), masked(l.z, LO_MASKS), masked(l.w, LO_MASKS),
        masked(h.x, HI_MASKS), masked(h.y, HI_MASKS), masked(h.z, HI_MASKS), masked(h.w, HI_MASKS));
}

@if(quads)
fn masked(word: u32, masks: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word) & masks));
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
fn load_weights(row: Row, block: u32) -> Weights { return load_quants(row, column_of(row.blocks, block)); }
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

// Each byte is used as soon as it is a float: what is kept for later goes through memory.
@if(quads)
fn dot_weights(w: Weights, v: Activation) -> f32 {
    let b = v.block;
    let l = w.lo ^ vec4(LO_FLIPS);
    let h = w.hi ^ vec4(HI_FLIPS);
    let lo = v.correction.x + dot(masked(l.x, LO_MASKS), b.a) + dot(masked(l.y, LO_MASKS), b.b) + dot(masked(l.z, LO_MASKS), b.c)
        + dot(masked(l.w, LO_MASKS), b.d);
    let hi = v.correction.y + dot(masked(h.x, HI_MASKS), b.e) + dot(masked(h.y, HI_MASKS), b.f) + dot(masked(h.z, HI_MASKS), b.g)
        + dot(masked(h.w, HI_MASKS), b.h);
    return v.scale.x * (w.scale.x * lo + w.scale.y * hi) + w.minimum * v.scale.y;
}

// The same with all bytes made floats before, for more than one product.
@if(quads)
fn dot_placed(q: Block, w: Weights, v: Activation) -> f32 {
    let b = v.block;
    let lo = v.correction.x + dot(q.a, b.a) + dot(q.b, b.b) + dot(q.c, b.c) + dot(q.d, b.d);
    let hi = v.correction.y + dot(q.e, b.e) + dot(q.f, b.f) + dot(q.g, b.g) + dot(q.h, b.h);
    return v.scale.x * (w.scale.x * lo + w.scale.y * hi) + w.minimum * v.scale.y;
}

@if(quantized && i8 && !swar && !quads)
fn dot_weights(w: Weights, v: Activation) -> f32 {
    let lo = dot4I8Packed(w.lo.x, v.lo.x) + dot4I8Packed(w.lo.y, v.lo.y) + dot4I8Packed(w.lo.z, v.lo.z) + dot4I8Packed(w.lo.w, v.lo.w);
    let hi = dot4I8Packed(w.hi.x, v.hi.x) + dot4I8Packed(w.hi.y, v.hi.y) + dot4I8Packed(w.hi.z, v.hi.z) + dot4I8Packed(w.hi.w, v.hi.w);
    return v.scale.x * (w.scale.x * f32(lo) + w.scale.y * f32(hi)) + w.minimum * v.scale.y;
}
