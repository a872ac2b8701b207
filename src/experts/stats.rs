//! What streaming experts costs, counted and never estimated.

use serde::Serialize;

/// Figures of an engine's experts since it was loaded, all sessions together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExpertStats {
    /// Experts that have a place on the GPU.
    pub slots: usize,
    /// Routed experts of the model.
    pub experts: usize,
    /// Bytes of GPU memory that the slots take.
    pub budget_bytes: u64,
    /// Generated tokens, and other tokens computed one at a time. All figures but `prefill` are of these.
    pub tokens: u64,
    /// Chosen experts that were on the GPU when their layer began.
    pub hits: u64,
    /// Chosen experts that were not.
    pub misses: u64,
    /// hits / (hits + misses); 1 where nothing was chosen.
    pub hit_rate: f64,
    /// MoE layers that had to wait for an expert.
    pub stalled_layers: u64,
    /// The same for each token.
    pub stalled_layers_per_token: f64,
    /// Times that the GPU waited for the CPU to look at what was chosen, the end of the token included.
    pub syncs: u64,
    /// The same for each token.
    pub syncs_per_token: f64,
    /// Bytes read and uploaded because a chosen expert was missing.
    pub demand_bytes: u64,
    /// The same for each token.
    pub demand_bytes_per_token: f64,
    /// Bytes uploaded ahead that were used before they were evicted.
    pub speculative_useful_bytes: u64,
    /// Bytes uploaded ahead and evicted without having been used.
    pub speculative_wasted_bytes: u64,
    /// Whether experts were loaded ahead for the last token: not so by option, where too much was wasted, or where hardly a
    /// layer stalls.
    pub prefetching: bool,
    /// Milliseconds that generation stood still because of missing experts, by cause.
    pub stall_ms: StallTime,
    /// Prompts, which are computed layer by layer.
    pub prefill: PrefillStats,
    /// For each MoE layer.
    pub layers: Vec<LayerStats>,
}

/// Milliseconds of standing still. `read`, `upload` and `resubmit` are times that passed. What the GPU would have taken for the
/// same token if nothing had been missing cannot be seen from outside, so `round_trip` is counts times what each of them was
/// measured to cost on this adapter when the model was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StallTime {
    /// Waiting for the source, packing included.
    pub read: f64,
    /// Copying to the GPU.
    pub upload: f64,
    /// Learning that an expert is missing: waits for the GPU's answer beyond those of a token that lacks nothing, and kernel
    /// calls behind a missing expert, which do nothing but are submitted.
    pub round_trip: f64,
    /// Telling the GPU where the experts are and submitting the layers again from there on.
    pub resubmit: f64,
}

impl StallTime {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.read + self.upload + self.round_trip + self.resubmit
    }
}

/// Experts that are being read while a token or a part of a prompt waits for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fetching {
    /// Index in the model of the layer that they belong to; `None` where experts of several layers are loaded ahead.
    pub layer: Option<usize>,
    /// How many.
    pub experts: usize,
    /// Bytes that they take on the GPU.
    pub bytes: u64,
    /// Of these, bytes that have come.
    pub done_bytes: u64,
}

/// Experts streamed for prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PrefillStats {
    /// Tokens computed.
    pub tokens: u64,
    /// Experts that were used, counted once for each layer of each chunk of the prompt.
    pub experts: u64,
    /// Of these, experts that had to be loaded.
    pub loads: u64,
    /// Bytes that this took.
    pub bytes: u64,
}

/// One MoE layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LayerStats {
    /// Index of the layer in the model.
    pub layer: usize,
    /// As in [`ExpertStats::hits`].
    pub hits: u64,
    /// As in [`ExpertStats::misses`].
    pub misses: u64,
    /// How often each expert was chosen, prompts included.
    pub chosen: Vec<u64>,
}

impl ExpertStats {
    /// The figures with those that follow from others.
    pub(crate) fn derived(&self) -> Self {
        let per_token = |count: u64| if self.tokens == 0 { 0.0 } else { count as f64 / self.tokens as f64 };
        let all = self.hits + self.misses;
        Self {
            hit_rate: if all == 0 { 1.0 } else { self.hits as f64 / all as f64 },
            stalled_layers_per_token: per_token(self.stalled_layers),
            syncs_per_token: per_token(self.syncs),
            demand_bytes_per_token: per_token(self.demand_bytes),
            ..self.clone()
        }
    }
}
