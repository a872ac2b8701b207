//! What streaming would have cost on a recorded trace: the decisions of an engine without its GPU.

use std::collections::HashSet;
use std::iter::Sum;

use serde::Serialize;

use super::cache::Why;
use super::plan::{ExpertPlan, Footprint};
use super::residency::{Residency, Worth};
use super::slots::{ExpertId, Slots};
use super::trace::{Trace, TraceLayer, TraceToken};
use super::usage::Usage;
use super::{EvictionPolicy, ExpertBudget};
use crate::Result;

/// Who decides in a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPolicy {
    /// The least recently used expert leaves.
    Lru,
    /// The expert with the lowest score leaves; nothing is loaded ahead.
    Score,
    /// As an engine does by default: by score, and likely experts are loaded ahead.
    ScoreAhead,
    /// The expert leaves that the trace needs latest. Who does not know the future cannot do better without loading ahead.
    Belady,
}

/// What a replay counted. As in [`ExpertStats`](super::ExpertStats), all but `prompt_loads` is of tokens computed one at a
/// time, and a hit is a chosen expert that was on the GPU when its layer began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReplayResult {
    /// Experts that had a place on the GPU.
    pub slots: usize,
    /// Routed experts of the model.
    pub experts: usize,
    /// Tokens.
    pub tokens: u64,
    /// Chosen experts that were there.
    pub hits: u64,
    /// Chosen experts that were not.
    pub misses: u64,
    /// Layers that had to wait for an expert.
    pub stalled_layers: u64,
    /// Experts loaded ahead that were used before they were evicted.
    pub ahead_useful: u64,
    /// Experts loaded ahead and evicted without having been used.
    pub ahead_wasted: u64,
    /// Experts loaded ahead; what is neither useful nor wasted was waiting when the trace ended.
    pub ahead_loads: u64,
    /// Experts loaded for prompts.
    pub prompt_loads: u64,
}

impl ReplayResult {
    /// hits / (hits + misses); 1 where nothing was chosen.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let all = self.hits + self.misses;
        if all == 0 { 1.0 } else { self.hits as f64 / all as f64 }
    }

    /// Stalled layers for each token.
    #[must_use]
    pub fn stalled_layers_per_token(&self) -> f64 {
        self.stalled_layers as f64 / self.tokens.max(1) as f64
    }

    /// Experts loaded for each token, on demand and ahead.
    #[must_use]
    pub fn loads_per_token(&self) -> f64 {
        (self.misses + self.ahead_loads) as f64 / self.tokens.max(1) as f64
    }

    /// Which share of the distance from `lru` to `belady` the hit rate has come; `None` where there is no distance.
    #[must_use]
    pub fn gap_closed(&self, lru: &Self, belady: &Self) -> Option<f64> {
        let gap = belady.hit_rate() - lru.hit_rate();
        (gap > 0.0).then(|| (self.hit_rate() - lru.hit_rate()) / gap)
    }
}

impl Sum for ReplayResult {
    /// The counts of several traces together, of whose models the largest counts.
    fn sum<I: Iterator<Item = Self>>(results: I) -> Self {
        results.fold(Self::default(), |all, one| Self {
            slots: all.slots.max(one.slots),
            experts: all.experts.max(one.experts),
            tokens: all.tokens + one.tokens,
            hits: all.hits + one.hits,
            misses: all.misses + one.misses,
            stalled_layers: all.stalled_layers + one.stalled_layers,
            ahead_useful: all.ahead_useful + one.ahead_useful,
            ahead_wasted: all.ahead_wasted + one.ahead_wasted,
            ahead_loads: all.ahead_loads + one.ahead_loads,
            prompt_loads: all.prompt_loads + one.prompt_loads,
        })
    }
}

/// Replays a trace as an engine with this budget would stream it. Experts of equal size share their places, as on a device
/// that binds buffers of any size; the order in which layers run and prompts pass through is the engine's.
///
/// # Errors
/// Fewer bytes than the least that works.
pub fn replay(trace: &Trace, budget: ExpertBudget, policy: ReplayPolicy) -> Result<ReplayResult> {
    let sizes: Vec<_> = trace.layers().iter().map(|layer| (layer, layer.experts)).collect();
    let plan = ExpertPlan::from_shapes(&sizes, trace.k(), u64::MAX, budget)?;
    let (layers, experts) = (sizes.len(), sizes.iter().map(|(_, experts)| *experts).max().unwrap_or(0));
    let by = |policy| Usage::new(policy, layers, experts);
    Ok(match policy {
        ReplayPolicy::Lru => Replay::new(trace, &plan, experts, by(EvictionPolicy::Lru), false).run(),
        ReplayPolicy::Score => Replay::new(trace, &plan, experts, by(EvictionPolicy::Score), false).run(),
        ReplayPolicy::ScoreAhead => Replay::new(trace, &plan, experts, by(EvictionPolicy::Score), true).run(),
        ReplayPolicy::Belady => Replay::new(trace, &plan, experts, Oracle::new(trace, experts), false).run(),
    })
}

/// All records of a size are laid out alike, for all that is known.
impl Footprint for TraceLayer {
    fn slot_bytes(&self) -> u64 {
        self.bytes
    }

    fn largest_matrix(&self) -> u64 {
        0
    }

    fn alike(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

/// Experts that a token chose in a layer, counted among the MoE layers.
fn choices(token: &TraceToken, k: usize, layer: usize) -> impl Iterator<Item = ExpertId> {
    let experts = token.chosen.iter().skip(layer * k).take(k);
    experts.map(move |&expert| ExpertId { layer, expert: expert as usize })
}

/// An engine without a GPU.
struct Replay<'a, W> {
    trace: &'a Trace,
    residency: Residency<W>,
    result: ReplayResult,
}

impl<'a, W: Worth> Replay<'a, W> {
    fn new(trace: &'a Trace, plan: &ExpertPlan, experts: usize, usage: W, prefetch: bool) -> Self {
        let residency = Residency::new(Slots::new(plan, experts), usage, trace.layers().len(), prefetch);
        let result = ReplayResult { slots: plan.slots(), experts: plan.experts, ..ReplayResult::default() };
        Self { trace, residency, result }
    }

    fn run(mut self) -> ReplayResult {
        let follows = |_: &TraceToken, next: &TraceToken| next.prompt.is_some_and(|at| at > 0);
        for pass in self.trace.tokens().chunk_by(follows) {
            match pass {
                [token] if token.prompt.is_none() => self.token(token),
                _ => self.prompt(pass),
            }
        }
        self.result
    }

    /// As `Session::run_ahead`.
    fn token(&mut self, token: &TraceToken) {
        if let Some(expected) = self.residency.foresee(token.id) {
            let absent: Vec<_> = expected.iter().copied().filter(|id| self.residency.slot(*id).is_none()).collect();
            self.result.ahead_loads += self.bring(&absent, &expected.into_iter().collect(), Why::Ahead);
        }
        let (mut used, mut stalled) = (Vec::new(), 0);
        for layer in 0..self.trace.layers().len() {
            let chosen: Vec<_> = choices(token, self.trace.k(), layer).collect();
            self.result.ahead_useful += self.residency.chose(layer, &chosen, self.trace.k()) as u64;
            let missing: Vec<_> = chosen.iter().copied().filter(|id| self.residency.slot(*id).is_none()).collect();
            self.result.hits += (chosen.len() - missing.len()) as u64;
            self.result.misses += missing.len() as u64;
            used.extend(chosen);
            if !missing.is_empty() {
                stalled += 1;
                self.bring(&missing, &used.iter().copied().collect(), Why::Chosen);
            }
        }
        self.residency.token_done(token.id, stalled);
        self.result.tokens += 1;
        self.result.stalled_layers += stalled as u64;
    }

    /// As `Session::run_in_turns`.
    fn prompt(&mut self, tokens: &[TraceToken]) {
        for (layer, TraceLayer { bytes, .. }) in self.trace.layers().iter().enumerate() {
            let mut wanted: Vec<_> = tokens.iter().flat_map(|token| choices(token, self.trace.k(), layer)).collect();
            self.residency.chose(layer, &wanted, self.trace.k());
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|id| self.residency.slot(*id).is_none());
            for turn in wanted.chunks(self.residency.turn(layer, *bytes)) {
                self.result.prompt_loads += self.bring(turn, &HashSet::new(), Why::Prompt);
            }
        }
        let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
        self.residency.prompt_done(&ids);
    }

    /// As `Cache::bring`: first all leave, then all arrive. Returns how many did.
    fn bring(&mut self, wanted: &[ExpertId], keep: &HashSet<ExpertId>, why: Why) -> u64 {
        let mut taken = Vec::with_capacity(wanted.len());
        for &id in wanted {
            if let Some(placed) = self.residency.place(id, wanted, keep, why) {
                self.result.ahead_wasted += u64::from(placed.wasted);
                taken.push((id, placed.slot));
            }
        }
        taken.iter().for_each(|&(id, slot)| self.residency.arrived(id, slot, why));
        taken.len() as u64
    }
}

/// Knows the trace to its end.
struct Oracle {
    layers: u64,
    experts: usize,
    /// For each [layers, experts] the moments, in layers since the trace began, at which a token computed alone chooses it.
    uses: Vec<Vec<u64>>,
    tokens: u64,
    now: u64,
}

impl Oracle {
    fn new(trace: &Trace, experts: usize) -> Self {
        let layers = trace.layers().len();
        let mut uses = vec![Vec::new(); layers * experts];
        for (at, token) in trace.tokens().iter().enumerate().filter(|(_, token)| token.prompt.is_none()) {
            for id in (0..layers).flat_map(|layer| choices(token, trace.k(), layer)) {
                uses[id.layer * experts + id.expert].push(at as u64 * layers as u64 + id.layer as u64);
            }
        }
        Self { layers: layers as u64, experts, uses, tokens: 0, now: 0 }
    }
}

impl Worth for Oracle {
    fn chose(&mut self, layer: usize, _: &[usize], _: usize) {
        self.now = self.tokens * self.layers + layer as u64;
    }

    fn advance(&mut self, tokens: usize) {
        self.tokens += tokens as u64;
    }

    fn worth(&self, id: ExpertId, _: usize) -> f64 {
        let uses = &self.uses[id.layer * self.experts + id.expert];
        let next = uses.get(uses.partition_point(|&at| at <= self.now));
        next.map_or(f64::NEG_INFINITY, |&at| -(at as f64))
    }
}
