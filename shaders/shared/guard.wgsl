// Running ahead of the CPU: a kernel that follows a missing expert does nothing and leaves everything as it is.

// Nonzero once a layer before this kernel lacks an expert. The router declares it for writing.
@if(guarded)
@group(0) @binding(8) var<storage, read> guard: array<u32>;

@if(guarded)
fn halted() -> bool {
    return guard[0] != 0u;
}

@if(!guarded)
fn halted() -> bool {
    return false;
}
