//! The Mixture-of-Experts feed-forward layer: routing never leaves the GPU.

use super::{Linear, Mlp, Norm, Pass};
use crate::kernels::{Pairs, RouterScore, combine, max_tiles, moe_group, router, swiglu};

/// One MoE layer. Families differ in the fields, not in the order of steps.
pub(crate) struct Moe {
    pub(crate) router: Linear,
    pub(crate) experts: usize,
    /// Experts chosen for a token (k).
    pub(crate) chosen: usize,
    pub(crate) score: RouterScore,
    /// The score multiplies the expert's input (Llama 4) instead of its output.
    pub(crate) score_input: bool,
    /// gate and up stacked, for each expert.
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
    /// An expert that every token passes.
    pub(crate) shared: Option<Mlp>,
}

impl Moe {
    /// x += moe(norm(x)); `index` counts the model's MoE layers.
    pub(crate) fn record(&self, p: &mut Pass<'_>, norm: &Norm, index: usize) {
        let (s, tokens) = (p.s, p.tokens);
        let Some(scratch) = &s.moe else { unreachable!("a model with MoE layers says so in its dimensions") };
        let (ids, weights) = &scratch.routing[index];
        let (pairs, inner, hidden) = (tokens * self.chosen, self.down.cols, norm.cols);

        norm.record(p, 0, tokens);
        let readers: Vec<_> = [&self.router, &self.gate_up].into_iter().chain(self.shared.iter().map(|m| &m.gate_up)).collect();
        let h = p.activations(&s.h, hidden, tokens, &s.h_bytes, &readers);
        self.router.record(p, &h, tokens, &scratch.router_logits, self.experts, false);
        router(&mut p.r, &scratch.router_logits, ids, weights, self.experts, self.experts, self.chosen, self.score, tokens);

        let tiles = (tokens > 1).then(|| {
            let (tile_expert, tile_pairs) = &scratch.tiles;
            let tile = p.choice.matmul.tile();
            moe_group(&mut p.r, ids, tile_expert, tile_pairs, pairs, self.experts, tile);
            (tile_expert.clone(), tile_pairs.clone(), max_tiles(pairs, self.experts, tile))
        });
        let into = Pairs { count: pairs, sharing: self.chosen, chosen: ids.clone(), tiles };
        self.gate_up.record_experts(p, &h, &into, &s.gate_up, self.gate_up.rows);
        swiglu(&mut p.r, &s.gate_up, self.score_input.then_some(weights), &s.inner, inner, pairs);
        let activated = p.activations(&s.inner, inner, pairs, &s.inner_bytes, &[&self.down]);
        let out_of = Pairs { sharing: 1, ..into };
        self.down.record_experts(p, &activated, &out_of, &scratch.parts, hidden.next_multiple_of(32));
        if let Some(shared) = &self.shared {
            shared.record_on(p, &h);
        }
        combine(&mut p.r, &scratch.parts, (!self.score_input).then_some(weights), &s.x, hidden, self.chosen, tokens);
    }
}
