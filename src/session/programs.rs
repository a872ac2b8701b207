//! What a session submits: recorded once for each shape of work, and kept where it comes again.

use std::collections::HashMap;

use super::Session;
use super::recording::{Buffers, Mode, Shape, Tail};
use crate::Result;
use crate::gpu::{Program, Recorder, Slice};
use crate::layers::RoutingLayout;

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
        Shape::new((position, self.kv.context), tokens, tail, mode)
    }

    /// Keeps programs for one token and for full chunks; other lengths rarely come again.
    pub(super) fn keep(&mut self, shape: Shape, programs: Programs) {
        if [1, self.engine.first_chunk, self.chunk].contains(&shape.tokens) {
            self.programs.insert(shape, programs);
        }
    }

    fn record(&self, shape: Shape) -> Result<Programs> {
        let Shape { tokens, tail, .. } = shape;
        let (engine, s) = (&self.engine, &self.scratch);
        let work = engine.gpu.prepare(&self.buffers().record(shape))?;

        let routing = RoutingLayout::new(&engine.dims, tokens);
        // Something has to be read back, or nobody learns when the work is done.
        let result = if tail == Tail::Logits { s.logits.words(0, engine.dims.vocab) } else { s.sampled.words(0, 2) };
        let words = result.size() as usize / 4;
        let report = |staging| {
            let mut r = Recorder::default();
            if let Some(moe) = &s.moe {
                r.copy(moe.routing.words(0, routing.words()), self.staged(staging, 0, routing.words()));
            }
            r.copy(result.clone(), self.staged(staging, routing.words(), words));
            engine.gpu.prepare(&r.finish())
        };
        let aside = (shape.feeds() && tokens == 1).then(|| report(1)).transpose()?;
        Ok(Programs { work, report: report(0)?, aside, routing, result: words })
    }

    /// Logits of `rows` tokens of the last pass, which had `tokens`, from `first` on: [rows, vocab].
    pub(super) async fn head(&mut self, tokens: usize, first: usize, rows: usize) -> Result<Vec<f32>> {
        let words = rows * self.engine.dims.vocab;
        let mut pass = self.buffers().pass(Recorder::default(), self.shape(0, tokens, Tail::Logits, Mode::Resident));
        self.engine.model.ends().record_head(&mut pass, None, first, rows);
        pass.r.copy(self.scratch.logits.words(0, words), self.staged(0, 0, words));
        let program = self.engine.gpu.prepare(&pass.r.finish())?;
        self.submit(&[program.whole()])?;
        Ok(self.read(0, words, None).await?.into_iter().map(f32::from_bits).collect())
    }

    fn buffers(&self) -> Buffers<'_> {
        Buffers { engine: &self.engine, scratch: &self.scratch, kv: &self.kv }
    }

    fn staged(&self, staging: usize, first: usize, words: usize) -> Slice {
        self.staging[staging].whole().words(first, words)
    }
}
