//! Running a chunk of tokens: one submission where every expert is on the GPU.

use std::sync::Arc;

use super::programs::{Mode, Programs, Tail};
use super::{Counters, Session};
use crate::experts::{Course, ExpertId};
use crate::gpu::Stretch;
use crate::layers::RoutingLayout;
use crate::{Error, Result};

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
        let mode = match tokens {
            _ if self.engine.experts.complete() => Mode::Resident,
            [_] => Mode::Ahead,
            _ => Mode::Turns,
        };
        let shape = (tokens.len(), tail, mode);
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
        if self.unread {
            // A read that nobody waited for: wgpu would map the buffer for it as soon as that work is done, not the next.
            self.read(1).await?;
        }
        let mut step = vec![self.tokens.len() as u32];
        step.extend_from_slice(tokens);
        self.engine.gpu.write(self.scratch.step.buffer(), 0, bytemuck::cast_slice(&step));
        Ok(())
    }

    async fn run_resident(&mut self, programs: &Programs, tokens: &[u32]) -> Result<Report> {
        self.submit(&[programs.work.whole(), programs.report.whole()])?;
        let report = self.report(programs).await?;
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
        let Counters { dispatches, submits, weight_bytes, .. } = &mut self.counters;
        *submits += 1;
        *dispatches += stretches.iter().map(|stretch| stretch.dispatches() as u64).sum::<u64>();
        *weight_bytes += stretches.iter().map(|stretch| stretch.weight_bytes()).sum::<u64>();
        Ok(())
    }

    /// Waits for what the report's copies brought.
    pub(super) async fn report(&mut self, programs: &Programs) -> Result<Report> {
        let words = self.read(programs.routing.words() + programs.result).await?;
        Ok(Report { words, routing: programs.routing, experts: self.engine.dims.experts })
    }

    pub(super) async fn read(&mut self, words: usize) -> Result<Vec<u32>> {
        self.counters.readbacks += 1;
        self.unread = true;
        let bytes = self.engine.gpu.read(&self.staging, 4 * words as u64).await;
        self.unread = false;
        Ok(bytemuck::pod_collect_to_vec(&bytes?))
    }
}
