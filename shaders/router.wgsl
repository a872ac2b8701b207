// The k highest of a row of router logits, highest first, lowest index first among equals, their weights, and where the
// experts are. One workgroup per token.
//
// With `guarded` it raises the flag where a chosen expert is not on the GPU: all kernels behind it then do nothing, further
// routers included.

struct Params {
    experts: u32, // at most 1024
    chosen: u32,  // k
    stride: u32,  // row length of logits
    score: u32,   // SIGMOID, SOFTMAX_ALL, or else softmax over the k
    table_at: u32, // where the layer begins in the table
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [tokens, stride]
@group(0) @binding(2) var<storage, read_write> ids: array<u32>; // [tokens, k]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>; // [tokens, k]
@group(0) @binding(4) var<storage, read_write> slots: array<u32>; // [tokens, k], ABSENT where an expert is not on the GPU
@group(0) @binding(5) var<storage, read> table: array<u32>; // [layers, experts] slots
@if(guarded)
@group(0) @binding(8) var<storage, read_write> flag: array<u32>;

const THREADS: u32 = 32u;
const LOWEST: f32 = -3.4e38;
const SIGMOID: u32 = 0u;
const SOFTMAX_ALL: u32 = 2u;
const ABSENT: u32 = 0xffffffffu;
var<workgroup> values: array<f32, 1024>; // lowered to LOWEST once chosen
var<workgroup> best_value: array<f32, THREADS>;
var<workgroup> best_index: array<u32, THREADS>;

// Not to be asked before a barrier: nobody can prove that all lanes read the same.
fn passed_over() -> bool {
    @if(guarded) {
        return flag[0] != 0u;
    }
    @if(!guarded) {
        return false;
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = workgroup.x;
    let to = token * params.chosen;
    for (var e = thread; e < params.experts; e += THREADS) {
        values[e] = logits[token * params.stride + e];
    }
    workgroupBarrier();

    var top = 0.0;
    var sum_chosen = 0.0;
    var sum_all = 0.0;
    for (var rank = 0u; rank < params.chosen; rank++) {
        var value = LOWEST;
        var index = params.experts;
        for (var e = thread; e < params.experts; e += THREADS) {
            if values[e] > value {
                value = values[e];
                index = e;
            }
        }
        best_value[thread] = value;
        best_index[thread] = index;
        workgroupBarrier();
        if thread == 0u {
            for (var other = 1u; other < THREADS; other++) {
                if best_value[other] > value || (best_value[other] == value && best_index[other] < index) {
                    value = best_value[other];
                    index = best_index[other];
                }
            }
            // Logits that are all NaN choose nothing: any valid index keeps the next kernels in bounds.
            index = min(index, params.experts - 1u);
            if rank == 0u {
                top = value;
                for (var e = 0u; e < params.experts; e++) {
                    sum_all += exp(values[e] - top);
                }
            }
            sum_chosen += exp(value - top);
            if !passed_over() {
                ids[to + rank] = index;
                weights[to + rank] = value;
            }
            values[index] = LOWEST;
        }
        workgroupBarrier();
    }

    if thread != 0u || passed_over() { return; }
    var missing = false;
    for (var rank = 0u; rank < params.chosen; rank++) {
        let value = weights[to + rank];
        if params.score == SIGMOID {
            weights[to + rank] = 1.0 / (1.0 + exp(-value));
        } else {
            weights[to + rank] = exp(value - top) / select(sum_chosen, sum_all, params.score == SOFTMAX_ALL);
        }
        let slot = table[params.table_at + ids[to + rank]];
        slots[to + rank] = slot;
        missing = missing || slot == ABSENT;
    }
    @if(guarded) {
        if missing { flag[0] = 1u; }
    }
}
