// Activations to signed bytes, one scale (largest magnitude / 127) for a block of 32. One lane per block.

import package::shared::guard::halted;

struct Params {
    blocks: u32, // blocks in all rows together
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [blocks, 8]
@group(0) @binding(2) var<storage, read_write> bytes: array<vec4<u32>>; // [blocks, 2]
@group(0) @binding(3) var<storage, read_write> scales: array<vec2<f32>>; // [blocks]: scale, scale * sum of the bytes

@compute @workgroup_size(32)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if halted() { return; }
    let block = (workgroup.z * size.x + workgroup.x) * 32u + lane;
    if block >= params.blocks { return; }
    var largest = vec4(0.0);
    for (var i = 0u; i < 8u; i++) {
        largest = max(largest, abs(x[block * 8u + i]));
    }
    let scale = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
    // The reciprocal of a subnormal overflows: such a block is zero.
    let inverse = select(1.0 / scale, 0.0, scale < 1e-37);
    var words: array<u32, 8>;
    var sum = vec4(0);
    for (var i = 0u; i < 8u; i++) {
        let q = vec4<i32>(round(x[block * 8u + i] * inverse));
        sum += q;
        words[i] = pack4xI8(q);
    }
    bytes[block * 2u] = vec4(words[0], words[1], words[2], words[3]);
    bytes[block * 2u + 1u] = vec4(words[4], words[5], words[6], words[7]);
    scales[block] = vec2(scale, scale * f32(sum.x + sum.y + sum.z + sum.w));
}
