// Needs shader-f16, which the device was not asked for.
enable f16;
@group(0) @binding(0) var<storage, read_write> data: array<f16>;

@compute @workgroup_size(1)
fn main() {
    data[0] = 1.0h;
}
