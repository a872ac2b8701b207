//! The tensors of a synthetic model.
//!
//! Experts are random blocks. What makes their choice lifelike is around them:
//!
//! - Embeddings have a direction in common, and queries and keys are made by the same matrix. So tokens attend to all
//!   others alike, but for the low base of the rotation, which lets that fade within some tens of tokens.
//! - Values leave the common direction out. So attention brings a moving average of what distinguishes the recent tokens, and
//!   routers, which see it beside the token itself, choose similarly for neighbours.
//! - A router's row has a length of its own and its own share of the common direction. So some experts are popular.
//!
//! With 12 layers of 64 experts, two chosen, and 600 bytes of English, a token shares 0.44 of its experts with the one before
//! (0.19 by chance), the choices have an entropy of 4.1 of 6 bits, and a least-recently-used cache of 12.5, 25, 37.5 and 50 % of
//! a layer's experts is hit by 65, 83, 90 and 94 % of them: about what is published of trained models.

use half::f16;
use moxel::Result;
use moxel::weights::{BoxFuture, DType};

use super::metadata::{VOCABULARY, is_printable};
use super::random::Stream;
use super::{EXPERT_FORMAT, HEAD, Size};
use crate::virtual_model::{TensorSpec, Tensors};

/// Share of the common direction in an embedding's energy.
const COMMON: f32 = 0.97;
/// By how much attention's average of values is multiplied: averaging has made it small.
const ATTENTION_GAIN: f32 = 3.0;
/// Root mean square of what an expert adds to a residual stream of about 1. It is nearly the same for every token, and more
/// of it would drown what distinguishes them.
const EXPERT_GAIN: f32 = 0.03;
/// Spread of the lengths of routers' rows around 1, and of their share of the common direction.
const LENGTH_SPREAD: f32 = 0.15;
const POPULARITY: f32 = 0.15;
/// Standard deviation of a router's logits and of those of the vocabulary.
const ROUTER_GAIN: f32 = 1.5;
const HEAD_GAIN: f32 = 2.0;
/// The logit, about, of what never is to be said.
const NEVER: f32 = -30.0;

pub struct SynthTensors {
    size: Size,
    seed: u64,
    /// What embeddings have in common, of root mean square 1.
    common: Vec<f32>,
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy)]
enum Kind {
    Norm,
    Embedding,
    /// Each of these is random; the number is the stream's, shared by query and key.
    Query(u64),
    Key(u64),
    Value(u64),
    Output(u64),
    Router(u64),
    /// Blocks of Q4_1 for a matrix with this many columns.
    Blocks {
        stream: u64,
        cols: usize,
        gain: f32,
    },
    Head,
}

impl SynthTensors {
    /// The tensors and the list of them.
    pub fn new(size: Size, seed: u64) -> (Self, Vec<TensorSpec>) {
        let mut list = List { streams: 2, ..List::default() };
        list.add("token_embd.weight".into(), DType::F16, &[VOCABULARY, size.hidden], Kind::Embedding);
        for layer in 0..size.layers {
            list.add_layer(layer, &size);
        }
        list.add("output_norm.weight".into(), DType::F32, &[size.hidden], Kind::Norm);
        list.add("output.weight".into(), DType::F16, &[VOCABULARY, size.hidden], Kind::Head);
        let stream = Stream::new(seed, 0);
        let common = normalized((0..size.hidden as u64).map(|index| stream.normal(index)).collect());
        (Self { size, seed, common, kinds: list.kinds }, list.specs)
    }

    fn compute(&self, tensor: usize, block: usize) -> Vec<u8> {
        let hidden = self.size.hidden;
        let stream = |part| Stream::new(self.seed, part);
        match self.kinds[tensor] {
            Kind::Norm => vec![1f32; hidden].into_iter().flat_map(f32::to_le_bytes).collect(),
            Kind::Embedding => halves(self.embedding()),
            Kind::Query(part) => halves(self.keys(stream(part), super::GROUP)),
            Kind::Key(part) => halves(self.keys(stream(part), 1)),
            Kind::Value(part) => {
                let rows = self.size.kv_heads() * HEAD;
                halves((0..rows).flat_map(|row| self.without_common(stream(part), row, 1.0)))
            }
            Kind::Output(part) => {
                let scale = ATTENTION_GAIN / (hidden as f32).sqrt();
                halves((0..(hidden * hidden) as u64).map(|index| scale * stream(part).normal(index)))
            }
            Kind::Router(part) => self.router(stream(part)).flat_map(f32::to_le_bytes).collect(),
            Kind::Blocks { stream: part, cols, gain } => self.blocks(stream(part), block, cols, gain),
            Kind::Head => halves((0..VOCABULARY).flat_map(|id| self.head_row(stream(2), id))),
        }
    }

    fn embedding(&self) -> impl Iterator<Item = f32> {
        let stream = Stream::new(self.seed, 1);
        let common = self.common.iter().map(|value| COMMON.sqrt() * value).cycle();
        let own = (0..(VOCABULARY * self.size.hidden) as u64).map(move |index| (1.0 - COMMON).sqrt() * stream.normal(index));
        own.zip(common).map(|(own, common)| own + common)
    }

    /// Rows of queries or keys: the heads of keys, each `copies` times.
    fn keys(&self, stream: Stream, copies: usize) -> impl Iterator<Item = f32> {
        let (head, scale) = ((HEAD * self.size.hidden) as u64, 1.0 / (self.size.hidden as f32).sqrt());
        let heads = (0..self.size.kv_heads() as u64).flat_map(move |kv_head| std::iter::repeat_n(kv_head, copies));
        heads.flat_map(move |kv_head| (kv_head * head..(kv_head + 1) * head).map(move |index| scale * stream.normal(index)))
    }

    /// A random row of length `gain` that does not see the common direction.
    fn without_common(&self, stream: Stream, row: usize, gain: f32) -> Vec<f32> {
        let hidden = self.size.hidden;
        let first = (row * hidden) as u64;
        let mut values: Vec<f32> = (first..first + hidden as u64).map(|index| stream.normal(index)).collect();
        let share = values.iter().zip(&self.common).map(|(value, common)| value * common).sum::<f32>() / hidden as f32;
        let scale = gain / (hidden as f32).sqrt();
        values.iter_mut().zip(&self.common).for_each(|(value, common)| *value = scale * (*value - share * common));
        values
    }

    /// Against the common direction, which every token has, for what never is to be said: that is any byte a terminal would
    /// obey, and the end, so that a text goes on until it is stopped.
    fn head_row(&self, stream: Stream, id: usize) -> Vec<f32> {
        if is_printable(id) {
            return self.without_common(stream, id, HEAD_GAIN);
        }
        self.common.iter().map(|common| NEVER * common / self.size.hidden as f32).collect()
    }

    fn router(&self, stream: Stream) -> impl Iterator<Item = f32> {
        let hidden = self.size.hidden;
        // Beyond the numbers that make the rows themselves.
        let own = (self.size.experts * hidden) as u64;
        (0..self.size.experts).flat_map(move |expert| {
            let length = (LENGTH_SPREAD * stream.normal(own + 2 * expert as u64)).exp();
            let popularity = POPULARITY * ROUTER_GAIN * stream.normal(own + 2 * expert as u64 + 1) / hidden as f32;
            let row = self.without_common(stream, expert, ROUTER_GAIN * length);
            row.into_iter().zip(&self.common).map(move |(value, common)| value + popularity * common)
        })
    }

    /// An expert's matrix: blocks with random quants and one scale, made so that a row's product with a random vector of root
    /// mean square 1 is about `gain`.
    fn blocks(&self, stream: Stream, matrix: usize, cols: usize, gain: f32) -> Vec<u8> {
        const BLOCK: usize = EXPERT_FORMAT.block_bytes();
        let count = self.size.hidden * self.size.inner / EXPERT_FORMAT.block_len();
        // The standard deviation of the numbers 0 to 15, around their mean of 7.5.
        let scale = f16::from_f32(gain / (cols as f32).sqrt() / (255f32 / 12.0).sqrt());
        let minimum = f16::from_f32(-7.5 * scale.to_f32());
        let mut bytes = vec![0; count * BLOCK];
        let first = 2 * (matrix * count) as u64;
        for (index, block) in (first..).step_by(2).zip(bytes.as_chunks_mut::<BLOCK>().0) {
            block[..2].copy_from_slice(&scale.to_le_bytes());
            block[2..4].copy_from_slice(&minimum.to_le_bytes());
            block[4..12].copy_from_slice(&stream.bits(index).to_le_bytes());
            block[12..].copy_from_slice(&stream.bits(index + 1).to_le_bytes());
        }
        bytes
    }
}

impl Tensors for SynthTensors {
    fn block(&self, tensor: usize, block: usize) -> BoxFuture<'_, Result<Vec<u8>>> {
        Box::pin(async move { Ok(self.compute(tensor, block)) })
    }
}

#[derive(Default)]
struct List {
    specs: Vec<TensorSpec>,
    kinds: Vec<Kind>,
    /// The last stream given out: 0 is the common direction, 1 the embedding, 2 the head.
    streams: u64,
}

impl List {
    fn add(&mut self, name: String, dtype: DType, shape: &[usize], kind: Kind) {
        let stacked = if shape.len() == 3 { shape[0] } else { 1 };
        self.specs.push(TensorSpec { name, dtype, shape: shape.to_vec(), blocks: stacked });
        self.kinds.push(kind);
    }

    fn stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    fn add_layer(&mut self, layer: usize, size: &Size) {
        let &Size { hidden, experts, inner, .. } = size;
        let name = |module: &str| format!("blk.{layer}.{module}.weight");
        let keys = size.kv_heads() * HEAD;
        let (q_and_k, v, output) = (self.stream(), self.stream(), self.stream());
        self.add(name("attn_norm"), DType::F32, &[hidden], Kind::Norm);
        self.add(name("attn_q"), DType::F16, &[hidden, hidden], Kind::Query(q_and_k));
        self.add(name("attn_k"), DType::F16, &[keys, hidden], Kind::Key(q_and_k));
        self.add(name("attn_v"), DType::F16, &[keys, hidden], Kind::Value(v));
        self.add(name("attn_output"), DType::F16, &[hidden, hidden], Kind::Output(output));
        self.add(name("ffn_norm"), DType::F32, &[hidden], Kind::Norm);
        let router = Kind::Router(self.stream());
        self.add(name("ffn_gate_inp"), DType::F32, &[experts, hidden], router);
        for (module, rows, cols, gain) in
            [("gate", inner, hidden, 1.0), ("up", inner, hidden, 1.0), ("down", hidden, inner, EXPERT_GAIN)]
        {
            let mut blocks = || Kind::Blocks { stream: self.stream(), cols, gain };
            let (shared, routed) = (blocks(), blocks());
            self.add(name(&format!("ffn_{module}_shexp")), EXPERT_FORMAT, &[rows, cols], shared);
            self.add(name(&format!("ffn_{module}_exps")), EXPERT_FORMAT, &[experts, rows, cols], routed);
        }
    }
}

fn normalized(mut values: Vec<f32>) -> Vec<f32> {
    let square = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
    values.iter_mut().for_each(|value| *value /= square.sqrt());
    values
}

fn halves(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()
}
