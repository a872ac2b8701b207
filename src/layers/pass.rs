//! One forward pass while it is being recorded, and its residual stream.

use super::{Linear, Scratch};
use crate::gpu::{Recorder, Slice};
use crate::kernels::{Activations, KernelChoice, Norm, Normed, residual, rms_norm};
use crate::kv_cache::KvCache;

pub(crate) struct Pass<'a> {
    pub(crate) r: Recorder,
    pub(crate) s: &'a Scratch,
    pub(crate) kv: &'a KvCache,
    pub(crate) choice: KernelChoice,
    /// [MoE layers, experts]: the slots of the experts.
    pub(crate) table: &'a Slice,
    /// Whether experts come in turns: then a prompt's tokens go to those that the scratch's own table names.
    pub(crate) in_turns: bool,
    /// Tokens in the pass.
    pub(crate) tokens: usize,
    /// Keys in the cache that its only token finds there at most.
    pub(crate) most_keys: usize,
}

/// What comes next on the residual stream: a norm, and products that may take bytes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) norm: &'a Norm,
    pub(crate) takes_bytes: bool,
}

impl Pass<'_> {
    /// Whether products that may take bytes get them. One row is multiplied by `matvec`, and so are the few pairs of a single
    /// token.
    pub(super) fn bytes(&self, takes_bytes: bool, rows: usize) -> bool {
        let multiplied = if self.tokens > 1 && rows > 1 { self.choice.matmul.bytes() } else { self.choice.matvec.bytes() };
        multiplied && takes_bytes
    }

    /// The norm of `rows` rows of the residual stream, from `first_row` on.
    pub(crate) fn normed(&mut self, reader: Reader<'_>, first_row: usize, rows: usize) -> Activations {
        let bytes = self.bytes(reader.takes_bytes, rows);
        let made = if bytes { self.choice.bytes_of_norms() } else { Normed::Floats };
        rms_norm(&mut self.r, reader.norm, &self.s.x, (&self.s.h, made), first_row, rows);
        Activations { rows: self.s.h.clone(), bytes, undivided: None }
    }

    /// x += W y for all tokens, and for whoever reads it the norm of that.
    pub(super) fn add(&mut self, linear: &Linear, y: &Activations, next: Option<Reader<'_>>) -> Option<Activations> {
        if let (true, Some(matrix), Some(next)) = (self.fuses(), linear.single(), next) {
            let h = self.undivided(next);
            residual(&mut self.r, self.choice.matvec, matrix, y, None, &self.s.x, next.norm, &h);
            return Some(h);
        }
        linear.record(self, y, self.tokens, &self.s.x, linear.rows.next_multiple_of(32), true);
        next.map(|next| self.normed(next, 0, self.tokens))
    }

    /// Whether products do what follows them too.
    ///
    /// Not in turns: there, experts' weights are read between two cuts only, and these kernels read them behind the second.
    pub(super) fn fuses(&self) -> bool {
        self.tokens == 1 && self.choice.fused && !self.in_turns
    }

    /// What `residual` makes of the only token for the next reader.
    pub(super) fn undivided(&self, next: Reader<'_>) -> Activations {
        let bytes = self.bytes(next.takes_bytes, 1);
        Activations { rows: self.s.h.clone(), bytes, undivided: Some((next.norm.cols, next.norm.eps)) }
    }
}
