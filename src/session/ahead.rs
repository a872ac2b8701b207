//! A single token while experts may be missing: run ahead, stop at a missing expert, load it, go on from there.

use std::collections::HashSet;
use std::sync::Arc;

use web_time::Instant;

use super::Session;
use super::programs::Programs;
use super::run::Report;
use crate::Result;
use crate::experts::{ABSENT, Course, ExpertId, Why};

impl Session {
    /// Computes one token exactly as if every expert were on the GPU.
    ///
    /// The list is submitted from where it stands up to the end of the window. Where a router finds an expert missing, all
    /// kernels behind the layer's first cut do nothing, so what is in the buffers is what that cut needs; once the expert
    /// is there, the list goes on from the cut.
    pub(super) async fn run_ahead(&mut self, programs: &Programs, token: u32) -> Result<Report> {
        let engine = Arc::clone(&self.engine);
        let (layers, k) = (engine.dims.moe_layers, engine.dims.chosen);
        let mut cache = engine.experts.lock(&engine.gpu).await;
        cache.foresee(token).await?;
        let window = cache.window(programs.work.whole().dispatches());
        let (mut used, mut course) = (Vec::new(), Course { window, stalled: 0, syncs: 0, skipped: 0 });
        let mut arrived: Option<Instant> = None;
        // Routers that have run; the list goes on before the experts of the last of them.
        let mut routed = 0_usize;
        // Whoever was here last may have left in the middle. A write costs as much as some kernels: only where it is needed.
        self.lower_flag();
        loop {
            let to = routed.saturating_add(window);
            // What follows the last router is short enough to be run ahead of it.
            let (fresh, end) = if to >= layers { (routed..layers, None) } else { (routed..to, Some(2 * (to - 1))) };
            let begin = routed.checked_sub(1).map(|layer| 2 * layer);
            self.submit(&[programs.work.between(begin, end), programs.report.whole()])?;
            if let Some(arrived) = arrived.take() {
                cache.resubmitted(arrived);
            }
            let report = self.report(programs).await?;
            course.syncs += 1;
            let mut missing = Vec::new();
            for layer in fresh {
                routed = layer + 1;
                let chosen = report.choices(layer)?;
                cache.remember(layer, &chosen, k);
                missing = chosen.iter().copied().filter(|id| cache.slot(*id).is_none()).collect();
                used.extend(chosen);
                cache.count(layer, k - missing.len(), missing.len());
                // Logits that are no numbers choose one expert k times.
                missing.dedup();
                if !missing.is_empty() {
                    break;
                }
            }
            if missing.is_empty() {
                if end.is_some() {
                    continue;
                }
                cache.token_done(token, course);
                return Ok(report);
            }
            course.stalled += 1;
            course.skipped += programs.work.between(Some(2 * (routed - 1)), end).dispatches();
            let keep: HashSet<ExpertId> = used.iter().copied().collect();
            cache.bring(&missing, &keep, Why::Chosen).await?;
            arrived = Some(Instant::now());
            self.lower_flag();
            let slots: Vec<u32> = report.choices(routed - 1)?.into_iter().map(|id| cache.slot(id).unwrap_or(ABSENT)).collect();
            self.tell_slots(programs, routed - 1, &slots);
        }
    }

    /// Nothing is missing any more, as far as anybody knows.
    fn lower_flag(&self) {
        if let Some(moe) = &self.scratch.moe {
            self.engine.gpu.write_slice(&moe.guard, 0, &[0; 4]);
        }
    }

    /// Writes what the layer's router would have found in the table now.
    fn tell_slots(&self, programs: &Programs, layer: usize, slots: &[u32]) {
        let Some(moe) = &self.scratch.moe else { return };
        let [.., told] = moe.routing(&programs.routing, layer);
        self.engine.gpu.write_slice(&told, 0, bytemuck::cast_slice(slots));
    }
}
