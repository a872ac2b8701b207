//! The Mixture-of-Experts feed-forward layer: the experts' kernels read what the router wrote.

use super::scratch::MoeScratch;
use super::{Linear, Mlp, Pass, Reader, RoutingLayout};
use crate::gpu::Slice;
use crate::kernels::{
    Activations, Chosen, GroupSlices, Matrix, Norm, Normed, Pairs, RouterInput, RouterScore, RouterShape, Tiles, can_gate,
    can_route, can_sum, combine, gated, max_tiles, moe_group, residual, rms_norm, router, swiglu,
};

/// One MoE layer. Families differ in the fields, not in the order of steps.
pub(crate) struct Moe {
    pub(crate) norm: Norm,
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
    /// Its slot, where it lies among the others.
    pub(crate) shared_slot: Option<u32>,
}

impl Moe {
    /// What it reads behind its norm.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let shared = self.shared.iter().all(|mlp| mlp.gate_up.takes_bytes());
        Reader { norm: &self.norm, takes_bytes: self.gate_up.takes_bytes() && shared }
    }

    /// x += moe(h), and the norm of that for the next; `index` counts the model's MoE layers.
    ///
    /// The list may be cut around the experts: before the first cut everything is done that needs none, between the cuts
    /// lies the work of the experts, which may be repeated for other experts, behind them their sum.
    pub(crate) fn record(
        &self,
        p: &mut Pass<'_>,
        h: &Activations,
        index: usize,
        next: Option<Reader<'_>>,
    ) -> Option<Activations> {
        let (s, tokens) = (p.s, p.tokens);
        let Some(scratch) = &s.moe else { unreachable!("a model with MoE layers says so in its dimensions") };
        let (pairs, inner, hidden) = (tokens * self.chosen, self.down.cols, self.norm.cols);
        let layout = RoutingLayout::of(index + 1, pairs);
        let [ids, weights, slots] = scratch.routing(&layout, index);
        let table_at = index * self.experts;
        self.choose(p, scratch, h, index, &layout);

        if let Some((next, matrices)) = next.zip(self.with_shared(p)) {
            let routing = scratch.routing_with_shared(&layout, index);
            return Some(self.record_with_shared(p, h, matrices, &routing, next));
        }
        p.r.cut();
        let tiles = (tokens > 1).then(|| {
            let (expert, of_pairs) = scratch.tiles.clone();
            let width = p.choice.matmul.expert_tile(pairs, self.experts);
            let table = if p.in_turns { (&scratch.turn, 0) } else { (p.table, table_at) };
            let slices = GroupSlices { ids: &ids, table, tile_expert: &expert, tile_pairs: &of_pairs };
            moe_group(&mut p.r, &slices, pairs, self.experts, width);
            Tiles { expert, pairs: of_pairs, count: max_tiles(pairs, self.experts, width), width }
        });
        let into = Pairs { count: pairs, sharing: self.chosen, chosen: slots.clone(), tiles };
        let bytes = p.bytes(self.down.takes_bytes(), pairs);
        let gate = self.gate_up.single().filter(|w| p.fuses() && can_gate(w));
        if let Some(w) = gate {
            let chosen = Chosen { slots: &slots, scores: &weights, score_input: self.score_input, count: pairs };
            gated(&mut p.r, p.choice.matvec, w, h, Some(chosen), (&s.inner, bytes));
        } else {
            self.gate_up.record_experts(p, h, &into, &s.gate_up, self.gate_up.rows);
            swiglu(&mut p.r, &s.gate_up, self.score_input.then_some(&weights), (&s.inner, bytes), inner, pairs);
        }
        let activated = Activations { rows: s.inner.clone(), bytes, undivided: None };
        let scored = self.score_input || gate.is_some();
        let sum = next.filter(|_| p.fuses() && scored).zip(self.down.single().filter(|w| can_sum(w, self.chosen, self.experts)));
        if sum.is_none() {
            let out_of = Pairs { sharing: 1, ..into };
            self.down.record_experts(p, &activated, &out_of, &scratch.parts, hidden.next_multiple_of(32));
        }

        p.r.cut();
        if let Some(shared) = &self.shared {
            let activated = shared.activate(p, h, &scratch.shared);
            p.add(&shared.down, &activated, None);
        }
        if let Some((next, w)) = sum {
            let h = p.undivided(next);
            residual(&mut p.r, p.choice.matvec, w, &activated, Some((&slots, self.chosen)), &s.x, next.norm, &h);
            return Some(h);
        }
        combine(&mut p.r, &scratch.parts, (!scored).then_some(&weights), &s.x, hidden, self.chosen, tokens);
        next.map(|next| p.normed(next, 0, tokens))
    }

    /// Gate over up and down of all experts, where their kernels compute a token's shared one too.
    fn with_shared(&self, p: &Pass<'_>) -> Option<(&Matrix, &Matrix)> {
        let gate_up = self.gate_up.single().filter(|w| p.fuses() && self.shared_slot.is_some() && can_gate(w))?;
        let down = self.down.single().filter(|w| can_sum(w, self.chosen + 1, self.experts + 1))?;
        Some((gate_up, down))
    }

    /// What follows the router for one token, the shared expert being the last of its experts.
    fn record_with_shared(
        &self,
        p: &mut Pass<'_>,
        h: &Activations,
        (gate_up, down): (&Matrix, &Matrix),
        [scores, slots]: &[Slice; 2],
        next: Reader<'_>,
    ) -> Activations {
        let count = self.chosen + 1;
        p.r.cut();
        let bytes = p.bytes(self.down.takes_bytes(), count);
        let chosen = Chosen { slots, scores, score_input: self.score_input, count };
        gated(&mut p.r, p.choice.matvec, gate_up, h, Some(chosen), (&p.s.inner, bytes));

        p.r.cut();
        let activated = Activations { rows: p.s.inner.clone(), bytes, undivided: None };
        let h = p.undivided(next);
        residual(&mut p.r, p.choice.matvec, down, &activated, Some((slots, count)), &p.s.x, next.norm, &h);
        h
    }

    /// Ids, weights and slots of the chosen experts.
    fn choose(&self, p: &mut Pass<'_>, scratch: &MoeScratch, h: &Activations, index: usize, layout: &RoutingLayout) {
        let (experts, chosen, score) = (self.experts, self.chosen, self.score);
        let (table_at, part, shared) = (index * experts, layout.stride(), self.shared_slot);
        let shape = RouterShape { experts, chosen, score, table_at, part, shared };
        let routing = scratch.routing_of(layout, index);
        if let Some(w) = self.router.single().filter(|w| p.fuses() && can_route(w)) {
            router(&mut p.r, &shape, RouterInput::Stream(&p.s.x, &self.norm, w), p.table, &routing, 1);
            return;
        }
        let mut h = h.clone();
        if h.bytes || h.undivided.is_some() {
            // The choice is made by floats. Where the experts' outputs will be there is room for them.
            h = Activations { rows: scratch.parts.clone(), bytes: false, undivided: None };
            rms_norm(&mut p.r, &self.norm, &p.s.x, (&h.rows, Normed::Floats), 0, p.tokens);
        }
        let choice = p.choice;
        p.choice = choice.unrounded();
        self.router.record(p, &h, p.tokens, &scratch.router_logits, experts, false);
        p.choice = choice;
        router(&mut p.r, &shape, RouterInput::Logits(&scratch.router_logits, experts), p.table, &routing, p.tokens);
    }
}
