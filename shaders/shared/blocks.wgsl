// 32 activations as signed bytes: three vectors, the bits of [scale, scale * sum of the bytes, sum of squares, 0] and then the
// bytes in order. The scale is the largest magnitude / 127.

struct Bytes { head: vec4<u32>, lo: vec4<u32>, hi: vec4<u32> }

// `squares` belongs to a norm whose division is still to come, see shared/dot.
// Written out, because an array is memory for SwiftShader where an index is not constant.
fn to_bytes(v: array<vec4<f32>, 8>, squares: f32) -> Bytes {
    let largest = max(
        max(max(abs(v[0]), abs(v[1])), max(abs(v[2]), abs(v[3]))),
        max(max(abs(v[4]), abs(v[5])), max(abs(v[6]), abs(v[7]))),
    );
    let scale = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
    // The reciprocal of a subnormal overflows: such a block is zero.
    let inverse = select(1.0 / scale, 0.0, scale < 1e-37);
    let a = vec4<i32>(round(v[0] * inverse));
    let b = vec4<i32>(round(v[1] * inverse));
    let c = vec4<i32>(round(v[2] * inverse));
    let d = vec4<i32>(round(v[3] * inverse));
    let e = vec4<i32>(round(v[4] * inverse));
    let f = vec4<i32>(round(v[5] * inverse));
    let g = vec4<i32>(round(v[6] * inverse));
    let h = vec4<i32>(round(v[7] * inverse));
    let sum = a + b + c + d + e + f + g + h;
    let head = vec4(scale, scale * f32(sum.x + sum.y + sum.z + sum.w), squares, 0.0);
    return Bytes(bitcast<vec4<u32>>(head), vec4(packed(a), packed(b), packed(c), packed(d)), vec4(packed(e), packed(f), packed(g), packed(h)));
}

// pack4xI8, but without shifts, see shared/dot.
fn packed(q: vec4<i32>) -> u32 {
    let bytes = bitcast<vec4<u32>>(q & vec4(255));
    return bytes.x + bytes.y * 0x100u + bytes.z * 0x10000u + bytes.w * 0x1000000u;
}
