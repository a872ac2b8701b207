//! A session: one timeline of tokens with its KV cache, and the only loops that drive the GPU.

mod ahead;
mod chunks;
mod continuation;
mod pace;
mod profile;
mod programs;
mod recording;
mod run;
mod turns;

use std::ops::{Add, Sub};
use std::sync::Arc;

use crate::engine::{Engine, Loaded, MOST_CHUNK};
use crate::gpu::{Buffer, Gpu};
use crate::kernels::{Draw, MOST_RECENT};
use crate::kv_cache::KvCache;
use crate::layers::{RoutingLayout, Scratch};
use crate::sampler::Sampler;
use crate::{Error, Result};

pub use continuation::Continuation;
use pace::Pace;
pub use profile::KernelTime;
use programs::ProgramCache;
use recording::Tail;
pub(crate) use recording::first_shaders;

/// Tokens whose logits are computed and read back together by [`Session::logits`].
const LOGIT_ROWS: usize = 16;

/// One conversation or text. Sessions of an engine are independent; dropping one frees its GPU memory.
pub struct Session {
    engine: Arc<Loaded>,
    scratch: Scratch,
    kv: KvCache,
    /// Where results are copied for reading back: the routing of all layers, then what was asked for. The second is for one token:
    /// while one of them is read, the other one may be written.
    staging: [Buffer; 2],
    /// A read-back was begun and dropped before it was answered.
    unread: [bool; 2],
    programs: ProgramCache,
    /// Tokens that the buffers have room for.
    chunk: usize,
    /// Tokens for which there may be memory.
    most_chunk: usize,
    pace: Pace,
    tokens: Vec<u32>,
    counters: Counters,
}

/// Work done by a session since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Kernel calls.
    pub dispatches: u64,
    /// Submissions to the GPU's queue.
    pub submits: u64,
    /// Waits for data from the GPU.
    pub readbacks: u64,
    /// Bytes of weights that the kernel calls read, those that were skipped or repeated because of a missing expert included.
    pub weight_bytes: u64,
}

/// The work of both.
impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            dispatches: self.dispatches + other.dispatches,
            submits: self.submits + other.submits,
            readbacks: self.readbacks + other.readbacks,
            weight_bytes: self.weight_bytes + other.weight_bytes,
        }
    }
}

/// The work since `earlier`, which the same session told.
impl Sub for Counters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            dispatches: self.dispatches - earlier.dispatches,
            submits: self.submits - earlier.submits,
            readbacks: self.readbacks - earlier.readbacks,
            weight_bytes: self.weight_bytes - earlier.weight_bytes,
        }
    }
}

/// Logits of every token that [`Session::logits`] was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// [tokens, vocab] f32.
    pub logits: Vec<f32>,
    /// For each MoE layer, in order: chosen experts.
    pub routing: Vec<Routing>,
}

/// The routing of one MoE layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routing {
    /// Index of the layer in the model.
    pub layer: usize,
    /// [tokens, k] expert ids, highest weight first.
    pub ids: Vec<u32>,
    /// [tokens, k] weights.
    pub weights: Vec<f32>,
}

impl Session {
    pub(crate) fn new(engine: Arc<Loaded>) -> Result<Self> {
        let (gpu, dims, chunk) = (&engine.gpu, &engine.dims, engine.first_chunk);
        let kv = KvCache::new(gpu, dims, engine.context, engine.kv)?;
        let (scratch, staging) = buffers(&engine, chunk)?;
        let staging = [staging, gpu.staging(4 * (RoutingLayout::new(dims, 1).words() + 2) as u64)?];
        let (programs, tokens, counters) = (ProgramCache::default(), Vec::new(), Counters::default());
        let (most_chunk, pace) = (MOST_CHUNK, Pace::default());
        Ok(Self { scratch, kv, staging, unread: [false; 2], programs, chunk, most_chunk, pace, tokens, counters, engine })
    }

    /// The tokens that the cache holds, in order.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Work done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The device that it runs on.
    #[must_use]
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.engine.gpu
    }

    /// The loaded model.
    pub(crate) fn engine(&self) -> &Arc<Loaded> {
        &self.engine
    }

    /// Forgets all tokens but the first `len`, as if the others had never been given.
    pub fn rewind(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// Forgets all tokens but those that `prompt` also begins with, and at least its last, so that there is one left to be
    /// computed. Returns how many were kept: what follows them in `prompt` is what to continue with.
    pub fn keep_common(&mut self, prompt: &[u32]) -> usize {
        let kept = common_prefix(&self.tokens, prompt);
        self.rewind(kept);
        kept
    }

    /// Appends tokens to the timeline without asking what follows them.
    ///
    /// May be dropped while it waits: the session then holds the tokens of the chunks that were computed.
    ///
    /// # Errors
    /// No room in the context, an id outside the vocabulary, or a failing GPU.
    pub async fn prefill(&mut self, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        let mut left = tokens;
        while !left.is_empty() {
            let (chunk, rest) = left.split_at(self.next_chunk(left.len()).await);
            self.run(chunk, Tail::Wait).await?;
            left = rest;
        }
        Ok(())
    }

    /// Appends tokens and returns the one that the sampler chooses to follow them. It is not appended: give it to the next
    /// call. A single token is one submission and one read-back, and some more where experts have to be loaded.
    ///
    /// The choice is made on the GPU, unless the sampler penalises more than the latest 256 tokens.
    ///
    /// # Errors
    /// As [`Session::prefill`], no token at all, or logits that are not numbers.
    pub async fn next(&mut self, tokens: &[u32], sampler: &mut Sampler) -> Result<u32> {
        self.check(tokens)?;
        if tokens.is_empty() {
            return Err(Error::Request("there must be at least one token to continue from".into()));
        }
        let mut last = tokens;
        loop {
            let (chunk, rest) = last.split_at(self.next_chunk(last.len()).await);
            if rest.is_empty() {
                break;
            }
            self.run(chunk, Tail::Wait).await?;
            last = rest;
        }
        let tail = tail_for(sampler);
        if tail == Tail::Sampled {
            self.tell_draw(sampler, 0, last.split_last().map_or(&[], |(_, before)| before));
        }
        let before = self.tokens.len();
        let report = self.run(last, tail).await?;
        let chosen = if tail.chooses() {
            report.choice().inspect(|_| sampler.drawn())
        } else {
            let mut logits: Vec<f32> = report.result().iter().map(|&word| f32::from_bits(word)).collect();
            sampler.sample(&mut logits, &self.tokens)
        };
        // What fails leaves the timeline as it was, so that it can be done again elsewhere.
        chosen.inspect_err(|_| self.tokens.truncate(before))
    }

    /// Tells the kernel the next draw but `ahead`. `before` are the tokens between the timeline and the last one of the pass, which the
    /// kernel knows.
    fn tell_draw(&self, sampler: &Sampler, ahead: u64, before: &[u32]) {
        let options = sampler.options();
        let recent = sampler.penalised();
        let draw = Draw {
            random: sampler.random(ahead) as f32,
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            penalty: if recent > 0 { options.repeat_penalty } else { 1.0 },
        };
        let before = before.iter().rev().chain(self.tokens.iter().rev());
        let latest: Vec<u32> = before.take(recent.saturating_sub(1)).copied().collect();
        self.engine.gpu.write_slice(&self.scratch.draw, 0, bytemuck::cast_slice(&draw.words(&latest)));
    }

    /// Appends tokens and returns the logits after each of them, and what every MoE layer chose.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Logits> {
        self.check(tokens)?;
        let layers = &self.engine.files.info().moe_layers;
        let mut all = Logits {
            routing: layers.iter().map(|&layer| Routing { layer, ..Routing::default() }).collect(),
            ..Logits::default()
        };
        for chunk in tokens.chunks(self.engine.first_chunk) {
            let report = self.run(chunk, Tail::Wait).await?;
            for (layer, routing) in all.routing.iter_mut().enumerate() {
                routing.ids.extend_from_slice(report.ids(layer));
                routing.weights.extend(report.weights(layer));
            }
            let rows = logit_rows(self.chunk);
            for first in (0..chunk.len()).step_by(rows) {
                all.logits.extend(self.head(chunk.len(), first, rows.min(chunk.len() - first)).await?);
            }
        }
        Ok(all)
    }

    /// An empty session of another engine with the same model, which goes on counting where this one stands.
    ///
    /// # Errors
    /// It is another model, or its GPU has no room for a session.
    pub(crate) async fn moved_to(&self, engine: &Engine) -> Result<Self> {
        if engine.info() != self.engine.files.info() {
            return Err(Error::Request("a session can only move to an engine of the same model".into()));
        }
        Ok(Self { counters: self.counters, ..engine.checked_session().await? })
    }

    /// Fails where these tokens cannot be appended.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<()> {
        let (total, context) = (self.tokens.len() + tokens.len(), self.engine.context);
        if total > context {
            return Err(Error::ContextFull { tokens: total, context });
        }
        let vocab = self.engine.dims.vocab;
        match tokens.iter().find(|&&t| t as usize >= vocab) {
            Some(id) => Err(Error::Request(format!("token id {id} is outside the vocabulary of {vocab}"))),
            None => Ok(()),
        }
    }
}

/// The buffers of passes of up to `chunk` tokens, and where their results are copied for reading back.
fn buffers(engine: &Loaded, chunk: usize) -> Result<(Scratch, Buffer)> {
    let (gpu, dims, rows) = (&engine.gpu, &engine.dims, logit_rows(chunk));
    let scratch = Scratch::new(gpu, dims, engine.choice.matmul, chunk, rows, engine.context)?;
    let staged = RoutingLayout::new(dims, chunk).words() + rows * dims.vocab;
    Ok((scratch, gpu.staging(4 * staged as u64)?))
}

/// Tokens of a chunk whose logits are computed together.
fn logit_rows(chunk: usize) -> usize {
    LOGIT_ROWS.min(chunk)
}

/// What chooses by this sampler.
fn tail_for(sampler: &Sampler) -> Tail {
    match sampler {
        _ if sampler.is_greedy() => Tail::Greedy,
        _ if sampler.penalised() <= MOST_RECENT => Tail::Sampled,
        _ => Tail::Logits,
    }
}

/// How many tokens the two begin with in common, leaving at least one of `prompt` to be computed.
fn common_prefix(held: &[u32], prompt: &[u32]) -> usize {
    let same = held.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    same.min(prompt.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::common_prefix;

    #[test]
    fn what_is_held_is_kept_up_to_the_last_token() {
        assert_eq!(common_prefix(&[], &[1, 2, 3]), 0);
        assert_eq!(common_prefix(&[1, 2], &[1, 2, 3]), 2);
        assert_eq!(common_prefix(&[1, 2, 9, 9], &[1, 2, 3]), 2);
        // One token has to be computed: its logits are wanted.
        assert_eq!(common_prefix(&[1, 2, 3, 4], &[1, 2, 3]), 2);
        assert_eq!(common_prefix(&[9], &[1, 2, 3]), 0);
        assert_eq!(common_prefix(&[1], &[]), 0);
    }
}
