//! `attention`: one token's projections in, its keys and values appended, its attention out.

use super::blocks::{BLOCK_WORDS, from_bytes, half_steps};
use super::cache::{bounds, from_words, on_gpu, places, stored, types};
use super::harness::{POISON, Random, as_floats, close, floats, poisoned, run, words};
use super::rope_append::{frequencies, table};
use crate::gpu::Recorder;
use crate::kernels::{
    AttentionShape, AttentionSlices, KvType, Projected, RopeShape, Rotate, attention, can_make_bytes, most_keys, span_words,
};
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
    /// It is recorded for this position and its like, not for any in the cache.
    near: bool,
    kv: KvType,
    bytes: bool,
}

const CASE: Case = Case {
    heads: 4,
    kv_heads: 2,
    head_dim: 32,
    rotate: Rotate::Halves,
    normalize: None,
    temperature: None,
    position: 40,
    room: 2,
    chunk: 0,
    near: false,
    kv: KvType::F32,
    bytes: false,
};

impl Case {
    /// The kernel against `rope_append` and `attention` of the twins, the position of whose token may be another.
    fn compare(self, twin_position: usize) -> Result<(), String> {
        let Self { heads, kv_heads, head_dim, position, room, chunk, near, kv, bytes, .. } = self;
        let mut random = Random((heads * 1000 + position) as u64);
        let context = position + 1 + room;
        let most_keys = if near { most_keys(position, context) } else { context };
        let qkv = random.floats((heads + 2 * kv_heads) * head_dim, 1.0);
        let mut cache = || -> Vec<f32> {
            let values = random.floats(kv_heads * context * head_dim, 1.0);
            let rows = values.chunks_exact(head_dim).enumerate();
            let poison = || vec![f32::from_bits(POISON); head_dim];
            rows.flat_map(|(i, row)| if i % context < position { stored(kv, row) } else { poison() }).collect()
        };
        let (mut k, mut v) = (cache(), cache());
        let (k_cache, v_cache) = (on_gpu(kv, &k, head_dim, context), on_gpu(kv, &v, head_dim, context));
        let [before_k, before_v] = run(Recorder::default(), [&k_cache, &v_cache]);

        let (order, rotate) = match self.rotate {
            Rotate::None => (Order::None, Rotate::None),
            Rotate::Adjacent => (Order::Adjacent, Rotate::Adjacent),
            Rotate::Halves => (Order::Halves, Rotate::Halves),
        };
        let (normalize, temperature) = (self.normalize, self.temperature);
        let twin = Rope { heads, kv_heads, head_dim, order, frequencies: frequencies(head_dim), normalize, temperature };
        let turned = reference::rope_append(&twin, &qkv, twin_position);
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
            kv,
        };
        let scale = (head_dim as f32).powf(-0.5);
        let shape = AttentionShape { heads, kv_heads, head_dim, context, most_keys, chunk, scale };
        let (qkv, table) = (floats(&qkv), floats(&table(context, &frequencies(head_dim))));
        let mut recorder = Recorder::default();
        attention(&mut recorder, &shape, &Projected { rope: &rope, qkv: &qkv, table: &table }, &slices);
        let [out, made_k, made_v] = run(recorder, [&out, &k_cache, &v_cache]);

        // The new entries within their rounding, and the old ones as they were.
        for (made, new, mut before, cache) in [(made_k, &turned.k, before_k, &mut k), (made_v, &turned.v, before_v, &mut v)] {
            for (head, new) in new.chunks_exact(head_dim).enumerate() {
                let places = places(kv, head_dim, context, head, position);
                let row: Vec<u32> = places.iter().map(|&place| made[place]).collect();
                let (row, bounds) = (from_words(kv, &row, head_dim), bounds(kv, new, 4e-6));
                close(&row, new, |i| bounds[i]).map_err(|e| format!("head {head}: {e}"))?;
                cache[(head * context + position) * head_dim..][..head_dim].copy_from_slice(&row);
                places.into_iter().for_each(|place| before[place] = made[place]);
            }
            assert!(made == before, "other rows were written");
        }
        // The token sees its own entry as later ones will.
        let shape = Attention { heads, kv_heads, head_dim, context, chunk, scale };
        let expected = reference::attention(&shape, &turned.q, &k, &v, position);
        let bound = 2e-5;
        if bytes {
            let (values, _) = from_bytes(&out[..expected.len() / 32 * BLOCK_WORDS])?;
            let steps = half_steps(&expected);
            return close(&values, &expected, |i| steps[i] + 2.0 * bound);
        }
        close(&as_floats(&out[..expected.len()]), &expected, |_| bound)
    }

    fn check(self) {
        for kv in types(self.head_dim) {
            for bytes in [false, true].into_iter().filter(|bytes| !bytes || can_make_bytes(self.head_dim)) {
                let case = Self { kv, bytes, ..self };
                case.compare(self.position).unwrap_or_else(|e| panic!("{case:?}: {e}"));
            }
        }
    }
}

#[test]
fn every_rotation_and_head_size() {
    for rotate in [Rotate::None, Rotate::Adjacent, Rotate::Halves] {
        for head_dim in [4, 8, 12, 16, 20, 24, 64, 96, 128, 200, 256] {
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
    Case { heads: 4, kv_heads: 1, head_dim: 256, ..case }.check();
    Case { normalize: None, rotate: Rotate::None, temperature: Some((16.0, 0.1)), position: 70, ..case }.check();
}

#[test]
fn long_caches_are_computed_in_spans() {
    for (position, room) in [(0, 600), (512, 0), (513, 700), (1023, 1), (1024, 0), (1025, 3), (2500, 20_000)] {
        for near in [false, true] {
            Case { position, room, near, ..CASE }.check();
            Case { position, room, near, chunk: 1000, ..CASE }.check();
        }
    }
    for (heads, head_dim, position) in [(5, 96, 512), (5, 96, 513), (4, 64, 513), (4, 256, 1100)] {
        Case { heads, kv_heads: 1, head_dim, position, room: 1000, ..CASE }.check();
    }
    // The token's own key alone in a chunk that has room for several tiles, and rows whose last vector is padded.
    for (head_dim, position) in [(32, 1500), (32, 1501), (60, 1100), (100, 530), (252, 530)] {
        Case { head_dim, position, chunk: 1500, room: 1000, ..CASE }.check();
    }
    // Chunks that begin beside a multiple of eight, up to one tile more than they would have keys for.
    for (chunk, position) in [(1022, 2043), (1500, 2999), (1, 40), (3, 41), (7, 40), (13, 40), (13, 41), (37, 41)] {
        for near in [false, true] {
            Case { chunk, position, near, room: 100, ..CASE }.check();
        }
    }
}

#[test]
fn another_position_is_noticed() {
    assert!(CASE.compare(CASE.position).is_ok());
    assert!(CASE.compare(CASE.position + 1).is_err());
}

/// There are few recordings, and always enough keys in them.
#[test]
fn what_is_recorded_for_a_position_holds_its_keys() {
    for context in [1, 511, 512, 513, 8192] {
        assert_eq!([0, 1, 511, 512].map(|position| most_keys(position, context)), [context.min(512); 4]);
        assert!((0..context).all(|position| most_keys(position, context) >= position));
    }
    assert_eq!(
        [513, 1024, 1025, 4096, 4097, 8000].map(|position| most_keys(position, 6000)),
        [1024, 1024, 2048, 4096, 6000, 6000]
    );
}
