//! What a session submits: recorded once for each shape of work, and kept where it comes again.

use std::collections::HashMap;

use super::Session;
use crate::Result;
use crate::gpu::{Program, Recorder, Slice};
use crate::kernels::argmax;
use crate::layers::{Pass, RoutingLayout};

/// What follows the layers in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tail {
    /// Nothing is wanted but the cache's new entries and the routing.
    Wait,
    /// The likeliest next token: its id and the bits of its logit.
    Greedy,
    /// The last token's logits.
    Logits,
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

/// Tokens, what is wanted, and how.
pub(super) type Shape = (usize, Tail, Mode);

/// A recorded pass.
pub(super) struct Programs {
    /// Layers and tail.
    pub(super) work: Program,
    /// Copies of the routing and of the result, for reading back.
    pub(super) report: Program,
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

    /// Keeps programs for one token and for a full chunk; other lengths rarely come again.
    pub(super) fn keep(&mut self, shape: Shape, programs: Programs) {
        if shape.0 == 1 || shape.0 == self.engine.prefill_chunk {
            self.programs.insert(shape, programs);
        }
    }

    fn record(&self, (tokens, tail, mode): Shape) -> Result<Programs> {
        let (engine, s) = (&self.engine, &self.scratch);
        let recorder = match (&s.moe, mode) {
            (Some(moe), Mode::Ahead) => Recorder::guarded(moe.guard.clone()),
            _ => Recorder::default(),
        };
        let mut pass = self.pass(recorder, tokens, mode);
        let h = engine.model.record_layers(&mut pass);
        if tail != Tail::Wait {
            engine.model.ends().record_head(&mut pass, h, tokens - 1, 1);
        }
        if tail == Tail::Greedy {
            argmax(&mut pass.r, &s.logits, &s.sampled, engine.dims.vocab);
        }
        let work = engine.gpu.prepare(&pass.r.finish())?;

        let routing = RoutingLayout::new(&engine.dims, tokens);
        // Something has to be read back, or nobody learns when the work is done.
        let result = if tail == Tail::Logits { s.logits.words(0, engine.dims.vocab) } else { s.sampled.words(0, 2) };
        let mut report = Recorder::default();
        if let Some(moe) = &s.moe {
            report.copy(moe.routing.words(0, routing.words()), self.staged(0, routing.words()));
        }
        let words = result.size() as usize / 4;
        report.copy(result, self.staged(routing.words(), words));
        Ok(Programs { work, report: engine.gpu.prepare(&report.finish())?, routing, result: words })
    }

    /// Logits of `rows` tokens of the last pass, which had `tokens`, from `first` on: [rows, vocab].
    pub(super) async fn head(&mut self, tokens: usize, first: usize, rows: usize) -> Result<Vec<f32>> {
        let words = rows * self.engine.dims.vocab;
        let mut pass = self.pass(Recorder::default(), tokens, Mode::Resident);
        self.engine.model.ends().record_head(&mut pass, None, first, rows);
        pass.r.copy(self.scratch.logits.words(0, words), self.staged(0, words));
        let program = self.engine.gpu.prepare(&pass.r.finish())?;
        self.submit(&[program.whole()])?;
        Ok(self.read(words).await?.into_iter().map(f32::from_bits).collect())
    }

    fn pass(&self, r: Recorder, tokens: usize, mode: Mode) -> Pass<'_> {
        let engine = &self.engine;
        let table = engine.experts.pools().table();
        Pass { r, s: &self.scratch, kv: &self.kv, choice: engine.choice, table, in_turns: mode == Mode::Turns, tokens }
    }

    fn staged(&self, first: usize, words: usize) -> Slice {
        self.staging.whole().words(first, words)
    }
}
