// y[lane] = sum of v[STEPS] over twelve numbers v[0] = (lane mod 32 + n) / 64, where v[s + 1] = v[s] * factor + addend: how fast f32
// is computed, without any memory. Part of no model.

struct Params {
    lanes: u32,
    factor: f32,
    addend: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [lanes]

const STEPS = 128u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = workgroup.x * 64u + thread;
    if lane >= params.lanes { return; }
    // Different in every lane, or a GPU might compute it once for all of them.
    let start = vec4(f32(lane % 32u)) + vec4(0.0, 1.0, 2.0, 3.0);
    // Twelve chains hide the latency of an operation and still fit into the registers of a CPU.
    var a = start / 64.0;
    var b = (start + 4.0) / 64.0;
    var c = (start + 8.0) / 64.0;
    let factor = vec4(params.factor);
    let addend = vec4(params.addend);
    for (var step = 0u; step < STEPS; step++) {
        a = a * factor + addend;
        b = b * factor + addend;
        c = c * factor + addend;
    }
    y[lane] = dot(a + b + c, vec4(1.0));
}
