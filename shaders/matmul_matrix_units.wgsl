// y[token, offset + row] (+)= dot(W[row], x[token]) for tiles of ROWS rows and TOKENS tokens by the adapter's matrix units, which wgpu
// calls cooperative matrices: weights and activations pass through workgroup memory as 16-bit floats, and a subgroup multiplies
// squares of SIZE by SIZE of them, whose products it adds up in f32.
//
// With `experts` a tile holds (token, rank) pairs that chose the same expert, as moe_group lists them; with `few` fewer of them,
// for experts that few tokens chose.
//
// What a subgroup computes is a unit, and a tile is four of them, or with `wide`, for subgroups of more lanes, two. Where there are fewer subgroups, they compute one after the other;
// where there are more, the others compute what nobody reads, because all have to take the same way.

import package::shared::guard::halted;
import package::shared::formats::{Row, load_block};
import package::shared::product::{NONE, Params};

enable f16;
enable wgpu_cooperative_matrix;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [tokens, blocks, 8]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [pairs, y_stride]
@if(experts)
@group(0) @binding(6) var<storage, read> tile_expert: array<u32>; // [tiles] which matrix of the stack, NONE behind the last one
@if(experts)
@group(0) @binding(7) var<storage, read> tile_pairs: array<u32>; // [tiles, TOKENS], NONE where a tile is not full

@if(matrices_8) const SIZE: u32 = 8u;
@if(matrices_16) const SIZE: u32 = 16u;
@if(matrices_8) alias WeightMatrix = coop_mat8x8<f16, A>;
@if(matrices_8) alias ActivationMatrix = coop_mat8x8<f16, B>;
@if(matrices_8) alias SumMatrix = coop_mat8x8<f32, C>;
@if(matrices_16) alias WeightMatrix = coop_mat16x16<f16, A>;
@if(matrices_16) alias ActivationMatrix = coop_mat16x16<f16, B>;
@if(matrices_16) alias SumMatrix = coop_mat16x16<f32, C>;

const ROWS: u32 = 64u; // two groups
@if(few) const TOKENS: u32 = 16u;
@if(!few) const TOKENS: u32 = 64u;
const THREADS: u32 = 128u;
// The first lanes bring a row of the weights each, the others bring activations, VECTORS of 16 bytes for each token.
const LOADERS: u32 = THREADS - ROWS;
const VECTORS: u32 = 8u;
const ROUNDS: u32 = TOKENS * VECTORS / LOADERS;

// Tokens and rows of a unit, units above each other in a tile, and matrices of a unit: [ACROSS, DOWN].
@if(few) const UNIT_TOKENS: u32 = 16u;
@if(!few) const UNIT_TOKENS: u32 = 32u;
@if(wide) const UNITS: u32 = 2u;
@if(!wide) const UNITS: u32 = 4u;
const UNIT_ROWS: u32 = ROWS * TOKENS / UNIT_TOKENS / UNITS;
const UNITS_DOWN: u32 = ROWS / UNIT_ROWS;
const DOWN: u32 = UNIT_ROWS / SIZE;
const ACROSS: u32 = UNIT_TOKENS / SIZE;

// A block of 32 columns, and what keeps rows that are read together from sharing banks of memory.
const COLS: u32 = 32u;
const STRIDE: u32 = COLS + 8u;
const X_TILE: u32 = ROWS * STRIDE;
// Vectors are put there by fewer instructions, but Metal, whose matrices are of 8, loads them from scalars only.
@if(matrices_8) const WIDTH: u32 = 1u;
@if(matrices_16) const WIDTH: u32 = 4u;
@if(matrices_8) var<workgroup> tiles: array<f16, 5120>; // [ROWS, STRIDE] weights, [TOKENS, STRIDE] activations
@if(matrices_16) var<workgroup> tiles: array<vec4<f16>, 1280>;
// A matrix of each unit, and one of the subgroups that have none.
const RESULT: u32 = SIZE * SIZE;
@if(matrices_8) var<workgroup> results: array<f32, 320>; // [UNITS + 1, SIZE tokens, SIZE rows] at most
@if(matrices_16) var<workgroup> results: array<f32, 1280>;

fn pair_at(tile: u32, token: u32) -> u32 {
    @if(experts) {
        return tile_pairs[tile * TOKENS + token];
    }
    @if(!experts) {
        return tile * TOKENS + token;
    }
}

// Puts four floats into the tiles: what is too large for 16 bits is the largest that is not.
fn put(at: u32, v: vec4<f32>) {
    let halves = vec4<f16>(clamp(v, vec4(-65504.0), vec4(65504.0)));
    @if(matrices_8) {
        tiles[at] = halves.x;
        tiles[at + 1u] = halves.y;
        tiles[at + 2u] = halves.z;
        tiles[at + 3u] = halves.w;
    }
    @if(matrices_16) {
        tiles[at / WIDTH] = halves;
    }
}

fn bring_weights(row: Row, at: u32, block: u32) {
    let w = load_block(row, block);
    put(at, w.a);
    put(at + 4u, w.b);
    put(at + 8u, w.c);
    put(at + 12u, w.d);
    put(at + 16u, w.e);
    put(at + 20u, w.f);
    put(at + 24u, w.g);
    put(at + 28u, w.h);
}

// Where a lane is when units write what they have computed.
struct Place { thread: u32, result: u32, first_unit: u32, units: u32, group: u32, base: u32, tile: u32 }

// Writes the units' matrices of a number, each subgroup bringing its own.
fn write_sums(sums: SumMatrix, number: u32, place: Place) {
    coopStore(sums, &results[place.result * RESULT], SIZE);
    workgroupBarrier();
    for (var at = place.thread; at < place.units * RESULT; at += THREADS) {
        let unit = place.first_unit + at / RESULT;
        let row = place.group * 32u + unit % UNITS_DOWN * UNIT_ROWS + number % DOWN * SIZE + at % SIZE;
        let token = unit / UNITS_DOWN * UNIT_TOKENS + number / DOWN * SIZE + at % RESULT / SIZE;
        let pair = pair_at(place.tile, token);
        let global = place.base + row / 32u;
        if row < params.rows && global >= params.first_group && global < params.end_group && pair < params.tokens {
            let to = pair * params.y_stride + params.y_offset + row;
            if params.accumulate == 1u { y[to] += results[at]; } else { y[to] = results[at]; }
        }
    }
    workgroupBarrier();
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
    // Neither a variable nor `||`: matrices want control flow that naga takes for uniform.
    @if(experts) let expert = tile_expert[tile];
    @if(!experts) let expert = 0u;
    if expert == NONE { return; }
    let base = expert * groups;
    // Nothing of this part of the weights is wanted here.
    if group >= groups { return; }
    if base + group >= params.end_group { return; }
    if base + group + 2u <= params.first_group { return; }

    // A row or a token that is not there is computed as the last one that is, and not written.
    let mine = clamp(base + min(group + thread % ROWS / 32u, groups - 1u), params.first_group, params.end_group - 1u);
    let row = Row(mine - params.first_group, thread % 32u, params.blocks);
    let loader = thread % LOADERS;
    var x_from: array<u32, ROUNDS>;
    for (var i = 0u; i < ROUNDS; i++) {
        let token = (loader + i * LOADERS) / VECTORS;
        x_from[i] = min(pair_at(tile, token), params.tokens - 1u) / params.sharing * params.blocks;
    }

    // A subgroup is taken to be neighbours in the workgroup.
    let lanes = subgroupAdd(1u);
    let subgroup = subgroupMin(thread) / lanes;
    let together = min(THREADS / lanes, UNITS);
    for (var first = 0u; first < UNITS; first += together) {
        let unit = (first + subgroup) % UNITS;
        let result = select(subgroup, UNITS, subgroup >= together || first + subgroup >= UNITS);
        let first_row = unit % UNITS_DOWN * UNIT_ROWS * STRIDE;
        let first_token = X_TILE + unit / UNITS_DOWN * UNIT_TOKENS * STRIDE;
        // Zeros that are loaded: what a new matrix holds on Metal is not certain.
        for (var at = thread; at < (UNITS + 1u) * RESULT; at += THREADS) {
            results[at] = 0.0;
        }
        workgroupBarrier();
        var sums: array<SumMatrix, DOWN * ACROSS>;
        for (var i = 0u; i < DOWN * ACROSS; i++) {
            sums[i] = coopLoad<SumMatrix>(&results[result * RESULT], SIZE);
        }
        for (var block = 0u; block < params.blocks; block++) {
            if thread < ROWS {
                bring_weights(row, thread * STRIDE, block);
            } else {
                for (var i = 0u; i < ROUNDS; i++) {
                    let at = loader + i * LOADERS;
                    put(X_TILE + at / VECTORS * STRIDE + at % VECTORS * 4u, x[(x_from[i] + block) * VECTORS + at % VECTORS]);
                }
            }
            workgroupBarrier();
            for (var col = 0u; col < COLS; col += SIZE) {
                var w: array<WeightMatrix, DOWN>;
                for (var i = 0u; i < DOWN; i++) {
                    w[i] = coopLoadT<WeightMatrix>(&tiles[(first_row + i * SIZE * STRIDE + col) / WIDTH], STRIDE / WIDTH);
                }
                for (var j = 0u; j < ACROSS; j++) {
                    let v = coopLoad<ActivationMatrix>(&tiles[(first_token + j * SIZE * STRIDE + col) / WIDTH], STRIDE / WIDTH);
                    for (var i = 0u; i < DOWN; i++) {
                        sums[j * DOWN + i] = coopMultiplyAdd(w[i], v, sums[j * DOWN + i]);
                    }
                }
            }
            workgroupBarrier();
        }

        // One by one, and not in a loop: a compiler that kept it would have to keep the matrices in memory.
        let place = Place(thread, result, first, min(together, UNITS - first), group, base, tile);
        write_sums(sums[0], 0u, place);
        @if(!few || wide || matrices_8) {
            write_sums(sums[1], 1u, place);
        }
        @if(!few || matrices_8) {
            write_sums(sums[2], 2u, place);
            write_sums(sums[3], 3u, place);
        }
        @if(!few && (wide || matrices_8)) {
            write_sums(sums[4], 4u, place);
            write_sums(sums[5], 5u, place);
            write_sums(sums[6], 6u, place);
            write_sums(sums[7], 7u, place);
        }
        @if(!few && matrices_8) {
            write_sums(sums[8], 8u, place);
            write_sums(sums[9], 9u, place);
            write_sums(sums[10], 10u, place);
            write_sums(sums[11], 11u, place);
            write_sums(sums[12], 12u, place);
            write_sums(sums[13], 13u, place);
            write_sums(sums[14], 14u, place);
            write_sums(sums[15], 15u, place);
        }
    }
}
