//! What decides which experts are on the GPU: who comes early, who leaves, who only passes. Pure, so that the replay of a trace
//! decides exactly as an engine does.

use std::collections::HashSet;

use super::cache::Why;
use super::foresight::Foresight;
use super::slots::{ExpertId, Slots, Taken};
use super::speculation::Speculation;

/// Bytes of experts that come in one turn of a prompt.
const TURN_BYTES: u64 = 32 << 20;
/// The share of its pool that a turn may take: what tokens chose before the prompt stays.
const TURN_SHARE: usize = 8;

/// Says what a place on the GPU is worth to an expert.
pub(super) trait Worth {
    /// `layer` chose these experts, `k` for each of some tokens, one after the other.
    fn chose(&mut self, layer: usize, chosen: &[usize], k: usize);
    /// Tokens are through all layers.
    fn advance(&mut self, tokens: usize);
    /// The higher, the longer the expert stays when `layer` needs a place.
    fn worth(&self, id: ExpertId, layer: usize) -> f64;
}

/// Which experts are on the GPU, and all that is known about who should be.
#[derive(Clone, Debug)]
pub(super) struct Residency<W> {
    slots: Slots,
    usage: W,
    layers: usize,
    speculation: Speculation,
    foresight: Foresight,
    /// Experts that a prompt needed in passing: the first to go.
    passing: HashSet<ExpertId>,
    /// Experts that the token under way is likely to choose: the last to go until their layer is through.
    expected: HashSet<ExpertId>,
    /// For each layer that the tokens under way are through, [tokens, k] experts.
    chosen: Vec<Vec<ExpertId>>,
}

/// A slot that was taken for an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) slot: u32,
    /// The expert that was in it.
    pub(super) evicted: Option<ExpertId>,
    /// That one was loaded ahead and never used.
    pub(super) wasted: bool,
}

impl<W: Worth> Residency<W> {
    /// Nothing is there and nothing known.
    pub(super) fn new(slots: Slots, usage: W, layers: usize, prefetch: bool) -> Self {
        let speculation = Speculation::new(prefetch, layers);
        let (foresight, chosen) = (Foresight::default(), Vec::new());
        Self { slots, usage, layers, speculation, foresight, passing: HashSet::new(), expected: HashSet::new(), chosen }
    }

    /// Where an expert is, if it is on the GPU.
    pub(super) fn slot(&self, id: ExpertId) -> Option<u32> {
        self.slots.slot(id)
    }

    /// Whether every expert is on the GPU.
    pub(super) fn complete(&self) -> bool {
        self.slots.complete()
    }

    /// Stalled layers for each token, lately.
    pub(super) fn stalls(&self) -> f64 {
        self.speculation.stalls()
    }

    /// Experts of a layer that come in one turn of a prompt.
    pub(super) fn turn(&self, layer: usize, record_bytes: u64) -> usize {
        let together = usize::try_from(TURN_BYTES / record_bytes.max(1)).unwrap_or(usize::MAX).max(1);
        together.min(self.slots.capacity(layer).div_ceil(TURN_SHARE))
    }

    /// A layer chose these experts, `k` for each of some tokens. Returns how many of them had been loaded ahead and are used
    /// for the first time.
    pub(super) fn chose(&mut self, layer: usize, chosen: &[ExpertId], k: usize) -> usize {
        let experts: Vec<_> = chosen.iter().map(|id| id.expert).collect();
        self.usage.chose(layer, &experts, k);
        // A pass that came to no end leaves layers behind.
        self.chosen.truncate(layer);
        self.chosen.push(chosen.to_vec());
        if chosen.len() != k {
            return 0;
        }
        self.passing.retain(|id| !chosen.contains(id));
        chosen.iter().filter(|id| self.speculation.used(**id)).count()
    }

    /// A single token is through all layers, after so many stalled ones. Returns the experts that it chose, layer by layer.
    pub(super) fn token_done(&mut self, token: u32, stalled: usize) -> Vec<ExpertId> {
        self.speculation.token(stalled);
        self.through(&[token]).pop().unwrap_or_default()
    }

    /// Tokens of a prompt are through all layers. Returns the experts that each of them chose, layer by layer.
    pub(super) fn prompt_done(&mut self, tokens: &[u32]) -> Vec<Vec<ExpertId>> {
        self.through(tokens)
    }

    fn through(&mut self, tokens: &[u32]) -> Vec<Vec<ExpertId>> {
        self.usage.advance(tokens.len());
        self.expected.clear();
        let layers = std::mem::take(&mut self.chosen);
        let of = |(i, token): (usize, &u32)| {
            let own = |layer: &Vec<ExpertId>| {
                let k = layer.len() / tokens.len();
                layer.iter().skip(i * k).take(k).copied().collect::<Vec<_>>()
            };
            let chosen: Vec<_> = layers.iter().flat_map(own).collect();
            if !self.slots.complete() {
                self.foresight.learn(*token, self.layers, &chosen);
            }
            chosen
        };
        tokens.iter().enumerate().map(of).collect()
    }

    /// What a token is going to choose for all that is known; `None` if loading ahead does not pay.
    pub(super) fn foresee(&mut self, token: u32) -> Option<Vec<ExpertId>> {
        self.expected.clear();
        if !self.speculation.pays() {
            return None;
        }
        let likely = self.foresight.likely(token);
        self.expected.extend(&likely);
        Some(likely)
    }

    /// Takes a slot for one of the `wanted` experts, evicting any but `keep` and those. The slot counts for nothing until
    /// [`Residency::arrived`]. `None` if the expert is there already or none may go.
    pub(super) fn place(&mut self, id: ExpertId, wanted: &[ExpertId], keep: &HashSet<ExpertId>, why: Why) -> Option<Placed> {
        let Self { slots, usage, passing, expected, .. } = self;
        let may_go = |other| !keep.contains(&other) && !wanted.contains(&other);
        let worth = |other: ExpertId| match other {
            _ if other.layer > id.layer && expected.contains(&other) => f64::MAX,
            _ if passing.contains(&other) => f64::MIN,
            _ => usage.worth(other, id.layer),
        };
        let Taken { slot, evicted } = slots.take(id, may_go, worth)?;
        passing.remove(&id);
        let wasted = evicted.is_some_and(|evicted| {
            passing.remove(&evicted);
            if why == Why::Prompt {
                passing.insert(id);
            }
            self.speculation.evicted(evicted)
        });
        Some(Placed { slot, evicted, wasted })
    }

    /// An expert is whole in the slot that was taken for it.
    pub(super) fn arrived(&mut self, id: ExpertId, slot: u32, why: Why) {
        self.slots.fill(id, slot);
        if why == Why::Ahead {
            self.speculation.loaded(id);
        }
    }

    /// Slots that were taken for what never arrived are free again.
    pub(super) fn reclaim(&mut self) {
        self.slots.reclaim();
    }
}
