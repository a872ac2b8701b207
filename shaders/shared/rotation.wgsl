// From the stacked projections [q heads | k heads | v heads] of a token: the elements of a head, rotated by its position.

@group(0) @binding(1) var<storage, read> qkv: array<vec2<f32>>; // [tokens, stride / 2]
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>; // [coarse_rows + FINE, head_dim / 2] cosine, sine

struct Rotation {
    head_dim: u32,    // a multiple of 4
    rotate: u32,      // 0: no rotation, as of values; 1: adjacent pairs (0,1), (2,3), 2: halves (0,n), (1,n+1)
    coarse_rows: u32, // rows of the table that count in steps of FINE positions; FINE rows of single steps follow
}

// Four elements of a head in two runs of neighbours, as the cache packs them: a from `first` on, b from `second` on.
struct Quad { first: u32, second: u32, a: vec2<f32>, b: vec2<f32> }

const FINE: u32 = 256u;

// Cosine and sine of position * frequency, put together from two table entries: (a + b) turned is a turned, turned by b.
fn angle(coarse: u32, fine: u32) -> vec2<f32> {
    let a = table[coarse];
    let b = table[fine];
    return vec2(a.x * b.x - a.y * b.y, a.y * b.x + a.x * b.y);
}

fn turn(v: vec2<f32>, by: vec2<f32>) -> vec2<f32> {
    return vec2(v.x * by.x - v.y * by.y, v.x * by.y + v.y * by.x);
}

// What turns the rotation pairs 2 i and 2 i + 1 of any head at a position: cosine and sine of each.
struct Turns { first: vec2<f32>, second: vec2<f32> }

fn turns(shape: Rotation, i: u32, position: u32) -> Turns {
    var by = Turns(vec2(1.0, 0.0), vec2(1.0, 0.0));
    if shape.rotate != 0u {
        let pairs = shape.head_dim / 2u;
        // Exact below 2^24, and not a division, which SwiftShader computes lane by lane.
        let steps = bitcast<u32>(i32(f32(bitcast<i32>(position)) * (1.0 / f32(FINE))));
        let coarse = steps * pairs + 2u * i;
        let fine = (shape.coarse_rows + position - steps * FINE) * pairs + 2u * i;
        by = Turns(angle(coarse, fine), angle(coarse + 1u, fine + 1u));
    }
    return by;
}

// The rotation pairs 2 i and 2 i + 1 of the head that begins at `from_head` in qkv.
fn quad(shape: Rotation, from_head: u32, i: u32, by: Turns) -> Quad {
    let halves = shape.rotate == 2u;
    let first = select(4u * i, 2u * i, halves);
    let second = select(4u * i + 2u, 2u * i + shape.head_dim / 2u, halves);
    var a = qkv[(from_head + first) / 2u];
    var b = qkv[(from_head + second) / 2u];
    if halves {
        let p = turn(vec2(a.x, b.x), by.first);
        let r = turn(vec2(a.y, b.y), by.second);
        a = vec2(p.x, r.x);
        b = vec2(p.y, r.y);
    } else if shape.rotate != 0u {
        a = turn(a, by.first);
        b = turn(b, by.second);
    }
    return Quad(first, second, a, b);
}

// floor(count / floor_scale). A division may be off by a few units in the last place, which a whole quotient would not survive.
fn whole_steps(count: f32, floor_scale: f32) -> f32 {
    let steps = floor(count / floor_scale);
    if (steps + 1.0) * floor_scale <= count { return steps + 1.0; }
    if steps * floor_scale > count { return steps - 1.0; }
    return steps;
}

// What q is multiplied by at a position.
fn temperature_at(position: u32, floor_scale: f32, temperature: f32) -> f32 {
    if temperature == 0.0 { return 1.0; }
    return log(1.0 + whole_steps(f32(position + 1u), floor_scale)) * temperature + 1.0;
}
