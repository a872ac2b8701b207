//! What a session submits: recorded once for each shape of work, and kept where it comes again.

use std::collections::HashMap;

use super::Session;
use crate::Result;
use crate::gpu::{Program, Recorder, Slice};
use crate::kernels::{SampleSlices, argmax, most_keys, sample};
use crate::layers::{Pass, RoutingLayout};

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

/// What a pass is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    tokens: usize,
    tail: Tail,
    mode: Mode,
    /// Of one token, see [`most_keys`].
    most_keys: usize,
}

/// A recorded pass.
pub(super) struct Programs {
    /// Layers and tail.
    pub(super) work: Program,
    /// Copies of the routing and of the result, for reading back.
    pub(super) report: Program,
    /// The same into the second staging buffer, of one token whose next is chosen on the GPU.
    pub(super) aside: Option<Program>,
    pub(super) routing: RoutingLayout,
    /// Words of the result.
    pub(super) result: usize,
}

/// Programs that are kept.
pub(super) type ProgramCache = HashMap<Shape, Programs>;

impl Session {
    /// The programs of a pass, to be handed back to [`Session::keep`].
    pub(super) fn programs(&mut self, shape: Shape) -> Result<Programs> {
        match self.programs.remove(&shape) {
            Some(kept) => Ok(kept),
            None => self.record(shape),
        }
    }

    /// What a pass of `tokens` tokens from `position` on is recorded for.
    pub(super) fn shape(&self, position: usize, tokens: usize, tail: Tail, mode: Mode) -> Shape {
        let context = self.kv.context;
        Shape { tokens, tail, mode, most_keys: if tokens == 1 { most_keys(position, context) } else { context } }
    }

    /// Keeps programs for one token and for full chunks; other lengths rarely come again.
    pub(super) fn keep(&mut self, shape: Shape, programs: Programs) {
        if [1, self.engine.first_chunk, self.chunk].contains(&shape.tokens) {
            self.programs.insert(shape, programs);
        }
    }

    fn record(&self, shape: Shape) -> Result<Programs> {
        let Shape { tokens, tail, mode, .. } = shape;
        let (engine, s) = (&self.engine, &self.scratch);
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
        let feeds = tail.chooses() && mode == Mode::Resident;
        if feeds {
            // Where the next pass looks for its token.
            pass.r.copy(s.sampled.words(0, 1), s.step.words(1, 1));
        }
        let work = engine.gpu.prepare(&pass.r.finish())?;

        let routing = RoutingLayout::new(&engine.dims, tokens);
        // Something has to be read back, or nobody learns when the work is done.
        let result = if tail == Tail::Logits { logits } else { s.sampled.words(0, 2) };
        let words = result.size() as usize / 4;
        let report = |staging| {
            let mut r = Recorder::default();
            if let Some(moe) = &s.moe {
                r.copy(moe.routing.words(0, routing.words()), self.staged(staging, 0, routing.words()));
            }
            r.copy(result.clone(), self.staged(staging, routing.words(), words));
            engine.gpu.prepare(&r.finish())
        };
        let aside = (feeds && tokens == 1).then(|| report(1)).transpose()?;
        Ok(Programs { work, report: report(0)?, aside, routing, result: words })
    }

    /// Logits of `rows` tokens of the last pass, which had `tokens`, from `first` on: [rows, vocab].
    pub(super) async fn head(&mut self, tokens: usize, first: usize, rows: usize) -> Result<Vec<f32>> {
        let words = rows * self.engine.dims.vocab;
        let mut pass = self.pass(Recorder::default(), self.shape(0, tokens, Tail::Logits, Mode::Resident));
        self.engine.model.ends().record_head(&mut pass, None, first, rows);
        pass.r.copy(self.scratch.logits.words(0, words), self.staged(0, 0, words));
        let program = self.engine.gpu.prepare(&pass.r.finish())?;
        self.submit(&[program.whole()])?;
        Ok(self.read(0, words, None).await?.into_iter().map(f32::from_bits).collect())
    }

    fn pass(&self, r: Recorder, Shape { tokens, mode, most_keys, .. }: Shape) -> Pass<'_> {
        let engine = &self.engine;
        let table = engine.experts.pools().table();
        Pass { r, s: &self.scratch, kv: &self.kv, choice: engine.choice, table, in_turns: mode == Mode::Turns, tokens, most_keys }
    }

    fn staged(&self, staging: usize, first: usize, words: usize) -> Slice {
        self.staging[staging].whole().words(first, words)
    }
}
