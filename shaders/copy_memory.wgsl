// copied[i] = origin[i], sixteen bytes at a time: how fast memory is read and written. Part of no model.

struct Params {
    blocks: u32, // of sixteen bytes
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> origin: array<vec4<u32>>; // [blocks]
@group(0) @binding(2) var<storage, read_write> copied: array<vec4<u32>>; // [blocks]

const LANES = 256u;
/// Blocks of a lane: fewer workgroups, and several loads under way.
const EACH = 4u;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = (workgroup.z * size.x + workgroup.x) * (EACH * LANES) + thread;
    for (var n = 0u; n < EACH; n++) {
        let block = first + n * LANES;
        if block < params.blocks { copied[block] = origin[block]; }
    }
}
