//! A session: one timeline of tokens with its KV cache, and the only loop that drives the GPU.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::{Loaded, Precision};
use crate::gpu::{Buffer, Program, Recorder, Slice};
use crate::kernels::argmax;
use crate::kv_cache::KvCache;
use crate::layers::{Pass, Scratch};
use crate::sampler::Sampler;
use crate::{Error, Result};

/// Tokens whose logits are computed and read back together by [`Session::logits`].
const LOGIT_ROWS: usize = 16;

/// One conversation or text. Sessions of an engine are independent; dropping one frees its GPU memory.
pub struct Session {
    engine: Arc<Loaded>,
    scratch: Scratch,
    kv: KvCache,
    /// Where results are copied for reading back: logits are the largest.
    staging: Buffer,
    programs: HashMap<(usize, Tail), Program>,
    tokens: Vec<u32>,
    counters: Counters,
}

/// What follows the layers in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Tail {
    /// Nothing is wanted but the cache's new entries. The two words of the sampler are read to learn when it is done.
    Wait,
    /// The likeliest next token.
    Greedy,
    /// The last token's logits.
    Logits,
    /// The routing of every MoE layer.
    Routing,
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
    /// Bytes of weights that the kernel calls read.
    pub weight_bytes: u64,
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
        let (gpu, dims) = (&engine.gpu, &engine.dims);
        let f32 = engine.precision == Precision::Exact;
        let kv = KvCache::new(gpu, dims, engine.context, f32)?;
        let rows = LOGIT_ROWS.min(engine.prefill_chunk);
        let scratch = Scratch::new(gpu, dims, engine.choice.matmul, engine.prefill_chunk, rows)?;
        let routing = 8 * dims.moe_layers * dims.chosen * engine.prefill_chunk;
        let staging = gpu.staging((4 * rows * dims.vocab).max(routing) as u64)?;
        Ok(Self { scratch, kv, staging, programs: HashMap::new(), tokens: Vec::new(), counters: Counters::default(), engine })
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

    /// Tokens of a prompt that are computed together.
    pub(crate) fn prefill_chunk(&self) -> usize {
        self.engine.prefill_chunk
    }

    /// The loaded model.
    pub(crate) fn engine(&self) -> &Arc<Loaded> {
        &self.engine
    }

    /// Forgets all tokens but the first `len`, as if the others had never been given.
    pub fn rewind(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// Appends tokens to the timeline without asking what follows them.
    ///
    /// May be dropped while it waits: the session then holds the tokens of the chunks that were computed.
    ///
    /// # Errors
    /// No room in the context, an id outside the vocabulary, or a failing GPU.
    pub async fn prefill(&mut self, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        for chunk in tokens.chunks(self.engine.prefill_chunk) {
            self.run(chunk, Tail::Wait)?;
            self.read(8).await?;
        }
        Ok(())
    }

    /// Appends tokens and returns the one that the sampler chooses to follow them. It is not appended: give it to the next
    /// call. A single token is one submission and one read-back.
    ///
    /// # Errors
    /// As [`Session::prefill`], no token at all, or logits that are not numbers.
    pub async fn next(&mut self, tokens: &[u32], sampler: &mut Sampler) -> Result<u32> {
        self.check(tokens)?;
        let Some((last, rest)) =
            tokens.chunks(self.engine.prefill_chunk).collect::<Vec<_>>().split_last().map(|(l, r)| (*l, r.concat()))
        else {
            return Err(Error::Request("there must be at least one token to continue from".into()));
        };
        self.prefill(&rest).await?;
        if sampler.is_greedy() {
            self.run(last, Tail::Greedy)?;
            let result: [u32; 2] = self.words(2).await?.try_into().unwrap_or_default();
            if !f32::from_bits(result[1]).is_finite() {
                return Err(not_numbers());
            }
            return Ok(result[0]);
        }
        self.run(last, Tail::Logits)?;
        let mut logits = self.floats(self.engine.dims.vocab).await?;
        sampler.sample(&mut logits, &self.tokens)
    }

    /// Appends tokens and returns the logits after each of them, and what every MoE layer chose.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Logits> {
        self.check(tokens)?;
        let layers = &self.engine.info.moe_layers;
        let mut all = Logits {
            routing: layers.iter().map(|&layer| Routing { layer, ..Routing::default() }).collect(),
            ..Logits::default()
        };
        let k = self.engine.dims.chosen;
        for chunk in tokens.chunks(self.engine.prefill_chunk) {
            self.run(chunk, Tail::Routing)?;
            let pairs = chunk.len() * k;
            let words = self.words((2 * pairs * all.routing.len()).max(2)).await?;
            for (routing, words) in all.routing.iter_mut().zip(words.chunks_exact((2 * pairs).max(1))) {
                routing.ids.extend_from_slice(&words[..pairs]);
                routing.weights.extend(words[pairs..].iter().map(|&w| f32::from_bits(w)));
            }
            let rows = LOGIT_ROWS.min(self.engine.prefill_chunk);
            for first in (0..chunk.len()).step_by(rows) {
                let count = rows.min(chunk.len() - first);
                let vocab = self.engine.dims.vocab;
                let program = self.record(chunk.len(), |pass, loaded, staging| {
                    loaded.model.ends().record_head(pass, first, count);
                    pass.r.copy(prefix(&pass.s.logits, count * vocab), prefix(staging, count * vocab));
                })?;
                self.submit(&program)?;
                all.logits.extend(self.floats(count * vocab).await?);
            }
        }
        Ok(all)
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

    /// Submits one chunk. Programs for one token and for a full chunk are kept.
    fn run(&mut self, tokens: &[u32], tail: Tail) -> Result<()> {
        let mut step = vec![self.tokens.len() as u32];
        step.extend_from_slice(tokens);
        self.engine.gpu.write(self.scratch.step.buffer(), 0, bytemuck::cast_slice(&step));
        let key = (tokens.len(), tail);
        let program = match self.programs.remove(&key) {
            Some(kept) => kept,
            None => self.record(tokens.len(), |pass, loaded, staging| record_step(pass, loaded, staging, tail))?,
        };
        self.submit(&program)?;
        if tokens.len() == 1 || tokens.len() == self.engine.prefill_chunk {
            self.programs.insert(key, program);
        }
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    fn record(&self, tokens: usize, body: impl FnOnce(&mut Pass<'_>, &Loaded, &Slice)) -> Result<Program> {
        let engine = &self.engine;
        let mut pass = Pass { r: Recorder::default(), s: &self.scratch, kv: &self.kv, choice: engine.choice, tokens };
        body(&mut pass, engine, &self.staging.whole());
        engine.gpu.prepare(&pass.r.finish())
    }

    fn submit(&mut self, program: &Program) -> Result<()> {
        self.engine.gpu.run(program)?;
        self.counters.submits += 1;
        self.counters.dispatches += u64::from(program.dispatches());
        self.counters.weight_bytes += program.weight_bytes();
        Ok(())
    }

    async fn read(&mut self, bytes: usize) -> Result<Vec<u8>> {
        self.counters.readbacks += 1;
        self.engine.gpu.read(&self.staging, bytes as u64).await
    }

    async fn words(&mut self, count: usize) -> Result<Vec<u32>> {
        Ok(bytemuck::pod_collect_to_vec(&self.read(4 * count).await?))
    }

    async fn floats(&mut self, count: usize) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(&self.read(4 * count).await?))
    }
}

fn record_step(pass: &mut Pass<'_>, loaded: &Loaded, staging: &Slice, tail: Tail) {
    loaded.model.record_layers(pass);
    let (s, vocab) = (pass.s, loaded.dims.vocab);
    if matches!(tail, Tail::Greedy | Tail::Logits) {
        loaded.model.ends().record_head(pass, pass.tokens - 1, 1);
    }
    match tail {
        Tail::Wait => pass.r.copy(prefix(&s.sampled, 2), prefix(staging, 2)),
        Tail::Greedy => {
            argmax(&mut pass.r, &s.logits, &s.sampled, vocab);
            pass.r.copy(prefix(&s.sampled, 2), prefix(staging, 2));
        }
        Tail::Logits => pass.r.copy(prefix(&s.logits, vocab), prefix(staging, vocab)),
        Tail::Routing => {
            let pairs = pass.tokens * loaded.dims.chosen;
            let slices = s.moe.iter().flat_map(|m| &m.routing).flat_map(|(ids, weights)| [ids, weights]);
            for (i, slice) in slices.enumerate() {
                pass.r.copy(prefix(slice, pairs), staging.words(i * pairs, pairs));
            }
        }
    }
}

/// The first `words` 32-bit words of a slice.
fn prefix(slice: &Slice, words: usize) -> Slice {
    slice.words(0, words)
}

fn not_numbers() -> Error {
    Error::Gpu("the logits are not finite numbers; the model file may be damaged".into())
}
