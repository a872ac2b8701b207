//! `rope_append`.

use super::cache::{bounds, cache_words, from_words, places, types};
use super::harness::{POISON, Random, as_floats, close, floats, poisoned, run, words};
use crate::gpu::Recorder;
use crate::kernels::{FINE_POSITIONS, KvType, RopeShape, RopeSlices, Rotate, rope_append};
use crate::reference::{self, Order, Rope};

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rotate: Rotate,
    normalize: Option<f32>,
    temperature: Option<(f32, f32)>,
    position: usize,
    tokens: usize,
    kv: KvType,
}

const CASE: Case = Case {
    heads: 3,
    kv_heads: 1,
    head_dim: 32,
    rotate: Rotate::Adjacent,
    normalize: None,
    temperature: None,
    position: 0,
    tokens: 1,
    kv: KvType::F32,
};

/// Llama's frequencies, theta 500000.
pub(super) fn frequencies(head_dim: usize) -> Vec<f64> {
    (0..head_dim / 2).map(|i| 500_000f64.powf(-2.0 * i as f64 / head_dim as f64)).collect()
}

/// Cosine and sine of every multiple of FINE_POSITIONS, then of every step below it.
pub(super) fn table(positions: usize, frequencies: &[f64]) -> Vec<f32> {
    let coarse = (0..positions.div_ceil(FINE_POSITIONS)).map(|p| p * FINE_POSITIONS);
    let row = |p: usize| frequencies.iter().flat_map(move |f| [(p as f64 * f).cos() as f32, (p as f64 * f).sin() as f32]);
    coarse.chain(0..FINE_POSITIONS).flat_map(row).collect()
}

impl Case {
    fn twin(&self) -> Rope {
        Rope {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            order: match self.rotate {
                Rotate::None => Order::None,
                Rotate::Adjacent => Order::Adjacent,
                Rotate::Halves => Order::Halves,
            },
            frequencies: frequencies(self.head_dim),
            normalize: self.normalize,
            temperature: self.temperature,
        }
    }

    fn compare(&self, twin: &Rope) -> Result<(), String> {
        let Self { heads, kv_heads, head_dim, position, tokens, kv, .. } = *self;
        let columns = (heads + 2 * kv_heads) * head_dim;
        let stride = columns + 16;
        let qkv = Random(position as u64 + 1).floats(tokens * columns, 2.0);
        let wide: Vec<f32> = qkv.chunks(columns).flat_map(|row| [row, &[f32::NAN; 16]].concat()).collect();
        let context = position + tokens + 2;
        let table = table(context, &frequencies(head_dim));

        // The bindings begin at the first position of this call, to keep a long context's caches small.
        let cache = || poisoned(cache_words(kv, kv_heads, head_dim, context));
        let (q, k_cache, v_cache) = (poisoned(tokens * heads * head_dim), cache(), cache());
        let shape = RopeShape {
            heads,
            kv_heads,
            head_dim,
            stride,
            context,
            rotate: self.rotate,
            normalize: self.normalize,
            temperature: self.temperature,
        };
        let slices = RopeSlices {
            qkv: &floats(&wide),
            table: &floats(&table),
            step: &words(&[position as u32]),
            q: &q,
            k_cache: &k_cache,
            v_cache: &v_cache,
            kv,
        };
        let mut recorder = Recorder::default();
        rope_append(&mut recorder, &shape, &slices, tokens);
        let [q, k, v] = run(recorder, [&q, &k_cache, &v_cache]);

        let expected = reference::rope_append(twin, &qkv, position);
        // An angle's error is two roundings of numbers below 1; a pair's length is below 3, and a normalised one's too.
        let factor = 4.0 * self.temperature.map_or(1.0, |(_, t)| 1.0 + 12.0 * t);
        close(&as_floats(&q), &expected.q, |_| 1e-6 * factor).map_err(|e| format!("q: {e}"))?;
        for (name, cache, expected) in [("k", k, expected.k), ("v", v, expected.v)] {
            let cache = self.appended(&cache, context)?;
            let bounds: Vec<f32> = expected.chunks_exact(head_dim).flat_map(|row| bounds(kv, row, 4e-6)).collect();
            close(&cache, &expected, |i| bounds[i]).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }

    /// The new entries [tokens, kv_heads, head_dim] of a cache, in which nothing else may have been written.
    fn appended(&self, cache: &[u32], context: usize) -> Result<Vec<f32>, String> {
        let mut rest = cache.to_vec();
        let mut entry = |(token, head): (usize, usize)| {
            let places = places(self.kv, self.head_dim, context, head, self.position + token);
            places.iter().for_each(|&place| rest[place] = POISON);
            let row: Vec<u32> = places.into_iter().map(|place| cache[place]).collect();
            from_words(self.kv, &row, self.head_dim)
        };
        let entries = (0..self.tokens).flat_map(|token| (0..self.kv_heads).map(move |head| (token, head)));
        let entries = entries.flat_map(&mut entry).collect();
        match rest.iter().position(|&word| word != POISON) {
            Some(at) => Err(format!("word {at} was written")),
            None => Ok(entries),
        }
    }

    fn check(self) {
        for kv in types(self.head_dim) {
            let case = Self { kv, ..self };
            case.compare(&case.twin()).unwrap_or_else(|e| panic!("{case:?}: {e}"));
        }
    }
}

#[test]
fn both_orders_and_none() {
    for rotate in [Rotate::None, Rotate::Adjacent, Rotate::Halves] {
        for head_dim in [4, 8, 12, 16, 24, 64, 128, 256] {
            Case { rotate, head_dim, position: 77, ..CASE }.check();
        }
        for (heads, kv_heads) in [(1, 1), (2, 2), (9, 3), (8, 2)] {
            Case { rotate, heads, kv_heads, tokens: 3, ..CASE }.check();
        }
        Case { rotate, tokens: 75, position: 200, ..CASE }.check();
    }
}

#[test]
fn long_positions() {
    for position in [255, 256, 511, 4096, 8191, 100_000] {
        Case { position, tokens: 3, ..CASE }.check();
        Case { position, tokens: 3, rotate: Rotate::Halves, ..CASE }.check();
    }
}

#[test]
fn normalised_after_the_rotation() {
    for head_dim in [16, 24, 128] {
        let case = Case { head_dim, normalize: Some(1e-5), kv_heads: 2, heads: 4, tokens: 5, ..CASE };
        case.check();
        Case { rotate: Rotate::Halves, ..case }.check();
        Case { normalize: Some(0.5), ..case }.check();
    }
}

#[test]
fn temperature_rises_in_steps() {
    for (floor_scale, tokens, position) in [(8192.0, 3, 8190), (20.0, 75, 0), (16.0, 75, 0), (3.0, 75, 1000), (8192.0, 1, 99_999)]
    {
        let temperature = Some((floor_scale, 0.1));
        Case { rotate: Rotate::None, temperature, tokens, position, ..CASE }.check();
    }
}

#[test]
fn a_wrong_twin_is_noticed() {
    let case = Case { position: 40, tokens: 3, normalize: Some(1e-3), temperature: Some((16.0, 0.1)), ..CASE };
    let twin = case.twin();
    case.compare(&twin).unwrap();
    assert!(case.compare(&Rope { order: Order::Halves, ..twin.clone() }).is_err());
    assert!(case.compare(&Rope { order: Order::None, ..twin.clone() }).is_err());
    assert!(case.compare(&Rope { normalize: None, ..twin.clone() }).is_err());
    assert!(case.compare(&Rope { temperature: Some((9.0, 0.1)), ..twin.clone() }).is_err());
    assert!(case.compare(&Rope { frequencies: frequencies(64), ..twin }).is_err());
}
