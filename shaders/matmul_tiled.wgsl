// y[token, offset + row] (+)= dot(W[row], x[token]) for tiles of ROWS rows and TOKENS tokens, whose weights and activations
// pass through workgroup memory, as floats, with `i8` as bytes, or with `halves` as 16-bit floats whose products are added up in f32
// after eight: the shape for adapters with many lanes and fast barriers. A lane computes four rows of four tokens and reads four
// columns of each at a time, or 16 bytes.
//
// With `experts` a tile holds (token, rank) pairs that chose the same expert, as moe_group lists them; with `few` fewer of them,
// for experts that few tokens chose.

import package::shared::guard::halted;
import package::shared::formats::{Row, load_block};
@if(i8) import package::shared::formats::{column_of, load_quants};
import package::shared::product::{NONE, Params};

@if(halves) enable f16;

@group(0) @binding(0) var<uniform> params: Params;
@if(!i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [tokens, blocks, 8]
@if(i8)
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>; // [tokens, blocks, 3], see shared/blocks
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [pairs, y_stride]
@if(experts)
@group(0) @binding(6) var<storage, read> tile_expert: array<u32>; // [tiles] which matrix of the stack, NONE behind the last one
@if(experts)
@group(0) @binding(7) var<storage, read> tile_pairs: array<u32>; // [tiles, TOKENS], NONE where a tile is not full

const ROWS: u32 = 64u; // two groups
@if(few) const TOKENS: u32 = 16u;
@if(!few) const TOKENS: u32 = 64u;
const THREADS: u32 = ROWS / 4u * TOKENS / 4u;
// A lane computes every ROW_STEP-th row, and every TOKEN_STEP-th token.
const ROW_STEP: u32 = ROWS / 4u;
const TOKEN_STEP: u32 = TOKENS / 4u;

// Blocks that are in workgroup memory at a time, and vectors of 16 bytes of a token in them, as they come from x.
@if(i8) const DEPTH: u32 = 2u;
@if(!i8) const DEPTH: u32 = 1u;
@if(i8) const VECTORS: u32 = 6u;
@if(!i8) const VECTORS: u32 = 8u;
// Times that all lanes bring one.
const ROUNDS: u32 = (TOKENS * VECTORS + THREADS - 1u) / THREADS;

@if(halves) alias Columns = vec4<f16>;
@if(!i8 && !halves) alias Columns = vec4<f32>;
@if(!i8)
var<workgroup> w_tile: array<Columns, 512>; // [8, ROWS]
@if(!i8)
var<workgroup> x_tile: array<Columns, 512>; // [8, TOKENS]
@if(i8)
var<workgroup> w_tile: array<vec4<u32>, 256>; // [DEPTH, 2, ROWS]
@if(i8)
var<workgroup> x_tile: array<vec4<u32>, 256>; // [DEPTH, 2, TOKENS]
@if(i8)
var<workgroup> w_scale: array<vec4<f32>, 128>; // [DEPTH, ROWS] scales of the halves, minimum
@if(i8)
var<workgroup> x_scale: array<vec2<f32>, 128>; // [DEPTH, TOKENS] scale, scaled sum

fn pair_at(tile: u32, token: u32) -> u32 {
    @if(experts) {
        return tile_pairs[tile * TOKENS + token];
    }
    @if(!experts) {
        return tile * TOKENS + token;
    }
}

// Four floats as they are kept: what is too large for 16 bits is the largest that is not. Products are of 32 bits: those of 16 would
// overflow where neither factor does.
@if(halves)
fn columns(v: vec4<f32>) -> Columns { return Columns(clamp(v, vec4(-65504.0), vec4(65504.0))); }
@if(!i8 && !halves)
fn columns(v: vec4<f32>) -> Columns { return v; }

// Brings a row's part of the weights from `block` on.
@if(!i8)
fn bring_weights(row: Row, at: u32, block: u32) {
    let w = load_block(row, block);
    w_tile[at] = columns(w.a);
    w_tile[ROWS + at] = columns(w.b);
    w_tile[2u * ROWS + at] = columns(w.c);
    w_tile[3u * ROWS + at] = columns(w.d);
    w_tile[4u * ROWS + at] = columns(w.e);
    w_tile[5u * ROWS + at] = columns(w.f);
    w_tile[6u * ROWS + at] = columns(w.g);
    w_tile[7u * ROWS + at] = columns(w.h);
}
@if(i8)
fn bring_weights(row: Row, at: u32, block: u32) {
    let depth = at / ROWS;
    let to = depth * 2u * ROWS + at % ROWS;
    // Behind the last block there are zeros.
    w_scale[at] = vec4(0.0);
    w_tile[to] = vec4(0u);
    w_tile[to + ROWS] = vec4(0u);
    if block + depth < row.blocks {
        let w = load_quants(row, column_of(row.blocks, block + depth));
        w_scale[at] = vec4(w.scale, w.minimum, 0.0);
        w_tile[to] = w.lo;
        w_tile[to + ROWS] = w.hi;
    }
}

// Brings one of a token's vectors, whose row of x begins at block `x_row`.
@if(!i8)
fn bring_activation(x_row: u32, token: u32, vector: u32, block: u32) {
    x_tile[vector * TOKENS + token] = columns(x[(x_row + block) * 8u + vector]);
}
@if(i8)
fn bring_activation(x_row: u32, token: u32, vector: u32, block: u32) {
    let depth = vector / 3u;
    var v = vec4(0u);
    if block + depth < params.blocks { v = x[(x_row + block) * 3u + vector]; }
    if vector % 3u == 0u {
        x_scale[depth * TOKENS + token] = bitcast<vec2<f32>>(v.xy);
    } else {
        x_tile[(depth * 2u + vector % 3u - 1u) * TOKENS + token] = v;
    }
}

@if(i8)
fn dot_bytes(w: vec4<u32>, v: vec4<u32>) -> i32 {
    return dot4I8Packed(w.x, v.x) + dot4I8Packed(w.y, v.y) + dot4I8Packed(w.z, v.z) + dot4I8Packed(w.w, v.w);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if halted() { return; }
    let groups = (params.rows + 31u) / 32u;
    let group = (workgroup.z * size.x + workgroup.x) * 2u;
    let tile = workgroup.y;
    var base = 0u;
    @if(experts) {
        if tile_expert[tile] == NONE { return; }
        base = tile_expert[tile] * groups;
    }
    // Nothing of this part of the weights is wanted here.
    if group >= groups || base + group >= params.end_group || base + group + 2u <= params.first_group { return; }

    // A row or a token that is not there is computed as the last one that is, and not written.
    let mine = clamp(base + min(group + thread % ROWS / 32u, groups - 1u), params.first_group, params.end_group - 1u);
    let row = Row(mine - params.first_group, thread % 32u, params.blocks);
    var x_from: array<u32, ROUNDS>;
    for (var i = 0u; i < ROUNDS; i++) {
        let token = min((thread + i * THREADS) / VECTORS, TOKENS - 1u);
        x_from[i] = min(pair_at(tile, token), params.tokens - 1u) / params.sharing * params.blocks;
    }

    let lane_row = thread % ROW_STEP;
    let lane_token = thread / ROW_STEP;
    var sums: array<vec4<f32>, 4>; // for each of the four rows, the four tokens
    for (var block = 0u; block < params.blocks; block += DEPTH) {
        for (var at = thread; at < ROWS * DEPTH; at += THREADS) {
            bring_weights(row, at, block);
        }
        for (var i = 0u; i < ROUNDS; i++) {
            let at = thread + i * THREADS;
            if at < TOKENS * VECTORS { bring_activation(x_from[i], at / VECTORS, at % VECTORS, block); }
        }
        workgroupBarrier();
        @if(!i8) {
            for (var k = 0u; k < 8u; k++) {
                let token = k * TOKENS + lane_token;
                let v0 = vec4<f32>(x_tile[token]);
                let v1 = vec4<f32>(x_tile[token + TOKEN_STEP]);
                let v2 = vec4<f32>(x_tile[token + 2u * TOKEN_STEP]);
                let v3 = vec4<f32>(x_tile[token + 3u * TOKEN_STEP]);
                for (var r = 0u; r < 4u; r++) {
                    let w = vec4<f32>(w_tile[k * ROWS + lane_row + r * ROW_STEP]);
                    sums[r] += vec4(dot(w, v0), dot(w, v1), dot(w, v2), dot(w, v3));
                }
            }
        }
        @if(i8) {
            for (var depth = 0u; depth < DEPTH; depth++) {
                let token = depth * TOKENS + lane_token;
                let s0 = x_scale[token];
                let s1 = x_scale[token + TOKEN_STEP];
                let s2 = x_scale[token + 2u * TOKEN_STEP];
                let s3 = x_scale[token + 3u * TOKEN_STEP];
                let scale = vec4(s0.x, s1.x, s2.x, s3.x);
                let sum = vec4(s0.y, s1.y, s2.y, s3.y);
                var whole: array<vec4<i32>, 4>;
                for (var part = 0u; part < 2u; part++) {
                    let first = (depth * 2u + part) * TOKENS + lane_token;
                    let v0 = x_tile[first];
                    let v1 = x_tile[first + TOKEN_STEP];
                    let v2 = x_tile[first + 2u * TOKEN_STEP];
                    let v3 = x_tile[first + 3u * TOKEN_STEP];
                    for (var r = 0u; r < 4u; r++) {
                        let w = w_tile[(depth * 2u + part) * ROWS + lane_row + r * ROW_STEP];
                        let found = vec4(dot_bytes(w, v0), dot_bytes(w, v1), dot_bytes(w, v2), dot_bytes(w, v3));
                        // Halves of a block have scales of their own.
                        @if(q6_k) {
                            sums[r] += scale * (w_scale[depth * ROWS + lane_row + r * ROW_STEP][part] * vec4<f32>(found));
                        }
                        @if(!q6_k) {
                            whole[r] += found;
                        }
                    }
                }
                @if(!q6_k) {
                    for (var r = 0u; r < 4u; r++) {
                        let w = w_scale[depth * ROWS + lane_row + r * ROW_STEP];
                        sums[r] += scale * (w.x * vec4<f32>(whole[r])) + w.z * sum;
                    }
                }
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < 4u; r++) {
        let row = group * 32u + lane_row + r * ROW_STEP;
        let global = base + row / 32u;
        if row < params.rows && global >= params.first_group && global < params.end_group {
            for (var t = 0u; t < 4u; t++) {
                let pair = pair_at(tile, lane_token + t * TOKEN_STEP);
                if pair < params.tokens {
                    let at = pair * params.y_stride + params.y_offset + row;
                    if params.accumulate == 1u { y[at] += sums[r][t]; } else { y[at] = sums[r][t]; }
                }
            }
        }
    }
}
