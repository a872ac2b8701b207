//! The dense gated feed-forward layer, also a MoE layer's shared expert.

use super::{Linear, Norm, Pass};
use crate::kernels::{Activations, swiglu};

pub(crate) struct Mlp {
    /// gate and up stacked.
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

impl Mlp {
    /// x += mlp(norm(x)).
    pub(crate) fn record(&self, p: &mut Pass<'_>, norm: &Norm) {
        let (s, tokens) = (p.s, p.tokens);
        norm.record(p, 0, tokens);
        let h = p.activations(&s.h, norm.cols, tokens, &s.h_bytes, &[&self.gate_up]);
        self.record_on(p, &h);
    }

    /// x += mlp(h).
    pub(super) fn record_on(&self, p: &mut Pass<'_>, h: &Activations) {
        let (s, tokens, inner) = (p.s, p.tokens, self.down.cols);
        self.gate_up.record(p, h, tokens, &s.gate_up, self.gate_up.rows, false);
        swiglu(&mut p.r, &s.gate_up, None, &s.inner, inner, tokens);
        let activated = p.activations(&s.inner, inner, tokens, &s.inner_bytes, &[&self.down]);
        self.down.record(p, &activated, tokens, &s.x, self.down.rows.next_multiple_of(32), true);
    }
}
