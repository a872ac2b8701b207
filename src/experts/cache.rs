//! The experts of a loaded model: brings what is asked for into slots.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_lock::{Mutex, MutexGuard};
use futures_util::stream::{self, StreamExt};
use web_time::Instant;

use super::index::ExpertLayer;
use super::plan::ExpertPlan;
use super::pools::Pools;
use super::residency::Residency;
use super::slots::{ExpertId, Slots};
use super::stats::{ExpertStats, LayerStats};
use super::trace::{Trace, TraceLayer};
use super::usage::Usage;
use super::{ExpertOptions, SyncMode};
use crate::gpu::Gpu;
use crate::weights::Checkpoint;
use crate::{Error, Result};

/// Reads that are under way at a time.
const READS_IN_FLIGHT: usize = 8;
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
    state: Mutex<State>,
}

struct State {
    residency: Residency<Usage>,
    stats: ExpertStats,
    /// What tokens chose, while somebody wants it recorded.
    trace: Option<Trace>,
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
    state: MutexGuard<'a, State>,
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
        let of_layer =
            |layer: &ExpertLayer| LayerStats { layer: layer.layer, chosen: vec![0; layer.experts()], ..LayerStats::default() };
        let stats = ExpertStats {
            slots: plan.slots(),
            experts: layers.iter().map(ExpertLayer::experts).sum(),
            budget_bytes: plan.bytes,
            layers: layers.iter().map(of_layer).collect(),
            ..ExpertStats::default()
        };
        let slots = Slots::new(&plan, experts);
        let complete = AtomicBool::new(slots.complete());
        let usage = Usage::new(options.policy, layers.len(), experts);
        let residency = Residency::new(slots, usage, layers.len(), options.prefetch);
        let state = Mutex::new(State { residency, stats, trace: None });
        Self { checkpoint, layers, pools, plan, options, costs, complete, state }
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
        let mut state = self.state.lock().await;
        state.residency.reclaim();
        Cache { experts: self, gpu, state }
    }

    /// Loads every expert that has a place, in the order of the file; `progress` is told of bytes read.
    pub(crate) async fn load_all(&self, gpu: &Gpu, mut progress: impl FnMut(u64)) -> Result<()> {
        let mut cache = self.lock(gpu).await;
        for (index, layer) in self.layers.iter().enumerate() {
            let ids: Vec<_> = (0..layer.experts()).map(|expert| ExpertId { layer: index, expert }).collect();
            let together = (FLUSH_BYTES / layer.record.bytes().max(1)).max(1) as usize;
            for some in ids.chunks(together) {
                cache.bring(some, &HashSet::new(), Why::Start).await?;
                gpu.flush();
                gpu.check()?;
                progress(some.len() as u64 * layer.read_bytes());
            }
        }
        Ok(())
    }

    /// Figures so far.
    pub(crate) async fn stats(&self) -> ExpertStats {
        self.state.lock().await.stats.derived()
    }

    /// Begins to record the routing of every token, anew if it was being recorded.
    ///
    /// # Errors
    /// There are no experts.
    pub(crate) async fn start_trace(&self, model: &str, k: usize) -> Result<()> {
        let of_layer =
            |layer: &ExpertLayer| TraceLayer { layer: layer.layer, experts: layer.experts(), bytes: layer.record.content() };
        let trace = Trace::new(model, k, self.layers.iter().map(of_layer).collect())?;
        self.state.lock().await.trace = Some(trace);
        Ok(())
    }

    /// Ends recording.
    pub(crate) async fn take_trace(&self) -> Option<Trace> {
        self.state.lock().await.trace.take()
    }
}

impl Cache<'_> {
    /// Where an expert is, if it is on the GPU.
    pub(crate) fn slot(&self, id: ExpertId) -> Option<u32> {
        self.state.residency.slot(id)
    }

    /// The figures, for whoever caused them.
    pub(crate) fn stats(&mut self) -> &mut ExpertStats {
        &mut self.state.stats
    }

    /// Experts of a layer that come in one turn of a prompt.
    pub(crate) fn turn(&self, layer: usize) -> usize {
        self.state.residency.turn(layer, self.experts.layers[layer].record.content())
    }

    /// What a layer chose for some tokens, `k` experts each: on this eviction decides.
    pub(crate) fn remember(&mut self, layer: usize, chosen: &[ExpertId], k: usize) {
        let State { residency, stats, .. } = &mut *self.state;
        let useful = residency.chose(layer, chosen, k);
        stats.speculative_useful_bytes += useful as u64 * self.experts.layers[layer].record.content();
        for id in chosen {
            stats.layers[layer].chosen[id.expert] += 1;
        }
    }

    /// How many of a layer's chosen experts were on the GPU when a single token came to it.
    pub(crate) fn count(&mut self, layer: usize, hits: usize, misses: usize) {
        let stats = &mut self.state.stats;
        stats.hits += hits as u64;
        stats.misses += misses as u64;
        stats.layers[layer].hits += hits as u64;
        stats.layers[layer].misses += misses as u64;
    }

    /// A single token is through all layers, after so many stalled ones.
    pub(crate) fn token_done(&mut self, token: u32, stalled: usize) {
        let State { residency, stats, trace } = &mut *self.state;
        let chosen = residency.token_done(token, stalled);
        stats.tokens += 1;
        stats.stalled_layers += stalled as u64;
        if let Some(trace) = trace {
            trace.extend(&[token], &[chosen], false);
        }
    }

    /// Tokens of a prompt are through all layers.
    pub(crate) fn prompt_done(&mut self, tokens: &[u32]) {
        let State { residency, stats, trace } = &mut *self.state;
        let chosen = residency.prompt_done(tokens);
        stats.prefill.tokens += tokens.len() as u64;
        if let Some(trace) = trace {
            trace.extend(tokens, &chosen, true);
        }
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
                let skips = dispatches as f64 / layers as f64 * self.state.residency.stalls() * skip;
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
        let State { residency, stats, .. } = &mut *self.state;
        let expected = residency.foresee(token);
        stats.prefetching = expected.is_some();
        let Some(expected) = expected else { return Ok(()) };
        let absent: Vec<_> = expected.iter().copied().filter(|id| residency.slot(*id).is_none()).collect();
        let keep = expected.into_iter().collect();
        let largest = self.experts.layers.iter().map(|layer| layer.record.bytes()).max().unwrap_or(1);
        for (i, some) in absent.chunks((FLUSH_BYTES / largest.max(1)).max(1) as usize).enumerate() {
            if i > 0 {
                self.gpu.flush();
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
        self.state.residency.reclaim();
        if self.state.residency.complete() {
            self.experts.complete.store(true, Ordering::Release);
        }
        result
    }

    async fn fill(&mut self, wanted: &[ExpertId], keep: &HashSet<ExpertId>, why: Why) -> Result<u64> {
        let (experts, gpu) = (self.experts, self.gpu);
        let State { residency, stats, .. } = &mut *self.state;
        let mut targets = Vec::with_capacity(wanted.len());
        for &id in wanted {
            let Some(placed) = residency.place(id, wanted, keep, why) else {
                if residency.slot(id).is_some() || why == Why::Ahead {
                    continue;
                }
                return Err(Error::Gpu("all slots are taken by experts that one token uses".into()));
            };
            if let Some(evicted) = placed.evicted {
                experts.pools.publish(gpu, evicted.layer, evicted.expert, None);
                if placed.wasted {
                    stats.speculative_wasted_bytes += experts.layers[evicted.layer].record.content();
                }
            }
            targets.push((id, placed.slot, experts.layers[id.layer].tiles()));
        }
        let tiles = targets.iter().enumerate().flat_map(|(t, (id, _, tiles))| tiles.iter().map(move |tile| (t, *id, tile)));
        let reads = tiles
            .map(|(t, id, tile)| async move { (t, experts.layers[id.layer].read(&experts.checkpoint, id.expert, tile).await) });
        let mut reads = pin!(stream::iter(reads).buffer_unordered(READS_IN_FLIGHT));
        let mut left: Vec<usize> = targets.iter().map(|(_, _, tiles)| tiles.len()).collect();
        let mut bytes = 0;
        let mut begin = Instant::now();
        while let Some((t, fragments)) = reads.next().await {
            let read = milliseconds(begin);
            begin = Instant::now();
            let (id, slot, _) = targets[t];
            for fragment in fragments? {
                experts.pools.write(gpu, id.layer, slot, &fragment);
                bytes += fragment.1.len() as u64;
            }
            left[t] -= 1;
            if left[t] == 0 {
                residency.arrived(id, slot, why);
                experts.pools.publish(gpu, id.layer, id.expert, Some(slot));
            }
            if matches!(why, Why::Chosen | Why::Ahead) {
                stats.stall_ms.read += read;
                stats.stall_ms.upload += milliseconds(begin);
            }
            begin = Instant::now();
        }
        match why {
            Why::Chosen => stats.demand_bytes += bytes,
            Why::Prompt => stats.prefill.bytes += bytes,
            Why::Ahead | Why::Start => {}
        }
        Ok(bytes)
    }
}

/// Since `begin`.
fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
