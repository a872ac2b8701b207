// 32 activations as signed bytes: three vectors, the bits of [scale, scale * sum of the bytes, sum of squares, 0] and then the
// bytes in order. The scale is the largest magnitude / 127.

struct Bytes { head: vec4<u32>, lo: vec4<u32>, hi: vec4<u32> }

// `squares` belongs to a norm whose division is still to come, see shared/dot.
fn to_bytes(values: array<vec4<f32>, 8>, squares: f32) -> Bytes {
    var v = values;
    var largest = vec4(0.0);
    for (var i = 0u; i < 8u; i++) {
        largest = max(largest, abs(v[i]));
    }
    let scale = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
    // The reciprocal of a subnormal overflows: such a block is zero.
    let inverse = select(1.0 / scale, 0.0, scale < 1e-37);
    var words: array<u32, 8>;
    var sum = vec4(0);
    for (var i = 0u; i < 8u; i++) {
        let q = vec4<i32>(round(v[i] * inverse));
        sum += q;
        words[i] = pack4xI8(q);
    }
    let head = vec4(scale, scale * f32(sum.x + sum.y + sum.z + sum.w), squares, 0.0);
    return Bytes(bitcast<vec4<u32>>(head), vec4(words[0], words[1], words[2], words[3]), vec4(words[4], words[5], words[6], words[7]));
}
