//! Running a chunk of tokens: one submission where every expert is on the GPU.

use std::sync::Arc;

use web_time::Instant;

use super::programs::Programs;
use super::recording::{Mode, Tail};
use super::{Counters, Session};
use crate::experts::{Course, ExpertId};
use crate::gpu::{Stretch, Submission};
use crate::layers::RoutingLayout;
use crate::{Error, Result};

/// Where the kernels' search for the highest logit begins.
const LOWEST: f32 = -3.4e38;

/// A pass that was submitted and has not been read yet.
pub(super) struct Submitted {
    submission: Submission,
    begun: Instant,
    /// Which buffer its report is copied to.
    pub(super) staging: usize,
    routing: RoutingLayout,
    result: usize,
    work: Counters,
}

/// What came back from a pass.
pub(super) struct Report {
    words: Vec<u32>,
    routing: RoutingLayout,
    /// Experts in a layer.
    experts: usize,
}

impl Report {
    /// [tokens, k] experts that a MoE layer chose.
    pub(super) fn ids(&self, layer: usize) -> &[u32] {
        let [ids, ..] = self.routing.ranges(layer);
        self.words.get(ids).unwrap_or_default()
    }

    /// [tokens, k] weights of the chosen experts.
    pub(super) fn weights(&self, layer: usize) -> impl Iterator<Item = f32> {
        let [_, weights, _] = self.routing.ranges(layer);
        self.words.get(weights).unwrap_or_default().iter().map(|&word| f32::from_bits(word))
    }

    /// What the program's tail computed.
    pub(super) fn result(&self) -> &[u32] {
        self.words.get(self.routing.words()..).unwrap_or_default()
    }

    /// The next token, of a tail that chooses it.
    ///
    /// # Errors
    /// The highest logit is no number that a model gives.
    pub(super) fn choice(&self) -> Result<u32> {
        match self.result() {
            [id, logit] if f32::from_bits(*logit).is_finite() && f32::from_bits(*logit) > LOWEST => Ok(*id),
            _ => Err(Error::Gpu("the logits are not finite numbers; the model file may be damaged".into())),
        }
    }

    /// The same experts with their layer, of a layer that the pass has come to.
    ///
    /// # Errors
    /// An id that is none: the shader limits them, but what a driver makes of it must not be trusted with an index.
    pub(super) fn choices(&self, layer: usize) -> Result<Vec<ExpertId>> {
        let checked = |&id: &u32| match id as usize {
            expert if expert < self.experts => Ok(ExpertId { layer, expert }),
            _ => Err(Error::Gpu(format!("the GPU chose expert {id} of {}; its driver may be at fault", self.experts))),
        };
        self.ids(layer).iter().map(checked).collect()
    }
}

impl Session {
    /// Computes tokens that [`Session::check`] has accepted and appends them to the timeline.
    ///
    /// Dropped while it waits, or after an error, the timeline is as it was.
    pub(super) async fn run(&mut self, tokens: &[u32], tail: Tail) -> Result<Report> {
        self.begin(tokens).await?;
        let mode = Mode::of(tokens.len(), self.engine.experts.complete());
        let shape = self.shape(self.tokens.len(), tokens.len(), tail, mode);
        let programs = self.programs(shape)?;
        let report = match mode {
            Mode::Resident => self.run_resident(&programs, tokens).await,
            Mode::Ahead => self.run_ahead(&programs, tokens[0]).await,
            Mode::Turns => self.run_in_turns(&programs, tokens).await,
        };
        self.keep(shape, programs);
        let report = report?;
        self.tokens.extend_from_slice(tokens);
        Ok(report)
    }

    /// Tells the kernels which tokens come, and where in the timeline.
    pub(super) async fn begin(&mut self, tokens: &[u32]) -> Result<()> {
        for staging in [0, 1] {
            if self.unread[staging] {
                // A read that nobody waited for: wgpu would map the buffer for it as soon as that work is done, not the next.
                self.read(staging, 1, None).await?;
            }
        }
        let mut step = vec![self.tokens.len() as u32];
        step.extend_from_slice(tokens);
        self.engine.gpu.write(self.scratch.step.buffer(), 0, bytemuck::cast_slice(&step));
        Ok(())
    }

    async fn run_resident(&mut self, programs: &Programs, tokens: &[u32]) -> Result<Report> {
        let submitted = self.submit_resident(programs, tokens.len(), 0)?;
        self.finish(submitted, tokens).await
    }

    /// Submits a pass of tokens that [`Session::begin`] has told, or whose only one the pass before has chosen. Its work counts once
    /// somebody waits for it.
    pub(super) fn submit_resident(&self, programs: &Programs, tokens: usize, staging: usize) -> Result<Submitted> {
        let begun = Instant::now();
        let report = programs.aside.as_ref().filter(|_| staging == 1).unwrap_or(&programs.report);
        let mut work = Counters::default();
        let mut pieces = self.pace.pieces(programs.work.whole(), tokens, self.engine.dims.layers);
        let last = pieces.pop().into_iter().chain([report.whole()]).collect::<Vec<_>>();
        for piece in pieces {
            self.engine.gpu.run(&[piece])?;
            work.count(&[piece]);
        }
        let submission = self.engine.gpu.run(&last)?;
        work.count(&last);
        Ok(Submitted { submission, begun, staging, routing: programs.routing, result: programs.result, work })
    }

    /// Waits for a pass and remembers which experts it chose. The timeline is as it was.
    pub(super) async fn finish(&mut self, submitted: Submitted, tokens: &[u32]) -> Result<Report> {
        let Submitted { submission, begun, staging, routing, result, work } = submitted;
        self.counters = self.counters + work;
        let words = self.read(staging, routing.words() + result, Some(submission)).await?;
        if tokens.len() > 1 {
            self.pace.took(tokens.len(), begun.elapsed());
        }
        let report = Report { words, routing, experts: self.engine.dims.experts };
        let engine = Arc::clone(&self.engine);
        if engine.dims.moe_layers > 0 {
            let mut cache = engine.experts.lock(&engine.gpu).await;
            for layer in 0..engine.dims.moe_layers {
                cache.remember(layer, &report.choices(layer)?, engine.dims.chosen);
                if tokens.len() == 1 {
                    cache.count(layer, engine.dims.chosen, 0);
                }
            }
            match tokens {
                [token] => cache.token_done(*token, Course { window: usize::MAX, stalled: 0, syncs: 1, skipped: 0 }),
                _ => cache.prompt_done(tokens),
            }
        }
        Ok(report)
    }

    pub(super) fn submit(&mut self, stretches: &[Stretch<'_>]) -> Result<()> {
        self.engine.gpu.run(stretches)?;
        self.counters.count(stretches);
        Ok(())
    }

    /// Waits for what the report's copies brought.
    pub(super) async fn report(&mut self, programs: &Programs) -> Result<Report> {
        let words = self.read(0, programs.routing.words() + programs.result, None).await?;
        Ok(Report { words, routing: programs.routing, experts: self.engine.dims.experts })
    }

    /// The first words of a staging buffer, once this submission is done, or all that there are.
    pub(super) async fn read(&mut self, staging: usize, words: usize, of: Option<Submission>) -> Result<Vec<u32>> {
        self.counters.readbacks += 1;
        self.unread[staging] = true;
        let (gpu, buffer, size) = (&self.engine.gpu, &self.staging[staging], 4 * words as u64);
        let bytes = match of {
            Some(submission) => gpu.read_of(submission, buffer, size).await,
            None => gpu.read(buffer, size).await,
        };
        self.unread[staging] = false;
        Ok(bytemuck::pod_collect_to_vec(&bytes?))
    }
}

impl Counters {
    /// One submission of these.
    fn count(&mut self, stretches: &[Stretch<'_>]) {
        self.submits += 1;
        self.dispatches += stretches.iter().map(|stretch| stretch.dispatches() as u64).sum::<u64>();
        self.weight_bytes += stretches.iter().map(|stretch| stretch.weight_bytes()).sum::<u64>();
    }
}
