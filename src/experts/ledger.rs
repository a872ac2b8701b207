//! What is known of an engine's experts at any moment: who is on the GPU, what tokens chose, what it cost, what is being read.
//! Pure, and never held by anybody who waits, so that whoever asks is answered in the middle of a token too.

use std::collections::HashSet;

use super::cache::{SyncCosts, Why};
use super::residency::{Placed, Residency};
use super::slots::ExpertId;
use super::stats::{ExpertStats, Fetching, LayerStats, StallTime};
use super::trace::{Trace, TraceLayer};
use super::usage::Usage;
use crate::Result;

/// The books of an engine's experts.
pub(super) struct Ledger {
    layers: Vec<TraceLayer>,
    residency: Residency<Usage>,
    stats: ExpertStats,
    /// What tokens chose, while somebody wants it recorded.
    trace: Option<Trace>,
    fetching: Option<Fetching>,
}

/// How a single token came through the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// MoE layers that were submitted together.
    pub(crate) window: usize,
    /// MoE layers that had to wait for an expert.
    pub(crate) stalled: usize,
    /// Waits for the GPU's answer.
    pub(crate) syncs: usize,
    /// Kernel calls that did nothing, because an expert was missing.
    pub(crate) skipped: usize,
}

/// What a token is expected to choose.
pub(super) struct Expected {
    /// Of these, experts that are not on the GPU.
    pub(super) absent: Vec<ExpertId>,
    pub(super) all: HashSet<ExpertId>,
}

impl Ledger {
    /// Nothing has happened yet; the slots of `residency` take `bytes`.
    pub(super) fn new(layers: Vec<TraceLayer>, residency: Residency<Usage>, slots: usize, bytes: u64) -> Self {
        let of_layer =
            |layer: &TraceLayer| LayerStats { layer: layer.layer, chosen: vec![0; layer.experts], ..LayerStats::default() };
        let stats = ExpertStats {
            slots,
            experts: layers.iter().map(|layer| layer.experts).sum(),
            budget_bytes: bytes,
            layers: layers.iter().map(of_layer).collect(),
            ..ExpertStats::default()
        };
        Self { layers, residency, stats, trace: None, fetching: None }
    }

    /// Figures so far.
    pub(super) fn stats(&self) -> ExpertStats {
        self.stats.derived()
    }

    /// For each MoE layer and expert, whether it is on the GPU.
    pub(super) fn resident(&self) -> Vec<Vec<bool>> {
        let there = |layer, expert| self.residency.slot(ExpertId { layer, expert }).is_some();
        let of_layer = |(l, layer): (usize, &TraceLayer)| (0..layer.experts).map(|expert| there(l, expert)).collect();
        self.layers.iter().enumerate().map(of_layer).collect()
    }

    /// What is being read.
    pub(super) fn fetching(&self) -> Option<Fetching> {
        self.fetching
    }

    /// Begins to record what tokens choose.
    ///
    /// # Errors
    /// There are no experts.
    pub(super) fn start_trace(&mut self, model: &str, k: usize) -> Result<()> {
        self.trace = Some(Trace::new(model, k, self.layers.clone())?);
        Ok(())
    }

    /// Ends recording.
    pub(super) fn take_trace(&mut self) -> Option<Trace> {
        self.trace.take()
    }

    /// Where an expert is, if it is on the GPU.
    pub(super) fn slot(&self, id: ExpertId) -> Option<u32> {
        self.residency.slot(id)
    }

    /// Whether every expert is on the GPU.
    pub(super) fn complete(&self) -> bool {
        self.residency.complete()
    }

    /// Stalled layers for each token, lately.
    pub(super) fn stalls(&self) -> f64 {
        self.residency.stalls()
    }

    /// Experts of a layer that come in one turn of a prompt.
    pub(super) fn turn(&self, layer: usize) -> usize {
        self.residency.turn(layer, self.layers[layer].bytes)
    }

    /// What a layer chose for some tokens, `k` experts each: on this eviction decides.
    pub(super) fn chose(&mut self, layer: usize, chosen: &[ExpertId], k: usize) {
        let useful = self.residency.chose(layer, chosen, k);
        self.stats.speculative_useful_bytes += useful as u64 * self.layers[layer].bytes;
        for id in chosen {
            self.stats.layers[layer].chosen[id.expert] += 1;
        }
    }

    /// How many of a layer's chosen experts were on the GPU when a single token came to it.
    pub(super) fn count(&mut self, layer: usize, hits: usize, misses: usize) {
        let stats = &mut self.stats;
        stats.hits += hits as u64;
        stats.misses += misses as u64;
        stats.layers[layer].hits += hits as u64;
        stats.layers[layer].misses += misses as u64;
    }

    /// How many experts a layer used for some tokens of a prompt, and how many of them have to be loaded.
    pub(super) fn count_prompt(&mut self, used: usize, loads: usize) {
        self.stats.prefill.experts += used as u64;
        self.stats.prefill.loads += loads as u64;
    }

    /// A single token is through all layers.
    pub(super) fn token_done(&mut self, token: u32, course: Course, costs: SyncCosts) {
        let chosen = self.residency.token_done(token, course.stalled);
        let stats = &mut self.stats;
        stats.tokens += 1;
        stats.stalled_layers += course.stalled as u64;
        stats.syncs += course.syncs as u64;
        let unstalled = self.layers.len().div_ceil(course.window.max(1));
        let waits = course.syncs.saturating_sub(unstalled) as f64;
        stats.stall_ms.round_trip += 1e3 * (waits * costs.sync + course.skipped as f64 * costs.skip);
        if let Some(trace) = &mut self.trace {
            trace.extend(&[token], &[chosen], false);
        }
    }

    /// Tokens of a prompt are through all layers.
    pub(super) fn prompt_done(&mut self, tokens: &[u32]) {
        let chosen = self.residency.prompt_done(tokens);
        self.stats.prefill.tokens += tokens.len() as u64;
        if let Some(trace) = &mut self.trace {
            trace.extend(tokens, &chosen, true);
        }
    }

    /// What a token is going to choose for all that is known; `None` if loading ahead does not pay.
    pub(super) fn foresee(&mut self, token: u32) -> Option<Expected> {
        let expected = self.residency.foresee(token);
        self.stats.prefetching = expected.is_some();
        let all = expected?;
        let absent = all.iter().copied().filter(|id| self.slot(*id).is_none()).collect();
        Some(Expected { absent, all: all.into_iter().collect() })
    }

    /// As [`Residency::place`].
    pub(super) fn place(&mut self, id: ExpertId, wanted: &[ExpertId], keep: &HashSet<ExpertId>, why: Why) -> Option<Placed> {
        let placed = self.residency.place(id, wanted, keep, why)?;
        if let Some(evicted) = placed.evicted.filter(|_| placed.wasted) {
            self.stats.speculative_wasted_bytes += self.layers[evicted.layer].bytes;
        }
        Some(placed)
    }

    /// Experts are being read, until [`Ledger::end_fetch`].
    pub(super) fn begin_fetch(&mut self, ids: impl Iterator<Item = ExpertId>) {
        let mut fetching = Fetching::default();
        for id in ids {
            let TraceLayer { layer, bytes, .. } = self.layers[id.layer];
            fetching.layer = Some(layer).filter(|_| fetching.experts == 0 || fetching.layer == Some(layer));
            fetching.experts += 1;
            fetching.bytes += bytes;
        }
        self.fetching = Some(fetching).filter(|fetching| fetching.experts > 0);
    }

    /// A part of what is being read has arrived, after so many milliseconds of reading and of copying to the GPU.
    pub(super) fn fetched(&mut self, bytes: u64, why: Why, read: f64, upload: f64) {
        if let Some(fetching) = &mut self.fetching {
            fetching.done_bytes += bytes;
        }
        match why {
            Why::Chosen => self.stats.demand_bytes += bytes,
            Why::Prompt => self.stats.prefill.bytes += bytes,
            Why::Ahead | Why::Start => {}
        }
        if matches!(why, Why::Chosen | Why::Ahead) {
            let StallTime { read: all_read, upload: all_upload, .. } = &mut self.stats.stall_ms;
            *all_read += read;
            *all_upload += upload;
        }
    }

    /// Nobody waits for what was being read any more.
    pub(super) fn end_fetch(&mut self) {
        self.fetching = None;
    }

    /// An expert is whole in the slot that was taken for it.
    pub(super) fn arrived(&mut self, id: ExpertId, slot: u32, why: Why) {
        self.residency.arrived(id, slot, why);
    }

    /// Submitting the layers again from a missing expert on took so many milliseconds.
    pub(super) fn resubmitted(&mut self, milliseconds: f64) {
        self.stats.stall_ms.resubmit += milliseconds;
    }

    /// Slots that were taken for what never arrived are free again.
    pub(super) fn reclaim(&mut self) {
        self.residency.reclaim();
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::ExpertPlan;
    use super::super::slots::Slots;
    use super::super::{EvictionPolicy, ExpertBudget};
    use super::*;

    const BYTES: u64 = 1000;

    /// Layers 1 and 3 of a model, with three and four experts, and four slots.
    fn ledger() -> Ledger {
        let layers = [(1, 3), (3, 4)].map(|(layer, experts)| TraceLayer { layer, experts, bytes: BYTES }).to_vec();
        let shapes: Vec<_> = layers.iter().map(|layer| (layer, layer.experts)).collect();
        let plan = ExpertPlan::from_shapes(&shapes, 1, u64::MAX, ExpertBudget::Percent(1.0)).unwrap();
        let usage = Usage::new(EvictionPolicy::Score, 2, 4);
        let residency = Residency::new(Slots::new(&plan, 4), usage, 2, true);
        Ledger::new(layers, residency, plan.slots(), plan.bytes())
    }

    fn id(layer: usize, expert: usize) -> ExpertId {
        ExpertId { layer, expert }
    }

    fn bring(ledger: &mut Ledger, id: ExpertId) {
        let placed = ledger.place(id, &[id], &HashSet::new(), Why::Chosen).unwrap();
        ledger.arrived(id, placed.slot, Why::Chosen);
    }

    #[test]
    fn who_is_resident_follows_arrivals_and_evictions() {
        let mut ledger = ledger();
        assert_eq!(ledger.resident(), [vec![false; 3], vec![false; 4]]);
        bring(&mut ledger, id(0, 2));
        bring(&mut ledger, id(1, 0));
        assert_eq!(ledger.resident(), [vec![false, false, true], vec![true, false, false, false]]);
        bring(&mut ledger, id(0, 0));
        bring(&mut ledger, id(0, 1));
        let resident = ledger.resident();
        assert!(resident[0][1] && resident.concat().iter().filter(|there| **there).count() <= 4, "{resident:?}");
    }

    #[test]
    fn what_is_fetched_names_its_layer_if_it_is_one() {
        let mut ledger = ledger();
        ledger.begin_fetch([id(1, 0), id(1, 2)].into_iter());
        ledger.fetched(700, Why::Chosen, 2.0, 1.0);
        assert_eq!(ledger.fetching(), Some(Fetching { layer: Some(3), experts: 2, bytes: 2 * BYTES, done_bytes: 700 }));
        ledger.end_fetch();
        assert_eq!(ledger.fetching(), None);
        for several in [[id(0, 0), id(1, 0), id(0, 1)], [id(1, 1), id(1, 0), id(0, 0)]] {
            ledger.begin_fetch(several.into_iter());
            assert_eq!(ledger.fetching().map(|fetching| (fetching.layer, fetching.experts)), Some((None, 3)));
        }
        ledger.begin_fetch([].into_iter());
        assert_eq!(ledger.fetching(), None);
        let stats = ledger.stats();
        assert_eq!((stats.demand_bytes, stats.stall_ms.read, stats.stall_ms.upload), (700, 2.0, 1.0));
    }

    #[test]
    fn only_waits_beyond_those_of_an_unstalled_token_are_stalls() {
        let costs = SyncCosts { sync: 1e-3, skip: 1e-4 };
        for (window, syncs, skipped, expected) in
            [(usize::MAX, 1, 0, 0.0), (usize::MAX, 3, 10, 3.0), (1, 2, 0, 0.0), (1, 3, 5, 1.5), (2, 2, 4, 1.4)]
        {
            let mut ledger = ledger();
            ledger.token_done(5, Course { window, stalled: 2, syncs, skipped }, costs);
            let stats = ledger.stats();
            assert!((stats.stall_ms.round_trip - expected).abs() < 1e-9, "{window} {syncs}: {stats:?}");
            assert_eq!((stats.syncs, stats.stalled_layers, stats.tokens), (syncs as u64, 2, 1));
        }
    }
}
