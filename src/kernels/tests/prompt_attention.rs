//! `prompt_attention`, over caches of halves and of floats.

use half::f16;

use super::blocks::{BLOCK_WORDS, from_bytes, half_steps};
use super::harness::{POISON, Random, close, floats, poisoned, rows, run, words};
use crate::gpu::{Recorder, Slice};
use crate::kernels::{AttentionShape, AttentionSlices, can_make_bytes, prompt_attention};
use crate::reference::{self, Attention};

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    position: usize,
    tokens: usize,
    chunk: usize,
    kv_f32: bool,
    bytes: bool,
    /// Magnitude of the queries: at 1000 the softmax has one key.
    sharpness: f32,
}

const CASE: Case =
    Case { heads: 4, kv_heads: 2, head_dim: 16, position: 0, tokens: 1, chunk: 0, kv_f32: true, bytes: false, sharpness: 1.0 };

impl Case {
    /// The kernel against the twin, which may be told of another chunk.
    fn compare(self, twin_chunk: usize) -> Result<(), String> {
        let Self { heads, kv_heads, head_dim, position, tokens, chunk, kv_f32, bytes, sharpness } = self;
        let mut random = Random((heads * 1000 + position) as u64);
        // More positions than are filled: what lies behind is poison, and must not be read.
        let (context, filled) = (position + tokens + 5, position + tokens);
        let mut cache = || -> Vec<f32> {
            let values = random.floats(kv_heads * context * head_dim, 1.0).into_iter().enumerate();
            values
                .map(|(i, x)| match i / head_dim % context < filled {
                    false => f32::from_bits(POISON),
                    true if kv_f32 => x,
                    true => f16::from_f32(x).to_f32(),
                })
                .collect()
        };
        let (k, v) = (cache(), cache());
        let q = random.floats(tokens * heads * head_dim, sharpness);
        let scale = (head_dim as f32).powf(-0.5);
        let twin = Attention { heads, kv_heads, head_dim, context, chunk: twin_chunk, scale };
        let expected = reference::attention(&twin, &q, &k, &v, position);

        let out_stride = (heads * head_dim).next_multiple_of(32);
        let out = poisoned(tokens * out_stride);
        let mut recorder = Recorder::default();
        let shape = AttentionShape { heads, kv_heads, head_dim, context, chunk, scale };
        let (k_cache, v_cache) = (&stored(&k, kv_f32), &stored(&v, kv_f32));
        let slices =
            AttentionSlices { k_cache, v_cache, step: &words(&[position as u32]), out: &out, spans: &out, bytes, kv_f32 };
        prompt_attention(&mut recorder, &shape, &floats(&q), &slices, tokens);
        let [out] = run(recorder, [&out]);
        // Scores of magnitude s have an error of about s * 2^-22, and the softmax turns it into a relative one.
        let bound = 2e-6 + 1e-6 * sharpness * (head_dim as f32).sqrt();
        if bytes {
            let (values, _) = from_bytes(&out[..expected.len() / 32 * BLOCK_WORDS])?;
            let steps = half_steps(&expected);
            return close(&values, &expected, |i| steps[i] + 2.0 * bound);
        }
        close(&rows(&out, out_stride, 0, heads * head_dim)?, &expected, |_| bound)
    }

    fn check(self) {
        for kv_f32 in [true, false] {
            for bytes in [false, true].into_iter().filter(|bytes| !bytes || can_make_bytes(self.head_dim)) {
                let case = Self { kv_f32, bytes, ..self };
                case.compare(self.chunk).unwrap_or_else(|e| panic!("{case:?}: {e}"));
            }
        }
    }
}

fn stored(cache: &[f32], kv_f32: bool) -> Slice {
    if kv_f32 {
        return floats(cache);
    }
    let pair = |x: &[f32]| u32::from(f16::from_f32(x[0]).to_bits()) | u32::from(f16::from_f32(x[1]).to_bits()) << 16;
    words(&cache.chunks_exact(2).map(pair).collect::<Vec<_>>())
}

#[test]
fn every_head_size() {
    for head_dim in [16, 20, 24, 64, 96, 128, 200, 256] {
        Case { head_dim, position: 70, ..CASE }.check();
        Case { head_dim, tokens: 5, ..CASE }.check();
    }
}

#[test]
fn every_grouping_of_heads() {
    for (heads, kv_heads) in [(1, 1), (3, 1), (5, 5), (9, 3), (8, 2), (6, 3)] {
        Case { heads, kv_heads, position: 9, tokens: 2, ..CASE }.check();
    }
}

#[test]
fn every_number_of_keys() {
    for position in [0, 1, 62, 63, 64, 65, 127, 128, 500] {
        Case { position, ..CASE }.check();
    }
    Case { tokens: 75, ..CASE }.check();
    Case { tokens: 75, position: 30, head_dim: 24, ..CASE }.check();
}

#[test]
fn chunks_hide_what_came_before() {
    for chunk in [1, 3, 32, 40, 64, 100] {
        Case { chunk, tokens: 75, ..CASE }.check();
        Case { chunk, position: 199, tokens: 5, ..CASE }.check();
    }
    Case { chunk: 8192, position: 300, ..CASE }.check();
}

#[test]
fn one_key_can_take_everything() {
    Case { sharpness: 1000.0, position: 100, tokens: 3, ..CASE }.check();
}

#[test]
fn another_chunk_is_noticed() {
    let case = Case { chunk: 32, tokens: 75, ..CASE };
    assert!(case.compare(33).is_err());
    assert!(case.compare(0).is_err());
}
