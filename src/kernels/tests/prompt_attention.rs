//! `prompt_attention`, over caches of every type.

use super::blocks::{BLOCK_WORDS, from_bytes, half_steps};
use super::cache::{on_gpu, stored, types};
use super::harness::{POISON, Random, close, floats, poisoned, rows, run, words};
use crate::gpu::Recorder;
use crate::kernels::{AttentionShape, AttentionSlices, KvType, can_make_bytes, prompt_attention};
use crate::reference::{self, Attention};

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    position: usize,
    tokens: usize,
    chunk: usize,
    kv: KvType,
    bytes: bool,
    /// In each lane, not one.
    four_rows: bool,
    /// Magnitude of the queries: at 1000 the softmax has one key.
    sharpness: f32,
}

const CASE: Case = Case {
    heads: 4,
    kv_heads: 2,
    head_dim: 32,
    position: 0,
    tokens: 1,
    chunk: 0,
    kv: KvType::F32,
    bytes: false,
    four_rows: false,
    sharpness: 1.0,
};

impl Case {
    /// The kernel against the twin, which may be told of another chunk.
    fn compare(self, twin_chunk: usize) -> Result<(), String> {
        let Self { heads, kv_heads, head_dim, position, tokens, chunk, kv, bytes, four_rows, sharpness } = self;
        let mut random = Random((heads * 1000 + position) as u64);
        // More positions than are filled: what lies behind is poison, and must not be read.
        let (context, filled) = (position + tokens + 5, position + tokens);
        let mut cache = || -> Vec<f32> {
            let values = random.floats(kv_heads * context * head_dim, 1.0);
            let rows = values.chunks_exact(head_dim).enumerate();
            let poison = || vec![f32::from_bits(POISON); head_dim];
            rows.flat_map(|(i, row)| if i % context < filled { stored(kv, row) } else { poison() }).collect()
        };
        let (k, v) = (cache(), cache());
        let q = random.floats(tokens * heads * head_dim, sharpness);
        let scale = (head_dim as f32).powf(-0.5);
        let twin = Attention { heads, kv_heads, head_dim, context, chunk: twin_chunk, scale };
        let expected = reference::attention(&twin, &q, &k, &v, position);

        let out_stride = (heads * head_dim).next_multiple_of(32);
        let out = poisoned(tokens * out_stride);
        let mut recorder = Recorder::default();
        let shape = AttentionShape { heads, kv_heads, head_dim, context, most_keys: context, chunk, scale };
        let (k_cache, v_cache) = (&on_gpu(kv, &k, head_dim, context), &on_gpu(kv, &v, head_dim, context));
        let slices = AttentionSlices { k_cache, v_cache, step: &words(&[position as u32]), out: &out, spans: &out, bytes, kv };
        prompt_attention(&mut recorder, &shape, &floats(&q), &slices, tokens, four_rows);
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
        for kv in types(self.head_dim) {
            for bytes in [false, true].into_iter().filter(|bytes| !bytes || can_make_bytes(self.head_dim)) {
                for four_rows in [false, true] {
                    let case = Self { kv, bytes, four_rows, ..self };
                    case.compare(self.chunk).unwrap_or_else(|e| panic!("{case:?}: {e}"));
                }
            }
        }
    }
}

#[test]
fn every_head_size() {
    for head_dim in [4, 8, 12, 16, 20, 24, 64, 96, 128, 200, 256] {
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
fn every_number_of_rows() {
    // The last lane has any number of its four, and the last workgroup any number of lanes.
    for tokens in 1..=12 {
        Case { heads: 3, kv_heads: 1, tokens, position: 5, ..CASE }.check();
    }
    Case { heads: 1, kv_heads: 1, tokens: 65, head_dim: 20, ..CASE }.check();
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
    for four_rows in [false, true] {
        let case = Case { chunk: 32, tokens: 75, four_rows, ..CASE };
        assert!(case.compare(33).is_err());
        assert!(case.compare(0).is_err());
    }
}
