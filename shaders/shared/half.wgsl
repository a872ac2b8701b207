// 16-bit floats without shader-f16.

// The values of two IEEE halves, the lower 16 bits first. unpack2x16float may flush subnormals, and scales of K-quants can be
// subnormal.
@if(!quads)
fn half_pair(bits: u32) -> vec2<f32> {
    return vec2(half_value(bits & 0xffffu), half_value(bits >> 16u));
}

@if(!quads)
fn half_value(bits: u32) -> f32 {
    let exponent = (bits >> 10u) & 31u;
    let mantissa = bits & 1023u;
    let normal = bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u));
    let subnormal = f32(mantissa) * 5.9604644775390625e-8; // 2^-24
    let magnitude = select(normal, subnormal, exponent == 0u);
    return select(magnitude, -magnitude, (bits & 0x8000u) != 0u);
}

// The same without a shift, see shared/dot, and without unpack2x16float, which SwiftShader computes with some of its own. The 15 bits
// below the sign, 13 places up, are a float's but for its exponent, which is 112 too small. Read as a number of 2^-24 they are a
// subnormal's magnitude, and less than any other's.
@if(quads)
fn half_pair(bits: u32) -> vec2<f32> {
    let lower = bits & 0x7fffu;
    let upper = f32(bitcast<i32>(bits & 0x7fff0000u)); // 65536 times its 15 bits
    // Added to 1.5 * 2^23 they are a float's last bits, and the multiplication moves all others out of the word.
    let moved = vec2(lower, bitcast<u32>(upper * 1.52587890625e-5 + 12582912.0)) * 0x2000u;
    let normal = bitcast<vec2<f32>>(moved) * 5.192296858534827628530496329220096e33; // 2^112
    let linear = vec2(f32(bitcast<i32>(lower)) * 5.9604644775390625e-8, upper * 9.094947017729282379150390625e-13); // 2^-24, 2^-40
    let signs = vec2(bits * 0x10000u, bits) & vec2(0x80000000u);
    return bitcast<vec2<f32>>(bitcast<vec2<u32>>(max(normal, linear)) | signs);
}
