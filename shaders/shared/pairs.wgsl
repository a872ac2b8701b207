// Several tokens by one block of weights in shapes of four lanes (`quads`): what is made of the weights serves all of them.
//
// Four bits are multiplied two at a time, as with `swar` (see shared/dot), but made signed first: then the products of all 32 fit into
// one sum. With w = w0 + w1 << 16 and v = v1 + v0 << 16 its upper half is w0 v0 + w1 v1, its lower one w0 v1, both of them signed
// 16-bit numbers: at most 32 * 8 * 127 and half of that. Nothing is shifted: a float times a power of two is, exactly. Other formats
// are multiplied as floats.

import package::shared::formats::{Block, Quants};
import package::shared::dot::x;
@if(!(q4_0 || q4_1 || q4_k)) import package::shared::dot::{Activation, dot_placed, load_activation, placed};

// Bytes 0 and 2 of each word, and bytes 1 and 3, of both halves of a block.
@if(q4_0 || q4_1 || q4_k)
struct Pairs { lo_even: vec4<i32>, lo_odd: vec4<i32>, hi_even: vec4<i32>, hi_odd: vec4<i32> }
@if(q4_0 || q4_1 || q4_k)
struct Token { pairs: Pairs, scale: vec2<f32> }
@if(q4_0 || q4_1 || q4_k)
struct Decoded { pairs: Pairs, scale: f32, minimum: f32 }
@if(!(q4_0 || q4_1 || q4_k))
alias Token = Activation;
@if(!(q4_0 || q4_1 || q4_k))
struct Decoded { floats: Block, weights: Quants }

// What rounds a float below 2^22 to a whole number, which is then in its last bits.
const WHOLE: f32 = 12582912.0; // 1.5 * 2^23
const WHOLE_BITS: u32 = 0x4b400000u;

@if(q4_0 || q4_1 || q4_k)
fn load_token(index: u32) -> Token {
    let at = index * 3u;
    let lo = x[at + 1u];
    let hi = x[at + 2u];
    // The sums of products are taken with the 16 bits below them.
    let scale = bitcast<vec2<f32>>(vec2(x[at].x, x[at].y)) * vec2(1.52587890625e-5, 1.0);
    return Token(Pairs(even_pairs(lo), odd_pairs(lo), even_pairs(hi), odd_pairs(hi)), scale);
}
@if(!(q4_0 || q4_1 || q4_k))
fn load_token(index: u32) -> Token { return load_activation(index); }

@if(q4_0 || q4_1 || q4_k)
fn even_pairs(words: vec4<u32>) -> vec4<i32> {
    return signed_pairs(((words ^ vec4(0x80u)) & vec4(0xffu)) * 0x10000u, words * 0x100u);
}

@if(q4_0 || q4_1 || q4_k)
fn odd_pairs(words: vec4<u32>) -> vec4<i32> {
    return signed_pairs(((words ^ vec4(0x8000u)) & vec4(0xff00u)) * 0x100u, words);
}

// From a byte plus 128, 16 bits up, and the last byte of a word.
@if(q4_0 || q4_1 || q4_k)
fn signed_pairs(upper: vec4<u32>, words: vec4<u32>) -> vec4<i32> {
    let last = vec4<f32>(bitcast<vec4<i32>>(words & vec4(0xff000000u))) * 5.9604644775390625e-8 + WHOLE;
    return bitcast<vec4<i32>>(upper + bitcast<vec4<u32>>(last) - vec4(0x800000u + WHOLE_BITS));
}

@if(q4_0 || q4_1 || q4_k)
fn decoded(w: Quants) -> Decoded {
    let pairs = Pairs(
        bitcast<vec4<i32>>(w.lo & vec4(0x000f000fu)) - vec4(0x00080008),
        weight_pairs(w.lo & vec4(0x0f000f00u), 0.00390625, 524296.0),
        weight_pairs(w.lo & vec4(0x00f000f0u), 0.0625, 524296.0),
        weight_pairs((w.lo ^ vec4(0x80000000u)) & vec4(0xf000f000u), 0.000244140625, 8.0),
    );
    return Decoded(pairs, w.scale.x, 8.0 * w.scale.x + w.minimum);
}
@if(!(q4_0 || q4_1 || q4_k))
fn decoded(w: Quants) -> Decoded {
    return Decoded(placed(w), w);
}

// Words times `unit`, less what makes both numbers signed: 8, and 8 << 16 where the upper one is not yet.
@if(q4_0 || q4_1 || q4_k)
fn weight_pairs(words: vec4<u32>, unit: f32, bias: f32) -> vec4<i32> {
    let moved = vec4<f32>(bitcast<vec4<i32>>(words)) * unit + (WHOLE - bias);
    return bitcast<vec4<i32>>(moved) - vec4(i32(WHOLE_BITS));
}

// The token's pairs come first in each product: SwiftShader then takes them from memory once and not by way of another place there.
@if(q4_0 || q4_1 || q4_k)
fn dot_token(w: Decoded, v: Token) -> f32 {
    let sum = dot(v.pairs.lo_even, w.pairs.lo_even) + dot(v.pairs.lo_odd, w.pairs.lo_odd)
        + dot(v.pairs.hi_even, w.pairs.hi_even) + dot(v.pairs.hi_odd, w.pairs.hi_odd);
    // Half of the lower half's range makes what it borrows from the upper one good.
    let upper = (sum + 0x8000) & -65536;
    return v.scale.x * w.scale * f32(upper) + w.minimum * v.scale.y;
}
@if(!(q4_0 || q4_1 || q4_k))
fn dot_token(w: Decoded, v: Token) -> f32 { return dot_placed(w.floats, w.weights, v); }
