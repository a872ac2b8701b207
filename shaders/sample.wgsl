// The next token: penalty, top-k, top-p, min-p, temperature and a draw, in this order. One workgroup.
//
// With top-k or top-p the likeliest tokens are candidates, sorted, the lowest id first among equals; otherwise all tokens are, in the
// order of their ids. The draw is a point on the line of the candidates' weights. To sort few, a distance below the best logit is
// looked for within which there are enough tokens: from the highest logits that the lanes have met, or by cutting an interval in
// eight a few times. If that takes in many, they are sorted all the same.

import package::shared::guard::halted;

struct Params {
    cols: u32,
    last: u32, // where `step` has the latest token
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>; // [cols], penalised on return
@group(0) @binding(2) var<storage, read> step: array<u32>; // position, token ids
@group(0) @binding(3) var<storage, read> draw: array<u32>; // bits of: random number, temperature; top-k; bits of: top-p, min-p, penalty; whether to sort; count; recent ids [count]
@group(0) @binding(4) var<storage, read_write> candidates: array<vec2<u32>>; // [cols]: key, id
@group(0) @binding(5) var<storage, read_write> result: array<u32>; // id, bits of the highest logit or of a NaN

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.4e38;
const NOT_A_NUMBER: u32 = 0x7fc00000u;
const DAMAGED: u32 = 0xffffffffu;
const RECENT: u32 = 8u; // where `draw` has the ids
const FARTHEST: f32 = 32.0; // below the best logit, where the search begins; what is farther away weighs e^-32 at most
const ROUNDS: u32 = 8u;
const FEW: f32 = 512.0; // candidates that are sorted without a further round

var<workgroup> partial: array<f32, THREADS>;
var<workgroup> index_of: array<u32, THREADS>;
var<workgroup> within: array<vec4<f32>, 512>; // [2, THREADS]: tokens, or their weights, up to each of eight distances
var<workgroup> up_to: array<f32, 9>; // the same of all threads, and of all tokens
var<workgroup> gathered: atomic<u32>;
var<workgroup> best: Best;
var<workgroup> search: Search;
var<workgroup> found: u32;

struct Best {
    logit: f32,
    id: u32,
    damaged: bool, // a logit is no number, or infinite
}

struct Search {
    near: f32,
    far: f32,
    all: f32, // weight of all tokens
    ended: u32,
}

// The weight relative to the best token's.
fn weight(logit: f32, highest: f32, temperature: f32) -> f32 {
    let x = (logit - highest) / temperature;
    return select(select(exp(x), 0.0, x < -80.0), 1.0, logit == highest);
}

// Orders as the floats do; and back.
fn key_of(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn logit_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

fn is_sorted() -> bool {
    return draw[6] != 0u;
}

fn recent(i: u32) -> u32 {
    if i == 0u { return step[params.last]; }
    return draw[RECENT + i - 1u];
}

// Once for each token, however often it occurs.
fn penalise(thread: u32) {
    let penalty = bitcast<f32>(draw[5]);
    let count = min(1u + draw[7], arrayLength(&draw) - RECENT + 1u);
    for (var i = thread; i < count; i += THREADS) {
        let id = recent(i);
        var first = true;
        for (var earlier = 0u; earlier < i; earlier++) {
            first = first && recent(earlier) != id;
        }
        if first && id < arrayLength(&logits) {
            let logit = logits[id];
            let penalised = select(logit * penalty, logit / penalty, logit > 0.0);
            // A number stays one.
            logits[id] = select(penalised, clamp(penalised, LOWEST, -LOWEST), abs(logit) <= -LOWEST);
        }
    }
}

fn find_best(thread: u32, cols: u32) {
    var value = LOWEST;
    var index = 0u;
    var wrong = false;
    for (var i = thread; i < cols; i += THREADS) {
        let logit = logits[i];
        let bits = bitcast<u32>(logit);
        wrong = wrong || ((bits & 0x7fffffffu) > 0x7f7fffffu && bits != 0xff800000u);
        if logit > value {
            value = logit;
            index = i;
        }
    }
    partial[thread] = value;
    index_of[thread] = select(index, DAMAGED, wrong);
    workgroupBarrier();
    if thread == 0u {
        wrong = false;
        for (var other = 0u; other < THREADS; other++) {
            wrong = wrong || index_of[other] == DAMAGED;
            if partial[other] > value || (partial[other] == value && index_of[other] < index) {
                value = partial[other];
                index = index_of[other];
            }
        }
        best = Best(value, index, wrong);
        search = Search(0.0, FARTHEST, 0.0, 0u);
        atomicStore(&gathered, 0u);
        found = 0u;
    }
}

// As many lanes have met a logit of at least the one that is highest but top-k - 1, so that the k likeliest are not farther away.
fn limit(thread: u32, highest: f32) {
    let own = partial[thread];
    var higher = 0u;
    for (var other = 0u; other < THREADS; other++) {
        higher += select(0u, 1u, partial[other] > own || (partial[other] == own && other < thread));
    }
    if higher + 1u == draw[2] {
        search.far = highest - own;
        search.ended = 1u;
    }
}

// Cuts the interval of distances in eight and keeps the part behind whose end there are enough tokens for the first time.
fn narrow(thread: u32, cols: u32, highest: f32, now: Search) {
    let top_k = draw[2];
    let width = (now.far - now.near) / 8.0;
    let first = now.near + width * vec4(1.0, 2.0, 3.0, 4.0);
    let second = vec4(now.near + width * vec3(5.0, 6.0, 7.0), now.far);
    var a = vec4(0.0);
    var b = vec4(0.0);
    var all = 0.0;
    for (var i = thread; i < cols; i += THREADS) {
        let logit = logits[i];
        let distance = vec4(highest - logit);
        // Once the weight of all is known, what is farther away matters no more.
        if now.all == 0.0 || distance.x <= now.far {
            var amount = 1.0;
            if top_k == 0u { amount = weight(logit, highest, 1.0); }
            a += select(vec4(0.0), vec4(amount), distance <= first);
            b += select(vec4(0.0), vec4(amount), distance <= second);
            all += amount;
        }
    }
    within[thread] = a;
    within[THREADS + thread] = b;
    partial[thread] = all;
    workgroupBarrier();
    if thread < 9u {
        var sum = 0.0;
        for (var other = 0u; other < THREADS; other++) {
            if thread == 8u {
                sum += partial[other];
            } else {
                sum += within[(thread / 4u) * THREADS + other][thread % 4u];
            }
        }
        up_to[thread] = sum;
    }
    workgroupBarrier();
    if thread == 0u {
        var next = now;
        // A little more than is wanted, so that no rounding leaves a candidate out.
        next.all = select(now.all, up_to[8], now.all == 0.0);
        var wanted = select(bitcast<f32>(draw[3]) * next.all * 1.00002, f32(top_k), top_k > 0u);
        // All that is farther away in the first round weighs nothing.
        if top_k == 0u && now.all == 0.0 { wanted = min(wanted, up_to[7]); }
        var part = 8u;
        for (var i = 8u; i > 0u; i--) {
            if up_to[i - 1u] >= wanted { part = i - 1u; }
        }
        if part == 8u {
            // In the first round: they are farther away. Later it is a matter of rounding, and what was known holds.
            next.far = select(now.far, -LOWEST, now.all == 0.0);
            next.ended = 1u;
        } else {
            next.near = now.near + width * f32(part);
            next.far = select(second, first, part < 4u)[part % 4u];
            // What lies within a distance weighs at least e^-distance each.
            let most = select(up_to[part] * exp(next.far), up_to[part], top_k > 0u);
            next.ended = select(0u, 1u, most <= FEW);
        }
        search = next;
    }
}

fn precedes(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// The gathered candidates, the likeliest first. As many as lanes: each counts those before its own, with two barriers.
fn rank(thread: u32, count: u32) {
    var own = vec2(0u);
    if thread < count { own = candidates[thread]; }
    var place = 0u;
    for (var other = 0u; other < count; other++) {
        place += select(0u, 1u, precedes(candidates[other], own));
    }
    storageBarrier();
    if thread < count { candidates[place] = own; }
    storageBarrier();
}

// Any number of them: a bitonic sort in which every comparison puts the smaller index right, so
// that what would lie behind the end needs no place.
fn sort(thread: u32, count: u32) {
    var pairs = 1u;
    for (var places = 2u; places < count; places *= 2u) { pairs = places; }
    for (var size = 2u; size < 2u * count; size *= 2u) {
        for (var gap = size / 2u; gap > 0u; gap /= 2u) {
            for (var pair = thread; pair < pairs; pair += THREADS) {
                let low = pair / gap * 2u * gap + pair % gap;
                // The first step of a size compares from both ends.
                let high = select(low + gap, low / size * size + size - 1u - low % size, gap == size / 2u);
                if high < count {
                    let a = candidates[low];
                    let b = candidates[high];
                    if precedes(b, a) {
                        candidates[low] = b;
                        candidates[high] = a;
                    }
                }
            }
            storageBarrier();
        }
    }
}

// What candidate `i` weighs: in the nucleus, or in the draw.
fn weigh(i: u32, drawn: bool, highest: f32) -> f32 {
    var logit = LOWEST;
    if is_sorted() { logit = logit_of(candidates[i].x); } else { logit = logits[i]; }
    if !drawn { return weight(logit, highest, 1.0); }
    let min_p = bitcast<f32>(draw[4]);
    if min_p > 0.0 && weight(logit, highest, 1.0) < min_p { return 0.0; }
    return weight(logit, highest, bitcast<f32>(draw[1]));
}

// Of the first `count` candidates, the one at which their weights reach a share of `whole` (0: of all of them); the draw's has to
// be passed. Behind a barrier, in `found`.
fn reach(thread: u32, count: u32, drawn: bool, share: f32, whole: f32, highest: f32) {
    let piece = (count + THREADS - 1u) / THREADS;
    var sum = 0.0;
    for (var i = thread * piece; i < min(count, (thread + 1u) * piece); i++) {
        sum += weigh(i, drawn, highest);
    }
    partial[thread] = sum;
    workgroupBarrier();
    if thread == 0u { walk(count, piece, drawn, share, whole, highest); }
}

// The first lane, once the pieces are summed: finds the piece, then the candidate.
fn walk(count: u32, piece: u32, drawn: bool, share: f32, whole: f32, highest: f32) {
    var total = whole;
    if whole == 0.0 {
        for (var other = 0u; other < THREADS; other++) { total += partial[other]; }
    }
    let wanted = share * total;
    var reached = 0.0;
    var at = 0u;
    var is_there = false;
    for (var other = 0u; other < THREADS; other++) {
        // The last piece of any weight, where rounding leaves the end out.
        if !is_there && partial[other] > 0.0 {
            at = other;
            let next = reached + partial[other];
            is_there = select(next >= wanted, next > wanted, drawn);
            if !is_there { reached = next; }
        }
    }
    if !is_there { reached -= partial[at]; }
    is_there = false;
    for (var i = at * piece; i < min(count, (at + 1u) * piece); i++) {
        let own = weigh(i, drawn, highest);
        if !is_there && own > 0.0 {
            found = i;
            reached += own;
            is_there = select(reached >= wanted, reached > wanted, drawn);
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    if halted() { return; }
    let cols = min(params.cols, arrayLength(&logits));
    let temperature = bitcast<f32>(draw[1]);
    let top_k = draw[2];
    let top_p = bitcast<f32>(draw[3]);
    if bitcast<f32>(draw[5]) != 1.0 {
        penalise(thread);
        storageBarrier();
    }
    find_best(thread, cols);
    let top = workgroupUniformLoad(&best);
    var id = top.id;
    if temperature > 0.0 {
        var count = cols;
        if is_sorted() {
            if top_k > 0u && top_k <= THREADS { limit(thread, top.logit); }
            var now = workgroupUniformLoad(&search);
            for (var round = 0u; round < ROUNDS; round++) {
                if now.ended != 0u { break; }
                narrow(thread, cols, top.logit, now);
                now = workgroupUniformLoad(&search);
            }
            for (var i = thread; i < cols; i += THREADS) {
                let logit = logits[i];
                if top.logit - logit <= now.far {
                    candidates[atomicAdd(&gathered, 1u)] = vec2(key_of(logit), i);
                }
            }
            storageBarrier();
            workgroupBarrier();
            if thread == 0u { found = atomicLoad(&gathered); }
            count = workgroupUniformLoad(&found);
            if count <= THREADS { rank(thread, count); } else { sort(thread, count); }
            if top_k > 0u { count = min(count, top_k); }
            if top_p < 1.0 {
                reach(thread, count, false, top_p, select(0.0, now.all, top_k == 0u), top.logit);
                count = min(count, workgroupUniformLoad(&found) + 1u);
            }
        }
        reach(thread, count, true, bitcast<f32>(draw[0]), 0.0, top.logit);
        let at = workgroupUniformLoad(&found);
        if is_sorted() { id = candidates[at].y; } else { id = at; }
    }
    if thread == 0u {
        // The next pass may index with it before anybody has looked at it.
        result[0] = min(id, cols - 1u);
        result[1] = select(bitcast<u32>(top.logit), NOT_A_NUMBER, top.damaged);
    }
}
