// 16-bit floats without shader-f16.

// The value of an IEEE half in the low 16 bits. unpack2x16float may flush subnormals, and scales of K-quants can be subnormal.
fn half_value(bits: u32) -> f32 {
    let exponent = (bits >> 10u) & 31u;
    let mantissa = bits & 1023u;
    let normal = bitcast<f32>(((exponent + 112u) << 23u) | (mantissa << 13u));
    let subnormal = f32(mantissa) * 5.9604644775390625e-8; // 2^-24
    let magnitude = select(normal, subnormal, exponent == 0u);
    return select(magnitude, -magnitude, (bits & 0x8000u) != 0u);
}
