// One storage buffer more than every device has: valid WGSL, but no pipeline.
@group(0) @binding(0) var<storage, read_write> a: array<u32>;
@group(0) @binding(1) var<storage, read_write> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> c: array<u32>;
@group(0) @binding(3) var<storage, read_write> d: array<u32>;
@group(0) @binding(4) var<storage, read_write> e: array<u32>;
@group(0) @binding(5) var<storage, read_write> f: array<u32>;
@group(0) @binding(6) var<storage, read_write> g: array<u32>;
@group(0) @binding(7) var<storage, read_write> h: array<u32>;
@group(0) @binding(8) var<storage, read_write> i: array<u32>;
// And one more than browsers give of themselves, some of which round the limit up.
@group(0) @binding(9) var<storage, read_write> j: array<u32>;
@group(0) @binding(10) var<storage, read_write> k: array<u32>;

@compute @workgroup_size(1)
fn main() {
    a[0] = b[0] + c[0] + d[0] + e[0] + f[0] + g[0] + h[0] + i[0] + j[0] + k[0];
}
