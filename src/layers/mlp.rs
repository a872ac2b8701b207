//! The dense gated feed-forward layer, also a MoE layer's shared expert.

use super::{Linear, Pass, Reader};
use crate::gpu::Slice;
use crate::kernels::{Activations, Norm, can_gate, gated, swiglu};

pub(crate) struct Mlp {
    /// gate and up stacked.
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

impl Mlp {
    /// What it reads behind its norm.
    pub(crate) fn reader<'a>(&self, norm: &'a Norm) -> Reader<'a> {
        Reader { norm, takes_bytes: self.gate_up.takes_bytes() }
    }

    /// x += mlp(h), and the norm of that for the next.
    pub(crate) fn record(&self, p: &mut Pass<'_>, h: &Activations, next: Option<Reader<'_>>) -> Option<Activations> {
        let y = self.activate(p, h, &p.s.inner);
        p.add(&self.down, &y, next)
    }

    /// silu(gate h) up h into `inner`.
    pub(super) fn activate(&self, p: &mut Pass<'_>, h: &Activations, inner: &Slice) -> Activations {
        let (tokens, bytes) = (p.tokens, p.bytes(self.down.takes_bytes(), p.tokens));
        match self.gate_up.single().filter(|w| p.fuses() && can_gate(w)) {
            Some(w) => gated(&mut p.r, p.choice.matvec, w, h, None, (inner, bytes)),
            None => {
                self.gate_up.record(p, h, tokens, &p.s.gate_up, self.gate_up.rows, false);
                swiglu(&mut p.r, &p.s.gate_up, None, (inner, bytes), self.down.cols, tokens);
            }
        }
        Activations { rows: inner.clone(), bytes, undivided: None }
    }
}
