// The index of the highest logit, the lowest index among equals, and the logit itself. One workgroup.

import package::shared::guard::halted;

struct Params {
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [cols]
@group(0) @binding(2) var<storage, read_write> result: array<u32>; // index, bits of the logit

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.4e38;
var<workgroup> best_value: array<f32, THREADS>;
var<workgroup> best_index: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    var value = LOWEST;
    var index = 0u;
    for (var i = thread; i < params.cols; i += THREADS) {
        let v = logits[i];
        if v > value {
            value = v;
            index = i;
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
        // Of the columns in any case: the next pass may index with it before anybody has looked at it.
        result[0] = index;
        result[1] = bitcast<u32>(value);
    }
}
