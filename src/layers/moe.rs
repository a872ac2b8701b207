//! The Mixture-of-Experts feed-forward layer: the experts' kernels read what the router wrote.

use super::{Linear, Mlp, Norm, Pass, RoutingLayout};
use crate::kernels::{GroupSlices, Pairs, RouterScore, RouterShape, RouterSlices, combine, max_tiles, moe_group, router, swiglu};

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
    ///
    /// The list may be cut around the experts: before the first cut everything is done that needs none, between the cuts
    /// lies the work of the experts, which may be repeated for other experts, behind them their sum.
    pub(crate) fn record(&self, p: &mut Pass<'_>, norm: &Norm, index: usize) {
        let (s, tokens) = (p.s, p.tokens);
        let Some(scratch) = &s.moe else { unreachable!("a model with MoE layers says so in its dimensions") };
        let (pairs, inner, hidden) = (tokens * self.chosen, self.down.cols, norm.cols);
        let layout = RoutingLayout::of(index + 1, pairs);
        let [ids, weights, slots] = scratch.routing(&layout, index);
        let table_at = index * self.experts;

        norm.record(p, 0, tokens);
        let readers: Vec<_> = [&self.router, &self.gate_up].into_iter().chain(self.shared.iter().map(|m| &m.gate_up)).collect();
        let h = p.activations(&s.h, hidden, tokens, &s.h_bytes, &readers);
        if let Some(shared) = &self.shared {
            shared.record_on(p, &h);
        }
        self.router.record(p, &h, tokens, &scratch.router_logits, self.experts, false);
        let (experts, chosen, score) = (self.experts, self.chosen, self.score);
        let shape = RouterShape { experts, chosen, stride: experts, score, table_at };
        let slices = RouterSlices { logits: &scratch.router_logits, table: p.table, ids: &ids, weights: &weights, slots: &slots };
        router(&mut p.r, &shape, &slices, tokens);

        p.r.cut();
        let tiles = (tokens > 1).then(|| {
            let (tile_expert, tile_pairs) = &scratch.tiles;
            let tile = p.choice.matmul.tile();
            let table = if p.in_turns { (&scratch.turn, 0) } else { (p.table, table_at) };
            moe_group(&mut p.r, &GroupSlices { ids: &ids, table, tile_expert, tile_pairs }, pairs, experts, tile);
            (tile_expert.clone(), tile_pairs.clone(), max_tiles(pairs, experts, tile))
        });
        let into = Pairs { count: pairs, sharing: self.chosen, chosen: slots, tiles };
        self.gate_up.record_experts(p, &h, &into, &s.gate_up, self.gate_up.rows);
        swiglu(&mut p.r, &s.gate_up, self.score_input.then_some(&weights), &s.inner, inner, pairs);
        let activated = p.activations(&s.inner, inner, pairs, &s.inner_bytes, &[&self.down]);
        let out_of = Pairs { sharing: 1, ..into };
        self.down.record_experts(p, &activated, &out_of, &scratch.parts, hidden.next_multiple_of(32));
        p.r.cut();
        combine(&mut p.r, &scratch.parts, (!self.score_input).then_some(&weights), &s.x, hidden, self.chosen, tokens);
    }
}
