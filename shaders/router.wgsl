// The k highest of a row of router logits, highest first, lowest index first among equals, their weights, and where the
// experts are. One lane per token.
//
// With `product`, for one token, it computes the logits too, from the residual stream: W norm(x). Then several lanes share a
// row of W, and the first lane chooses.
//
// An expert that every token passes may be computed with the chosen ones: behind theirs it gets a weight of 1 and its slot.
//
// With `guarded` it raises the flag where a chosen expert is not on the GPU: all kernels behind it then do nothing, further
// routers included.

@if(product) import package::shared::formats::{Block, Row, load_block};

struct Params {
    experts: u32, // at most MOST
    chosen: u32,  // k
    stride: u32,  // row length of logits
    score: u32,   // SIGMOID, SOFTMAX_ALL, or else softmax over the k
    table_at: u32, // where the layer begins in the table
    tokens: u32,
    part: u32,    // words of ids, of weights and of slots, with what lies between them
    beside: u32,  // slot of an expert that the only token passes besides, or ABSENT
    blocks: u32,  // with `product`: columns of W / 32
    norm_cols: u32,
    norm_eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@if(!product)
@group(0) @binding(3) var<storage, read> logits: array<f32>; // [tokens, stride]
@if(product)
@group(0) @binding(3) var<storage, read> stream: array<vec4<f32>>; // x: [blocks, 8]
@group(0) @binding(4) var<storage, read_write> routing: array<u32>; // ids, bits of weights, slots: [tokens, k] each, `part` words apart; ABSENT where an expert is not on the GPU
@group(0) @binding(5) var<storage, read> table: array<u32>; // [layers, experts] slots
@if(product)
@group(0) @binding(6) var<storage, read> weight: array<vec4<f32>>; // the norm's, [blocks, 8]
@if(guarded)
@group(0) @binding(8) var<storage, read_write> flag: array<u32>;

@if(product) const THREADS: u32 = 256u; // 8 lanes for each of 32 rows
@if(!product) const THREADS: u32 = 32u; // tokens of a workgroup
const MOST: u32 = 1024u;
const LOWEST: f32 = -3.4e38;
const SIGMOID: u32 = 0u;
const SOFTMAX_ALL: u32 = 2u;
const ABSENT: u32 = 0xffffffffu;
@if(product)
var<workgroup> logits: array<f32, MOST>;
@if(product)
var<workgroup> partial: array<vec2<f32>, THREADS>; // sum, squares
@if(product && guarded)
var<workgroup> raised: u32;

@if(product)
fn compute_logits(experts: u32, thread: u32) {
    let blocks = min(params.blocks, arrayLength(&stream) / 8u);
    let lane = thread % 32u;
    for (var group = 0u; group * 32u < experts; group++) {
        var sum = vec4(0.0);
        var squares = vec4(0.0);
        for (var block = thread / 32u; block < blocks; block += 8u) {
            let w = load_block(Row(group, lane, params.blocks), block);
            var columns = array(w.a, w.b, w.c, w.d, w.e, w.f, w.g, w.h);
            for (var i = 0u; i < 8u; i++) {
                let v = stream[block * 8u + i];
                squares += v * v;
                sum += columns[i] * v * weight[block * 8u + i];
            }
        }
        partial[thread] = vec2(dot(sum, vec4(1.0)), dot(squares, vec4(1.0)));
        workgroupBarrier();
        let row = group * 32u + lane;
        if thread < 32u && row < experts {
            var total = vec2(0.0);
            for (var s = 0u; s < 8u; s++) {
                total += partial[s * 32u + lane];
            }
            logits[row] = total.x * inverseSqrt(total.y / f32(params.norm_cols) + params.norm_eps);
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    // Bounds that are not plain uniforms: lavapipe would compile the shader anew for each call, to unroll its loops.
    let experts = min(params.experts, arrayLength(&table));
    let chosen = min(params.chosen, arrayLength(&routing));
    let part = params.part;
    @if(product && guarded) {
        if thread == 0u { raised = flag[0]; }
        if workgroupUniformLoad(&raised) != 0u { return; }
    }
    @if(!product && guarded) {
        if flag[0] != 0u { return; }
    }
    @if(product) {
        compute_logits(experts, thread);
        if thread != 0u { return; }
    }
    let token = invocation.x;
    if token >= params.tokens { return; }
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
        routing[to + rank] = index;
        routing[part + to + rank] = bitcast<u32>(value);
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
        let value = bitcast<f32>(routing[part + to + rank]);
        if params.score == SIGMOID {
            routing[part + to + rank] = bitcast<u32>(1.0 / (1.0 + exp(-value)));
        } else {
            routing[part + to + rank] = bitcast<u32>(exp(value - top) / sum);
        }
        let slot = table[params.table_at + routing[to + rank]];
        routing[2u * part + to + rank] = slot;
        missing = missing || slot == ABSENT;
    }
    if params.beside != ABSENT {
        routing[part + chosen] = bitcast<u32>(1.0);
        routing[2u * part + chosen] = params.beside;
    }
    @if(guarded) {
        if missing { flag[0] = 1u; }
    }
}
