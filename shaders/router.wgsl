// The k highest of a row of router logits, highest first, lowest index first among equals, their weights, and where the
// experts are. One lane per token.
//
// With `guarded` it raises the flag where a chosen expert is not on the GPU: all kernels behind it then do nothing, further
// routers included.

struct Params {
    experts: u32, // at most 1024
    chosen: u32,  // k
    stride: u32,  // row length of logits
    score: u32,   // SIGMOID, SOFTMAX_ALL, or else softmax over the k
    table_at: u32, // where the layer begins in the table
    tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [tokens, stride]
@group(0) @binding(2) var<storage, read_write> ids: array<u32>; // [tokens, k]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>; // [tokens, k]
@group(0) @binding(4) var<storage, read_write> slots: array<u32>; // [tokens, k], ABSENT where an expert is not on the GPU
@group(0) @binding(5) var<storage, read> table: array<u32>; // [layers, experts] slots
@if(guarded)
@group(0) @binding(8) var<storage, read_write> flag: array<u32>;

const TOKENS: u32 = 32u; // of a workgroup
const LOWEST: f32 = -3.4e38;
const SIGMOID: u32 = 0u;
const SOFTMAX_ALL: u32 = 2u;
const ABSENT: u32 = 0xffffffffu;

fn passed_over() -> bool {
    @if(guarded) {
        return flag[0] != 0u;
    }
    @if(!guarded) {
        return false;
    }
}

@compute @workgroup_size(TOKENS)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let token = invocation.x;
    if token >= params.tokens || passed_over() { return; }
    // Bounds that are not plain uniforms: lavapipe would compile the shader anew for each call, to unroll its loops.
    let experts = min(params.experts, arrayLength(&logits));
    let chosen = min(params.chosen, arrayLength(&ids));
    let row = token * params.stride;
    let to = token * params.chosen;

    var top = 0.0;
    var sum_chosen = 0.0;
    var last_value = -LOWEST;
    var last = 0u;
    for (var rank = 0u; rank < chosen; rank++) {
        // The best of those that come after the last choice.
        var value = LOWEST;
        var index = experts;
        for (var e = 0u; e < experts; e++) {
            let v = logits[row + e];
            let behind = rank == 0u || v < last_value || (v == last_value && e > last);
            if behind && v > value {
                value = v;
                index = e;
            }
        }
        // Logits that are all NaN choose nothing: any valid index keeps the next kernels in bounds.
        index = min(index, experts - 1u);
        if rank == 0u { top = value; }
        sum_chosen += exp(value - top);
        ids[to + rank] = index;
        weights[to + rank] = value;
        last_value = value;
        last = index;
    }

    var sum = sum_chosen;
    if params.score == SOFTMAX_ALL {
        sum = 0.0;
        for (var e = 0u; e < experts; e++) {
            sum += exp(logits[row + e] - top);
        }
    }
    var missing = false;
    for (var rank = 0u; rank < chosen; rank++) {
        let value = weights[to + rank];
        if params.score == SIGMOID {
            weights[to + rank] = 1.0 / (1.0 + exp(-value));
        } else {
            weights[to + rank] = exp(value - top) / sum;
        }
        let slot = table[params.table_at + ids[to + rank]];
        slots[to + rank] = slot;
        missing = missing || slot == ABSENT;
    }
    @if(guarded) {
        if missing { flag[0] = 1u; }
    }
}
