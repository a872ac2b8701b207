// A barrier that only some lanes reach: the condition comes from memory that other lanes can write.
@group(0) @binding(0) var<storage, read_write> data: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
    if data[thread] == 1u {
        workgroupBarrier();
    }
    data[thread] = 2u;
}
