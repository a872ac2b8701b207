//! The experts of a loaded model: brings what is asked for into slots.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt};
use web_time::Instant;

use super::index::ExpertLayer;
use super::ledger::{Course, Expected, Ledger};
use super::plan::ExpertPlan;
use super::pools::Pools;
use super::residency::Residency;
use super::slots::{ExpertId, Slots};
use super::stats::{ExpertStats, Fetching};
use super::trace::{Trace, TraceLayer};
use super::usage::Usage;
use super::{ExpertOptions, SyncMode};
use crate::gpu::Gpu;
use crate::weights::Checkpoint;
use crate::{Error, Result};

/// Reads that are under way at a time, and the bytes of memory that they may take: a browser's heap is small.
const READS_IN_FLIGHT: u64 = 8;
const BYTES_IN_FLIGHT: u64 = 64 << 20;
/// Bytes of experts that are loaded while nobody asks for any, and that somebody who does has to wait for.
const SPARE_BYTES: u64 = 8 << 20;
/// MoE layers of a segment.
const SEGMENT: usize = 4;
/// Bytes of experts that are loaded between two waits for the GPU, so that the driver's staging memory stays small.
const FLUSH_BYTES: u64 = 32 << 20;

/// The experts of an engine.
pub(crate) struct Experts {
    checkpoint: Arc<Checkpoint>,
    layers: Vec<ExpertLayer>,
    pools: Pools,
    plan: ExpertPlan,
    options: ExpertOptions,
    costs: SyncCosts,
    /// Nothing is missing, and nothing ever will be.
    complete: AtomicBool,
    /// Held for a whole token by whoever computes it, across all that he waits for.
    turn: async_lock::Mutex<()>,
    /// Never held by anybody who waits.
    ledger: Mutex<Ledger>,
}

/// Why an expert is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The model is being loaded.
    Start,
    /// A token chose it.
    Chosen,
    /// Some tokens of a prompt chose it: it takes the place of others only for its turn.
    Prompt,
    /// A token is expected to choose it.
    Ahead,
}

/// What coping with a missing expert costs on an adapter, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SyncCosts {
    /// Submitting and waiting for an answer.
    pub(crate) sync: f64,
    /// A kernel call that does nothing.
    pub(crate) skip: f64,
}

/// The cache while a session uses it: for a whole token, so that nobody else moves what the token needs.
pub(crate) struct Cache<'a> {
    experts: &'a Experts,
    gpu: &'a Gpu,
    _turn: async_lock::MutexGuard<'a, ()>,
}

/// A fetch that the ledger knows of until this is dropped: also where nobody waits for it to the end.
struct Fetch<'a>(&'a Experts);

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.0.ledger().end_fetch();
    }
}

impl Experts {
    /// Experts of which none is on the GPU yet.
    pub(crate) fn new(
        checkpoint: Arc<Checkpoint>,
        layers: Vec<ExpertLayer>,
        pools: Pools,
        plan: ExpertPlan,
        options: ExpertOptions,
        costs: SyncCosts,
    ) -> Self {
        let experts = layers.iter().map(ExpertLayer::experts).max().unwrap_or(0);
        let slots = Slots::new(&plan, experts);
        let complete = AtomicBool::new(slots.complete());
        let usage = Usage::new(options.policy, layers.len(), experts);
        let residency = Residency::new(slots, usage, layers.len(), options.prefetch);
        let of_layer =
            |layer: &ExpertLayer| TraceLayer { layer: layer.layer, experts: layer.experts(), bytes: layer.record.content() };
        let ledger = Ledger::new(layers.iter().map(of_layer).collect(), residency, plan.slots(), plan.bytes);
        let (turn, ledger) = (async_lock::Mutex::new(()), Mutex::new(ledger));
        Self { checkpoint, layers, pools, plan, options, costs, complete, turn, ledger }
    }

    /// What was allocated.
    pub(crate) fn plan(&self) -> &ExpertPlan {
        &self.plan
    }

    /// Arenas and table.
    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Whether every expert is on the GPU, and so will stay.
    pub(crate) fn complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Waits until no other session uses the cache.
    pub(crate) async fn lock<'a>(&'a self, gpu: &'a Gpu) -> Cache<'a> {
        let turn = self.turn.lock().await;
        self.ledger().reclaim();
        Cache { experts: self, gpu, _turn: turn }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads every expert that has a place, in the order of the file; `progress` is told of bytes read.
    pub(crate) async fn load_all(&self, gpu: &Gpu, mut progress: impl FnMut(u64)) -> Result<()> {
        let mut cache = self.lock(gpu).await;
        for (index, layer) in self.layers.iter().enumerate() {
            let ids: Vec<_> = (0..layer.experts()).map(|expert| ExpertId { layer: index, expert }).collect();
            let together = (FLUSH_BYTES / layer.record.bytes().max(1)).max(1) as usize;
            for some in ids.chunks(together) {
                cache.bring(some, &HashSet::new(), Why::Start).await?;
                gpu.flush().await;
                gpu.check()?;
                progress(some.len() as u64 * layer.read_bytes());
            }
        }
        Ok(())
    }

    /// Where all experts have a place, loads a few that are missing, in the order of the file. Returns whether there are more.
    pub(crate) async fn load_some(&self, gpu: &Gpu) -> Result<bool> {
        if self.complete() || !self.plan.holds_all() {
            return Ok(false);
        }
        let mut cache = self.lock(gpu).await;
        let of_layer = |(index, layer): (usize, &ExpertLayer)| (0..layer.experts()).map(move |expert| (index, expert));
        let all = self.layers.iter().enumerate().flat_map(of_layer).map(|(layer, expert)| ExpertId { layer, expert });
        let mut bytes = 0;
        let some: Vec<_> = all
            .filter(|id| cache.slot(*id).is_none())
            .take_while(|id| {
                let fits = bytes < SPARE_BYTES;
                bytes += self.layers[id.layer].record.bytes();
                fits
            })
            .collect();
        cache.bring(&some, &HashSet::new(), Why::Start).await?;
        gpu.flush().await;
        gpu.check()?;
        Ok(!self.complete())
    }

    /// Figures so far.
    pub(crate) fn stats(&self) -> ExpertStats {
        self.ledger().stats()
    }

    /// For each MoE layer and expert, whether it is on the GPU now.
    pub(crate) fn resident(&self) -> Vec<Vec<bool>> {
        self.ledger().resident()
    }

    /// What is being read now.
    pub(crate) fn fetching(&self) -> Option<Fetching> {
        self.ledger().fetching()
    }

    /// Begins to record the routing of every token, anew if it was being recorded.
    ///
    /// # Errors
    /// There are no experts.
    pub(crate) fn start_trace(&self, model: &str, k: usize) -> Result<()> {
        self.ledger().start_trace(model, k)
    }

    /// Ends recording.
    pub(crate) fn take_trace(&self) -> Option<Trace> {
        self.ledger().take_trace()
    }
}

impl Cache<'_> {
    /// Where an expert is, if it is on the GPU.
    pub(crate) fn slot(&self, id: ExpertId) -> Option<u32> {
        self.experts.ledger().slot(id)
    }

    /// Experts of a layer that come in one turn of a prompt.
    pub(crate) fn turn(&self, layer: usize) -> usize {
        self.experts.ledger().turn(layer)
    }

    /// What a layer chose for some tokens, `k` experts each: on this eviction decides.
    pub(crate) fn remember(&mut self, layer: usize, chosen: &[ExpertId], k: usize) {
        self.experts.ledger().chose(layer, chosen, k);
    }

    /// How many of a layer's chosen experts were on the GPU when a single token came to it.
    pub(crate) fn count(&mut self, layer: usize, hits: usize, misses: usize) {
        self.experts.ledger().count(layer, hits, misses);
    }

    /// How many experts a layer used for some tokens of a prompt, and how many of them have to be loaded.
    pub(crate) fn count_prompt(&mut self, used: usize, loads: usize) {
        self.experts.ledger().count_prompt(used, loads);
    }

    /// A single token is through all layers.
    pub(crate) fn token_done(&mut self, token: u32, course: Course) {
        self.experts.ledger().token_done(token, course, self.experts.costs);
    }

    /// Tokens of a prompt are through all layers.
    pub(crate) fn prompt_done(&mut self, tokens: &[u32]) {
        self.experts.ledger().prompt_done(tokens);
    }

    /// The layers were submitted again from a missing expert on, which was there at `begin`.
    pub(crate) fn resubmitted(&mut self, begin: Instant) {
        self.experts.ledger().resubmitted(milliseconds(begin));
    }

    /// MoE layers that are submitted together, of a list that calls `dispatches` kernels.
    ///
    /// With K layers at a time, a token synchronises layers / K times, and each of its stalls skips on average half of K
    /// layers' kernels. The sum is least where both cost the same.
    pub(crate) fn window(&self, dispatches: usize) -> usize {
        let layers = self.experts.layers.len();
        match self.experts.options.sync {
            SyncMode::Token => usize::MAX,
            SyncMode::Segment => SEGMENT,
            SyncMode::Layer => 1,
            SyncMode::Auto => {
                let SyncCosts { sync, skip } = self.experts.costs;
                let skips = dispatches as f64 / layers as f64 * self.experts.ledger().stalls() * skip;
                let best = (2.0 * layers as f64 * sync / skips.max(1e-12)).sqrt().round().max(1.0);
                if best < layers as f64 { best as usize } else { usize::MAX }
            }
        }
    }

    /// Loads what a token is going to choose for all that is known, if loading ahead pays.
    ///
    /// # Errors
    /// The device failed. That an expert could not be read is an error only for whoever really needs it.
    pub(crate) async fn foresee(&mut self, token: u32) -> Result<()> {
        let expected = self.experts.ledger().foresee(token);
        let Some(Expected { absent, all: keep }) = expected else { return Ok(()) };
        let largest = self.experts.layers.iter().map(|layer| layer.record.bytes()).max().unwrap_or(1);
        for (i, some) in absent.chunks((FLUSH_BYTES / largest.max(1)).max(1) as usize).enumerate() {
            if i > 0 {
                self.gpu.flush().await;
            }
            if self.bring(some, &keep, Why::Ahead).await.is_err() {
                break;
            }
        }
        self.gpu.check()
    }

    /// Loads experts that are missing, evicting any but `keep` and themselves. What is submitted later finds them. Returns
    /// the bytes that were uploaded.
    ///
    /// # Errors
    /// The source fails; what was loaded until then stays.
    pub(crate) async fn bring(&mut self, wanted: &[ExpertId], keep: &HashSet<ExpertId>, why: Why) -> Result<u64> {
        if wanted.is_empty() {
            return Ok(0);
        }
        let result = self.fill(wanted, keep, why).await;
        let mut ledger = self.experts.ledger();
        ledger.reclaim();
        if ledger.complete() {
            self.experts.complete.store(true, Ordering::Release);
        }
        result
    }

    async fn fill(&mut self, wanted: &[ExpertId], keep: &HashSet<ExpertId>, why: Why) -> Result<u64> {
        let (experts, gpu) = (self.experts, self.gpu);
        let mut targets = Vec::with_capacity(wanted.len());
        for &id in wanted {
            let (placed, there) = {
                let mut ledger = experts.ledger();
                (ledger.place(id, wanted, keep, why), ledger.slot(id).is_some())
            };
            let Some(placed) = placed else {
                if there || why == Why::Ahead {
                    continue;
                }
                return Err(Error::Gpu("all slots are taken by experts that one token uses".into()));
            };
            if let Some(evicted) = placed.evicted {
                experts.pools.publish(gpu, evicted.layer, evicted.expert, None);
            }
            targets.push((id, placed.slot, experts.layers[id.layer].tiles()));
        }
        experts.ledger().begin_fetch(targets.iter().map(|(id, ..)| *id));
        let _fetch = Fetch(experts);
        let tiles = targets.iter().enumerate().flat_map(|(t, (id, _, tiles))| tiles.iter().map(move |tile| (t, *id, tile)));
        let reads = tiles
            .map(|(t, id, tile)| async move { (t, experts.layers[id.layer].read(&experts.checkpoint, id.expert, tile).await) });
        let largest = targets.iter().map(|(id, ..)| experts.layers[id.layer].part_bytes()).max().unwrap_or(1);
        let in_flight = (BYTES_IN_FLIGHT / largest.max(1)).clamp(1, READS_IN_FLIGHT) as usize;
        let mut reads = pin!(stream::iter(reads).buffer_unordered(in_flight));
        let mut left: Vec<usize> = targets.iter().map(|(_, _, tiles)| tiles.len()).collect();
        let mut bytes = 0;
        let mut begin = Instant::now();
        while let Some((t, fragments)) = reads.next().await {
            let read = milliseconds(begin);
            begin = Instant::now();
            let (id, slot, _) = targets[t];
            let mut here = 0;
            for fragment in fragments? {
                experts.pools.write(gpu, id.layer, slot, &fragment);
                here += fragment.1.len() as u64;
            }
            left[t] -= 1;
            if left[t] == 0 {
                experts.ledger().arrived(id, slot, why);
                experts.pools.publish(gpu, id.layer, id.expert, Some(slot));
            }
            experts.ledger().fetched(here, why, read, milliseconds(begin));
            bytes += here;
            begin = Instant::now();
        }
        Ok(bytes)
    }
}

/// Since `begin`.
fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
