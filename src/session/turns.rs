//! Several tokens while experts may be missing: layer by layer, the experts that are there first, the others in turns.

use std::collections::HashSet;
use std::sync::Arc;

use super::Session;
use super::programs::Programs;
use super::run::Report;
use crate::Result;
use crate::experts::{ABSENT, ExpertId, Why};

/// Bytes of uploads that may wait in the driver's memory for the GPU to come to them.
const WAITING_BYTES: u64 = 64 << 20;

impl Session {
    /// Computes tokens exactly as if every expert were on the GPU: an output of an expert is written to its own
    /// place, so the order in which experts come changes nothing.
    pub(super) async fn run_in_turns(&mut self, programs: &Programs, tokens: &[u32]) -> Result<Report> {
        let engine = Arc::clone(&self.engine);
        let mut cache = engine.experts.lock(&engine.gpu).await;
        let mut begin = None;
        for layer in 0..engine.dims.moe_layers {
            self.submit(&[programs.work.between(begin, Some(2 * layer)), programs.report.whole()])?;
            let mut wanted = self.report(programs).await?.choices(layer)?;
            let mut waiting = 0;
            cache.remember(layer, &wanted, engine.dims.chosen);
            wanted.sort_unstable();
            wanted.dedup();
            let (here, missing): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|id| cache.slot(*id).is_some());
            cache.count_prompt(here.len() + missing.len(), missing.len());

            let experts = programs.work.between(Some(2 * layer), Some(2 * layer + 1));
            if !here.is_empty() {
                self.announce(here.iter().map(|id| (*id, cache.slot(*id))));
                self.submit(&[experts])?;
            }
            for turn in missing.chunks(cache.turn(layer)) {
                waiting += cache.bring(turn, &HashSet::new(), Why::Prompt).await?;
                self.announce(turn.iter().map(|id| (*id, cache.slot(*id))));
                self.submit(&[experts, programs.report.whole()])?;
                // The next turn is read meanwhile, unless too much is waiting.
                if waiting > WAITING_BYTES {
                    self.report(programs).await?;
                    waiting = 0;
                }
            }
            begin = Some(2 * layer + 1);
        }
        self.submit(&[programs.work.between(begin, None), programs.report.whole()])?;
        let report = self.report(programs).await?;
        cache.prompt_done(tokens);
        Ok(report)
    }

    /// Says whose turn it is.
    fn announce(&self, turn: impl Iterator<Item = (ExpertId, Option<u32>)>) {
        let Some(moe) = &self.scratch.moe else { return };
        let mut table = vec![ABSENT; self.engine.dims.experts];
        for (id, slot) in turn {
            table[id.expert] = slot.unwrap_or(ABSENT);
        }
        self.engine.gpu.write_slice(&moe.turn, 0, bytemuck::cast_slice(&table));
    }
}
