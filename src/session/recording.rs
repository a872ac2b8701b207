//! What a pass is as a list of commands: the layers, and what follows them.

use crate::Result;
use crate::engine::Loaded;
use crate::gpu::{Recorder, Recording, Shader};
use crate::kernels::{SampleSlices, argmax, most_keys, sample};
use crate::kv_cache::KvCache;
use crate::layers::{Pass, Scratch};

use super::buffers;

/// What follows the layers in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tail {
    /// Nothing is wanted but the cache's new entries and the routing.
    Wait,
    /// The likeliest next token: its id and the bits of its logit.
    Greedy,
    /// The next token by all options of a sampler, and the bits of the highest logit.
    Sampled,
    /// The last token's logits.
    Logits,
}

impl Tail {
    /// Whether the GPU chooses the next token.
    pub(super) fn chooses(self) -> bool {
        matches!(self, Self::Greedy | Self::Sampled)
    }
}

/// How a program copes with experts that are not on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// There are none.
    Resident,
    /// It runs on as if there were none, and stops itself where there is one.
    Ahead,
    /// It is submitted in parts, and experts take turns.
    Turns,
}

impl Mode {
    /// For so many tokens, where all experts are there or may be missing.
    pub(super) fn of(tokens: usize, all_there: bool) -> Self {
        match tokens {
            _ if all_there => Self::Resident,
            1 => Self::Ahead,
            _ => Self::Turns,
        }
    }
}

/// What a pass is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) tokens: usize,
    pub(super) tail: Tail,
    pub(super) mode: Mode,
    /// Of one token, see [`most_keys`].
    most_keys: usize,
}

impl Shape {
    /// Of `tokens` tokens from `position` on, where the cache has room for `context`.
    pub(super) fn new((position, context): (usize, usize), tokens: usize, tail: Tail, mode: Mode) -> Self {
        Self { tokens, tail, mode, most_keys: if tokens == 1 { most_keys(position, context) } else { context } }
    }

    /// Whether it leaves the next token where a pass that follows looks for it.
    pub(super) fn feeds(self) -> bool {
        self.tail.chooses() && self.mode == Mode::Resident
    }
}

/// The buffers that passes are recorded for.
#[derive(Clone, Copy)]
pub(super) struct Buffers<'a> {
    pub(super) engine: &'a Loaded,
    pub(super) scratch: &'a Scratch,
    pub(super) kv: &'a KvCache,
}

impl<'a> Buffers<'a> {
    pub(super) fn pass(self, r: Recorder, shape: Shape) -> Pass<'a> {
        let Self { engine, scratch: s, kv } = self;
        let (table, in_turns) = (engine.experts.pools().table(), shape.mode == Mode::Turns);
        Pass { r, s, kv, choice: engine.choice, table, in_turns, tokens: shape.tokens, most_keys: shape.most_keys }
    }

    /// Layers and tail.
    pub(super) fn record(self, shape: Shape) -> Recording {
        let Shape { tokens, tail, mode, .. } = shape;
        let (engine, s) = (self.engine, self.scratch);
        let recorder = match (&s.moe, mode) {
            (Some(moe), Mode::Ahead) => Recorder::guarded(moe.guard.clone()),
            _ => Recorder::default(),
        };
        let mut pass = self.pass(recorder, shape);
        let h = engine.model.record_layers(&mut pass);
        if tail != Tail::Wait {
            engine.model.ends().record_head(&mut pass, h, tokens - 1, 1);
        }
        let logits = s.logits.words(0, engine.dims.vocab);
        match tail {
            Tail::Wait | Tail::Logits => {}
            Tail::Greedy => argmax(&mut pass.r, &logits, &s.sampled, engine.dims.vocab),
            Tail::Sampled => {
                let (step, draw, candidates, result) = (&s.step, &s.draw, &s.candidates, &s.sampled);
                let slices = SampleSlices { logits: &logits, step, draw, candidates, result };
                sample(&mut pass.r, &slices, engine.dims.vocab, tokens);
            }
        }
        if shape.feeds() {
            // Where the next pass looks for its token.
            pass.r.copy(s.sampled.words(0, 1), s.step.words(1, 1));
        }
        pass.r.finish()
    }
}

/// The shaders of a session's first passes, in the order in which they should be compiled: a chunk of a prompt and a single token with the
/// likeliest choice of the next, then with any other, whose kernel takes longer to compile and is not always needed.
///
/// # Errors
/// There is no room for a session.
pub(crate) async fn first_shaders(engine: &Loaded, all_there: bool) -> Result<Vec<Shader>> {
    let Loaded { gpu, dims, context, .. } = engine;
    let make = || Ok((buffers(engine, engine.first_chunk)?.0, KvCache::new(gpu, dims, *context, engine.kv)?));
    let (scratch, kv) = gpu.in_memory("a session", make).await?;
    let buffers = Buffers { engine, scratch: &scratch, kv: &kv };
    let mut shaders = Vec::new();
    for tail in [Tail::Greedy, Tail::Sampled] {
        for tokens in [engine.first_chunk, 1] {
            let recording = buffers.record(Shape::new((0, *context), tokens, tail, Mode::of(tokens, all_there)));
            shaders.extend(recording.dispatches().map(|dispatch| dispatch.shader.clone()));
        }
    }
    Ok(shaders)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use pollster::block_on;

    use super::*;
    use crate::sampler::{Sampler, SamplingOptions};
    use crate::{Engine, EngineOptions, ExpertBudget, ExpertOptions, Gpu, GpuOptions, Precision, Tuning};

    /// Loading begins to compile, and what it compiles is all that is needed; also where experts may be missing.
    #[test]
    fn the_first_tokens_find_their_pipelines() {
        let sampled = SamplingOptions { temperature: 0.9, seed: Some(1), ..SamplingOptions::default() };
        for (name, percent) in [("llama_tied", 100.0), ("top2", 100.0), ("top2", 50.0)] {
            let gpu = block_on(Gpu::new(&GpuOptions::default())).unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
            let options = EngineOptions {
                precision: Precision::Exact,
                experts: ExpertOptions { budget: ExpertBudget::Percent(percent), ..ExpertOptions::default() },
                prefill_chunk: Some(32),
                tuning: Tuning::Plain,
                ..EngineOptions::default()
            };
            let begin = Instant::now();
            // While weights are read somebody compiles, besides what measures how to stream.
            let mut wait = |_| {
                while gpu.pipeline_work().count < 2 {
                    assert!(begin.elapsed() < Duration::from_secs(60), "nobody compiles");
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            let engine = Engine::load_path(&gpu, &path, &options, &mut wait).unwrap();
            let mut session = engine.session().unwrap();
            let shaders = block_on(first_shaders(session.engine(), percent == 100.0)).unwrap();
            // Those that there was no time for.
            gpu.compile_ahead(&shaders).finish();
            let compiled = gpu.pipeline_work().count;
            for options in [&SamplingOptions::default(), &sampled] {
                session.rewind(0);
                let mut sampler = Sampler::new(options.clone()).unwrap();
                let first = block_on(session.next(&[5; 32], &mut sampler)).unwrap();
                block_on(session.next(&[first], &mut sampler)).unwrap();
            }
            assert_eq!(gpu.pipeline_work().count, compiled, "{name}, {percent} %");
        }
    }
}
