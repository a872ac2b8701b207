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

// The same without a shift, see shared/dot. The 15 bits below the sign, read as a number of 2^-24, are a subnormal's magnitude, and
// less than any other's.
@if(quads)
fn half_pair(bits: u32) -> vec2<f32> {
    let at_top = vec2(bits * 0x10000u, bits);
    let linear = vec2<f32>(bitcast<vec2<i32>>(at_top & vec2(0x7fff0000u))) * 9.094947017729282379150390625e-13; // 2^-40
    let magnitude = max(abs(unpack2x16float(bits)), linear);
    return bitcast<vec2<f32>>(bitcast<vec2<u32>>(magnitude) | (at_top & vec2(0x80000000u)));
}
