//! `attention`: one token's projections in, its keys and values appended, its attention out.

use half::f16;

use super::blocks::{BLOCK_WORDS, from_bytes, half_steps};
use super::harness::{POISON, Random, as_floats, close, floats, poisoned, run, words};
use super::rope_append::{frequencies, table};
use crate::gpu::{Recorder, Slice};
use crate::kernels::{AttentionShape, AttentionSlices, Projected, RopeShape, Rotate, attention, can_make_bytes, span_words};
use crate::reference::{self, Attention, Order, Rope};

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rotate: Rotate,
    normalize: Option<f32>,
    temperature: Option<(f32, f32)>,
    position: usize,
    /// Positions in the cache behind the token's.
    room: usize,
    chunk: usize,
    kv_f32: bool,
    bytes: bool,
}

const CASE: Case = Case {
    heads: 4,
    kv_heads: 2,
    head_dim: 16,
    rotate: Rotate::Halves,
    normalize: None,
    temperature: None,
    position: 40,
    room: 2,
    chunk: 0,
    kv_f32: true,
    bytes: false,
};

impl Case {
    /// The kernel against `rope_append` and `attention` of the twins, the position of whose token may be another.
    fn compare(self, twin_position: usize) -> Result<(), String> {
        let Self { heads, kv_heads, head_dim, position, room, chunk, kv_f32, bytes, .. } = self;
        let mut random = Random((heads * 1000 + position) as u64);
        let context = position + 1 + room;
        let stored = |x: f32| if kv_f32 { x } else { f16::from_f32(x).to_f32() };
        let qkv = random.floats((heads + 2 * kv_heads) * head_dim, 1.0);
        let mut cache = || -> Vec<f32> {
            let values = random.floats(kv_heads * context * head_dim, 1.0).into_iter().enumerate();
            let past = |i: usize| i / head_dim % context < position;
            values.map(|(i, x)| if past(i) { stored(x) } else { f32::from_bits(POISON) }).collect()
        };
        let (mut k, mut v) = (cache(), cache());
        let (k_cache, v_cache) = (on_gpu(&k, kv_f32), on_gpu(&v, kv_f32));
        let (before_k, before_v) = (k.clone(), v.clone());

        let (order, rotate) = match self.rotate {
            Rotate::None => (Order::None, Rotate::None),
            Rotate::Adjacent => (Order::Adjacent, Rotate::Adjacent),
            Rotate::Halves => (Order::Halves, Rotate::Halves),
        };
        let (normalize, temperature) = (self.normalize, self.temperature);
        let twin = Rope { heads, kv_heads, head_dim, order, frequencies: frequencies(head_dim), normalize, temperature };
        let turned = reference::rope_append(&twin, &qkv, twin_position);
        for (cache, new) in [(&mut k, &turned.k), (&mut v, &turned.v)] {
            for (head, new) in new.chunks_exact(head_dim).enumerate() {
                let at = (head * context + position) * head_dim;
                cache[at..at + head_dim].iter_mut().zip(new).for_each(|(cache, &new)| *cache = stored(new));
            }
        }
        let scale = (head_dim as f32).powf(-0.5);
        let shape = Attention { heads, kv_heads, head_dim, context, chunk, scale };
        let expected = reference::attention(&shape, &turned.q, &k, &v, position);

        let rope = RopeShape { heads, kv_heads, head_dim, stride: qkv.len(), context, rotate, normalize, temperature };
        let out = poisoned((heads * head_dim).next_multiple_of(32));
        let spans = &poisoned(span_words(heads, head_dim, context));
        let slices = AttentionSlices {
            k_cache: &k_cache,
            v_cache: &v_cache,
            step: &words(&[position as u32]),
            out: &out,
            spans,
            bytes,
            kv_f32,
        };
        let shape = AttentionShape { heads, kv_heads, head_dim, context, chunk, scale };
        let (qkv, table) = (floats(&qkv), floats(&table(context, &frequencies(head_dim))));
        let mut recorder = Recorder::default();
        attention(&mut recorder, &shape, &Projected { rope: &rope, qkv: &qkv, table: &table }, &slices);
        let [out, made_k, made_v] = run(recorder, [&out, &k_cache, &v_cache]);

        // The new entries, and the old ones as they were.
        let step = if kv_f32 { 0.0 } else { 1.0 / 1024.0 };
        for (made, expected, before) in [(made_k, &k, before_k), (made_v, &v, before_v)] {
            let made = from_gpu(&made, kv_f32);
            for (i, (made, (expected, before))) in made.iter().zip(expected.iter().zip(&before)).enumerate() {
                if i / head_dim % context == position {
                    close(&[*made], &[*expected], |_| 4e-6 + step * expected.abs()).map_err(|e| format!("cache {i}: {e}"))?;
                } else if !kv_f32 && before.is_nan() {
                    assert!(made.is_nan(), "cache {i} was written");
                } else {
                    assert_eq!(made.to_bits(), before.to_bits(), "cache {i} was written");
                }
            }
        }
        // A key off by its rounding to a half moves a score by as much, and a value its part of the sum.
        let bound = 2e-5 + 4.0 * step;
        if bytes {
            let (values, _) = from_bytes(&out[..expected.len() / 32 * BLOCK_WORDS])?;
            let steps = half_steps(&expected);
            return close(&values, &expected, |i| steps[i] + 2.0 * bound);
        }
        close(&as_floats(&out[..expected.len()]), &expected, |_| bound)
    }

    fn check(self) {
        for kv_f32 in [true, false] {
            for bytes in [false, true].into_iter().filter(|bytes| !bytes || can_make_bytes(self.head_dim)) {
                let case = Self { kv_f32, bytes, ..self };
                case.compare(self.position).unwrap_or_else(|e| panic!("{case:?}: {e}"));
            }
        }
    }
}

fn on_gpu(cache: &[f32], kv_f32: bool) -> Slice {
    if kv_f32 {
        return floats(cache);
    }
    let pair = |x: &[f32]| u32::from(f16::from_f32(x[0]).to_bits()) | u32::from(f16::from_f32(x[1]).to_bits()) << 16;
    words(&cache.chunks_exact(2).map(pair).collect::<Vec<_>>())
}

fn from_gpu(words: &[u32], kv_f32: bool) -> Vec<f32> {
    if kv_f32 {
        return as_floats(words);
    }
    words.iter().flat_map(|w| [*w as u16, (w >> 16) as u16]).map(|h| f16::from_bits(h).to_f32()).collect()
}

#[test]
fn every_rotation_and_head_size() {
    for rotate in [Rotate::None, Rotate::Adjacent, Rotate::Halves] {
        for head_dim in [16, 20, 24, 64, 96, 128, 200, 256] {
            Case { rotate, head_dim, ..CASE }.check();
        }
    }
}

#[test]
fn every_position_and_grouping() {
    for position in [0, 1, 31, 32, 33, 64, 300] {
        Case { position, ..CASE }.check();
        Case { position, chunk: 32, ..CASE }.check();
    }
    for (heads, kv_heads) in [(1, 1), (9, 3), (5, 5), (6, 1), (5, 1), (8, 2), (7, 1)] {
        Case { heads, kv_heads, ..CASE }.check();
    }
}

#[test]
fn normalised_and_at_temperature() {
    let case = Case { normalize: Some(1e-5), rotate: Rotate::Adjacent, ..CASE };
    case.check();
    Case { head_dim: 128, ..case }.check();
    Case { normalize: None, rotate: Rotate::None, temperature: Some((16.0, 0.1)), position: 70, ..case }.check();
}

#[test]
fn long_caches_are_computed_in_spans() {
    for (position, room) in [(0, 600), (511, 1), (512, 0), (513, 700), (1030, 3), (1500, 20_000)] {
        Case { position, room, ..CASE }.check();
        Case { position, room, chunk: 1000, ..CASE }.check();
    }
    Case { heads: 5, kv_heads: 1, head_dim: 96, position: 700, room: 1000, ..CASE }.check();
}

#[test]
fn another_position_is_noticed() {
    assert!(CASE.compare(CASE.position).is_ok());
    assert!(CASE.compare(CASE.position + 1).is_err());
}
