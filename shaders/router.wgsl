// The k highest of a row of router logits, highest first, lowest index first among equals, and their weights.
// One workgroup per token.

struct Params {
    experts: u32, // at most 1024
    chosen: u32,  // k
    stride: u32,  // row length of logits
    score: u32,   // SIGMOID, SOFTMAX_ALL, or else softmax over the k
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [tokens, stride]
@group(0) @binding(2) var<storage, read_write> ids: array<u32>; // [tokens, k]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>; // [tokens, k]

const THREADS: u32 = 32u;
const LOWEST: f32 = -3.4e38;
const SIGMOID: u32 = 0u;
const SOFTMAX_ALL: u32 = 2u;
var<workgroup> values: array<f32, 1024>; // lowered to LOWEST once chosen
var<workgroup> best_value: array<f32, THREADS>;
var<workgroup> best_index: array<u32, THREADS>;

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
            ids[to + rank] = index;
            weights[to + rank] = value;
            values[index] = LOWEST;
        }
        workgroupBarrier();
    }

    if thread == 0u {
        for (var rank = 0u; rank < params.chosen; rank++) {
            let value = weights[to + rank];
            if params.score == SIGMOID {
                weights[to + rank] = 1.0 / (1.0 + exp(-value));
            } else {
                weights[to + rank] = exp(value - top) / select(sum_chosen, sum_all, params.score == SOFTMAX_ALL);
            }
        }
    }
}
