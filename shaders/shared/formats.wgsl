// Weight formats: 32 consecutive columns (a block) of one row, read from the packed layout that src/packing writes.
//
// Rows come in groups of 32; within a group the words of neighbouring rows lie side by side, so that lanes that hold
// neighbouring rows read neighbouring memory. `quants` has VECS vec4 per block and row, `side` (scales, minima, high bits)
// some words per block, pair of blocks or superblock of 8 blocks.

import package::shared::half::half_pair;

@group(0) @binding(1) var<storage, read> quants: array<vec4<u32>>; // [groups, blocks, VECS, 32]
@if(quantized)
@group(0) @binding(2) var<storage, read> side: array<u32>; // [groups, units, words, 32]

// 32 floats.
struct Block { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>, f: vec4<f32>, g: vec4<f32>, h: vec4<f32> }

// Where a row is: its group, its lane in the group, and how many blocks a row has.
struct Row { group: u32, lane: u32, blocks: u32 }

// Which block of a row: with the unit of side words that it belongs to, and how many of them a row has.
struct Column { block: u32, unit: u32, units: u32 }

fn column_of(blocks: u32, block: u32) -> Column {
    @if(q4_0 || q5_0 || q8_0) {
        return Column(block, block / 2u, (blocks + 1u) / 2u);
    }
    @if(q4_k || q5_k || q6_k) {
        return Column(block, block / 8u, blocks / 8u);
    }
    @if(!(q4_0 || q5_0 || q8_0 || q4_k || q5_k || q6_k)) {
        return Column(block, block, blocks);
    }
}

// 32 signed bytes q, packed in order; weight = scale * q + minimum, one scale for each half. With `quads` four bits
// stay where they are: lo and hi are the same bytes, of which lo is the lower halves and hi the upper ones.
@if(quantized)
struct Quants { lo: vec4<u32>, hi: vec4<u32>, scale: vec2<f32>, minimum: f32 }

@if(quantized)
fn side_word(row: Row, column: Column, words: u32, word: u32) -> u32 {
    return side[((row.group * column.units + column.unit) * words + word) * 32u + row.lane];
}

@if(quantized)
fn nibbles(row: Row, block: u32) -> vec4<u32> {
    return quants[(row.group * row.blocks + block) * 32u + row.lane];
}

@if((q4_0 || q4_1 || q4_k) && quads)
fn four_bits(q: vec4<u32>, scale: f32, minimum: f32) -> Quants {
    return Quants(q, q, vec2(scale), minimum);
}
@if((q4_0 || q4_1 || q4_k) && !quads)
fn four_bits(q: vec4<u32>, scale: f32, minimum: f32) -> Quants {
    return Quants(q & vec4(0x0f0f0f0fu), (q >> vec4(4u)) & vec4(0x0f0f0f0fu), vec2(scale), minimum);
}

// One of the two halves in a word that a pair of blocks shares.
@if(q4_0 || q5_0 || q8_0)
fn pair_scale(row: Row, column: Column, words: u32, word: u32) -> f32 {
    let pair = half_pair(side_word(row, column, words, word));
    return select(pair.x, pair.y, (column.block & 1u) != 0u);
}

@if(q4_0)
fn load_quants(row: Row, column: Column) -> Quants {
    let scale = pair_scale(row, column, 1u, 0u);
    return four_bits(nibbles(row, column.block), scale, -8.0 * scale);
}

@if(q4_1)
fn load_quants(row: Row, column: Column) -> Quants {
    let pair = half_pair(side_word(row, column, 1u, 0u));
    return four_bits(nibbles(row, column.block), pair.x, pair.y);
}

// Bit 8 i + j of `high` is the fifth bit of element 4 j + i. Multiplied and not shifted where that is possible, see shared/dot.
@if(q5_0 || q5_1 || q5_k)
fn fifth_bits(high: u32) -> array<vec4<u32>, 2> {
    let lo = vec4(high) * vec4(16u, 8u, 4u, 2u);
    let hi = vec4(high, high >> 1u, high >> 2u, high >> 3u);
    return array(lo & vec4(0x10101010u), hi & vec4(0x10101010u));
}

@if(q5_0)
fn load_quants(row: Row, column: Column) -> Quants {
    let q = nibbles(row, column.block);
    let high = fifth_bits(side_word(row, column, 3u, column.block & 1u));
    let scale = pair_scale(row, column, 3u, 2u);
    return Quants((q & vec4(0x0f0f0f0fu)) | high[0], ((q >> vec4(4u)) & vec4(0x0f0f0f0fu)) | high[1], vec2(scale), -16.0 * scale);
}

@if(q5_1)
fn load_quants(row: Row, column: Column) -> Quants {
    let q = nibbles(row, column.block);
    let high = fifth_bits(side_word(row, column, 2u, 0u));
    let pair = half_pair(side_word(row, column, 2u, 1u));
    return Quants((q & vec4(0x0f0f0f0fu)) | high[0], ((q >> vec4(4u)) & vec4(0x0f0f0f0fu)) | high[1], vec2(pair.x), pair.y);
}

@if(q8_0)
fn load_quants(row: Row, column: Column) -> Quants {
    let at = (row.group * row.blocks + column.block) * 64u + row.lane;
    return Quants(quants[at], quants[at + 32u], vec2(pair_scale(row, column, 1u, 0u)), 0.0);
}

// A block at an even place and the one behind it, or at the end of a row the same one with any scale. Everything is loaded before
// anything is computed, which leaves SwiftShader less to put aside, and a word of both of them once.
@if(quads)
struct Two { first: Quants, second: Quants }

@if(q4_1 && quads)
fn load_two(row: Row, first: Column, second: Column) -> Two {
    let a = nibbles(row, first.block);
    let b = nibbles(row, second.block);
    let of_a = side_word(row, first, 1u, 0u);
    let of_b = side_word(row, second, 1u, 0u);
    let s = half_pair(of_a);
    let t = half_pair(of_b);
    return Two(four_bits(a, s.x, s.y), four_bits(b, t.x, t.y));
}
@if(q4_0 && quads)
fn load_two(row: Row, first: Column, second: Column) -> Two {
    let a = nibbles(row, first.block);
    let b = nibbles(row, second.block);
    let scales = half_pair(side_word(row, first, 1u, 0u));
    return Two(four_bits(a, scales.x, -8.0 * scales.x), four_bits(b, scales.y, -8.0 * scales.y));
}
@if(q8_0 && quads)
fn load_two(row: Row, first: Column, second: Column) -> Two {
    let at = (row.group * row.blocks + first.block) * 64u + row.lane;
    let next = at + 64u * (second.block - first.block);
    let a = quants[at];
    let b = quants[at + 32u];
    let c = quants[next];
    let d = quants[next + 32u];
    let scales = half_pair(side_word(row, first, 1u, 0u));
    return Two(Quants(a, b, scales.xx, 0.0), Quants(c, d, scales.yy, 0.0));
}
@if(!(q4_0 || q4_1 || q8_0) && quads)
fn load_two(row: Row, first: Column, second: Column) -> Two {
    return Two(load_quants(row, first), load_quants(row, second));
}

// Scale and minimum of block `block & 7` of a superblock: ggml's 6-bit packing, words 1 to 3 of the unit, d | dmin in word 0.
@if(q4_k || q5_k)
fn superblock_scale(row: Row, column: Column, words: u32) -> vec2<f32> {
    let d = half_pair(side_word(row, column, words, 0u));
    let s0 = side_word(row, column, words, 1u);
    let s1 = side_word(row, column, words, 2u);
    let s2 = side_word(row, column, words, 3u);
    let shift = (column.block & 3u) * 8u;
    let upper = (column.block & 4u) != 0u;
    let scale = select((s0 >> shift) & 63u, ((s2 >> shift) & 15u) | (((s0 >> shift) & 0xc0u) >> 2u), upper);
    let minimum = select((s1 >> shift) & 63u, ((s2 >> (shift + 4u)) & 15u) | (((s1 >> shift) & 0xc0u) >> 2u), upper);
    return vec2(d.x * f32(scale), -d.y * f32(minimum));
}

@if(q4_k)
fn load_quants(row: Row, column: Column) -> Quants {
    let scale = superblock_scale(row, column, 4u);
    return four_bits(nibbles(row, column.block), scale.x, scale.y);
}

@if(q5_k)
fn load_quants(row: Row, column: Column) -> Quants {
    let q = nibbles(row, column.block);
    let high = fifth_bits(side_word(row, column, 12u, 4u + (column.block & 7u)));
    let scale = superblock_scale(row, column, 12u);
    return Quants((q & vec4(0x0f0f0f0fu)) | high[0], ((q >> vec4(4u)) & vec4(0x0f0f0f0fu)) | high[1], scale.xx, scale.y);
}

// Words of a unit: d, 16 signed scales in 4 words, then two words of high bit pairs for each block:
// bits 8 i + 2 j and the next of word w are the upper bits of element 16 w + 4 j + i.
@if(q6_k)
fn load_quants(row: Row, column: Column) -> Quants {
    let q = nibbles(row, column.block);
    let within = column.block & 7u;
    let h0 = side_word(row, column, 21u, 5u + 2u * within);
    let h1 = side_word(row, column, 21u, 6u + 2u * within);
    let lo = vec4(h0 * 16u, h0 * 4u, h0, h0 >> 2u) & vec4(0x30303030u);
    let hi = vec4(h1 * 16u, h1 * 4u, h1, h1 >> 2u) & vec4(0x30303030u);
    let scales = unpack4xI8(side_word(row, column, 21u, 1u + within / 2u));
    let d = half_pair(side_word(row, column, 21u, 0u)).x;
    let pair = select(scales.xy, scales.zw, (within & 1u) != 0u);
    return Quants(minus_32((q & vec4(0x0f0f0f0fu)) | lo), minus_32(((q >> vec4(4u)) & vec4(0x0f0f0f0fu)) | hi), d * vec2<f32>(pair), 0.0);
}

// Each byte (0..63) less 32, without a borrow between bytes.
@if(q6_k)
fn minus_32(q: vec4<u32>) -> vec4<u32> {
    return ((q | vec4(0x80808080u)) - vec4(0x20202020u)) ^ vec4(0x80808080u);
}

@if(f32)
fn load_block(row: Row, block: u32) -> Block {
    let at = (row.group * row.blocks + block) * 256u + row.lane;
    return Block(
        bitcast<vec4<f32>>(quants[at]), bitcast<vec4<f32>>(quants[at + 32u]),
        bitcast<vec4<f32>>(quants[at + 64u]), bitcast<vec4<f32>>(quants[at + 96u]),
        bitcast<vec4<f32>>(quants[at + 128u]), bitcast<vec4<f32>>(quants[at + 160u]),
        bitcast<vec4<f32>>(quants[at + 192u]), bitcast<vec4<f32>>(quants[at + 224u]),
    );
}

@if(f16)
fn floats(a: u32, b: u32) -> vec4<f32> {
    return vec4(half_pair(a), half_pair(b));
}

@if(bf16)
fn floats(a: u32, b: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}

@if(f16 || bf16)
fn load_block(row: Row, block: u32) -> Block {
    let at = (row.group * row.blocks + block) * 128u + row.lane;
    let p = quants[at];
    let q = quants[at + 32u];
    let r = quants[at + 64u];
    let s = quants[at + 96u];
    return Block(floats(p.x, p.y), floats(p.z, p.w), floats(q.x, q.y), floats(q.z, q.w),
        floats(r.x, r.y), floats(r.z, r.w), floats(s.x, s.y), floats(s.z, s.w));
}

@if(quantized)
fn bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(word));
}

@if(quantized)
fn load_block(row: Row, block: u32) -> Block {
    let w = load_quants(row, column_of(row.blocks, block));
    let s = vec4(w.scale.x);
    let t = vec4(w.scale.y);
    let m = vec4(w.minimum);
    return Block(
        s * bytes(w.lo.x) + m, s * bytes(w.lo.y) + m, s * bytes(w.lo.z) + m, s * bytes(w.lo.w) + m,
        t * bytes(w.hi.x) + m, t * bytes(w.hi.y) + m, t * bytes(w.hi.z) + m, t * bytes(w.hi.w) + m,
    );
}
