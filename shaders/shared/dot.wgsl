// Activations in blocks of 32, and the dot product of a block of weights with one: in f32, or of bytes (condition `i8`).
//
// Where a norm's division is still to come, x is the residual stream times the norm's weight, and says for each block the sum
// of squares of the residual stream: bytes in their blocks, floats in a vector for each block behind the last one.

import package::shared::formats::{Block, Row, load_block};
@if(quantized) import package::shared::formats::{Quants, load_quants, bytes};

@if(!i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [tokens, blocks, 8]
@if(i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>; // [tokens, blocks, 3], see shared/blocks

@if(i8)
struct Activation { lo: vec4<u32>, hi: vec4<u32>, scale: vec2<f32> }
@if(!i8)
struct Activation { block: Block, sum: f32 }

@if(i8)
fn load_activation(index: u32) -> Activation {
    let at = index * 3u;
    // Two words and not four: on software adapters each costs.
    return Activation(x[at + 1u], x[at + 2u], bitcast<vec2<f32>>(vec2(x[at].x, x[at].y)));
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

@if(quantized && i8)
fn dot_weights(w: Weights, v: Activation) -> f32 {
    let lo = dot4I8Packed(w.lo.x, v.lo.x) + dot4I8Packed(w.lo.y, v.lo.y) + dot4I8Packed(w.lo.z, v.lo.z) + dot4I8Packed(w.lo.w, v.lo.w);
    let hi = dot4I8Packed(w.hi.x, v.hi.x) + dot4I8Packed(w.hi.y, v.hi.y) + dot4I8Packed(w.hi.z, v.hi.z) + dot4I8Packed(w.hi.w, v.hi.w);
    return v.scale.x * (w.scale.x * f32(lo) + w.scale.y * f32(hi)) + w.minimum * v.scale.y;
}
