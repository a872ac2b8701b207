//! Self-attention: projections, rotation, cache, attention, output projection, residual.

use super::{Linear, Pass, Reader};
use crate::gpu::Slice;
use crate::kernels::{
    Activations, AttentionShape, AttentionSlices, Norm, Projected, RopeShape, RopeSlices, Rotate, attention, can_make_bytes,
    prompt_attention, rope_append,
};

/// One layer's attention. Families differ in the fields, not in the order of steps.
pub(crate) struct Attention {
    pub(crate) norm: Norm,
    /// q, k and v stacked.
    pub(crate) qkv: Linear,
    pub(crate) out: Linear,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rotate: Rotate,
    /// Cosines and sines, see [`crate::rope::table`].
    pub(crate) rope_table: Slice,
    /// q and k divided by their root mean square, with this epsilon, after the rotation.
    pub(crate) normalize: Option<f32>,
    /// q scaled with its position: (floor_scale, scale).
    pub(crate) temperature: Option<(f32, f32)>,
    /// Positions in a chunk outside of which a query sees nothing; 0: no chunks.
    pub(crate) chunk: usize,
}

impl Attention {
    /// What it reads behind its norm.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { norm: &self.norm, takes_bytes: self.qkv.takes_bytes() }
    }

    /// x += attention(h), and the norm of that for the next; the layer's keys and values go into cache `layer`.
    pub(crate) fn record(
        &self,
        p: &mut Pass<'_>,
        h: &Activations,
        layer: usize,
        next: Option<Reader<'_>>,
    ) -> Option<Activations> {
        let (s, tokens, context, most_keys) = (p.s, p.tokens, p.kv.context, p.most_keys);
        let (k_cache, v_cache) = &p.kv.layers[layer];
        let (heads, kv_heads, head_dim, kv) = (self.heads, self.kv_heads, self.head_dim, p.kv.kv);
        self.qkv.record(p, h, tokens, &s.qkv, self.qkv.rows, false);

        let (rotate, normalize, temperature) = (self.rotate, self.normalize, self.temperature);
        let rope = RopeShape { heads, kv_heads, head_dim, stride: self.qkv.rows, context, rotate, normalize, temperature };
        let bytes = p.bytes(self.out.takes_bytes() && can_make_bytes(head_dim), tokens);
        let shape = AttentionShape {
            heads,
            kv_heads,
            head_dim,
            context,
            most_keys,
            chunk: self.chunk,
            scale: (head_dim as f32).sqrt().recip(),
        };
        let slices = AttentionSlices { k_cache, v_cache, step: &s.step, out: &s.attended, spans: &s.spans, bytes, kv };
        if tokens == 1 {
            attention(&mut p.r, &shape, &Projected { rope: &rope, qkv: &s.qkv, table: &self.rope_table }, &slices);
        } else {
            let rotated = RopeSlices { qkv: &s.qkv, table: &self.rope_table, step: &s.step, q: &s.q, k_cache, v_cache, kv };
            rope_append(&mut p.r, &rope, &rotated, tokens);
            prompt_attention(&mut p.r, &shape, &s.q, &slices, tokens, p.choice.four_rows);
        }

        let attended = Activations { rows: s.attended.clone(), bytes, undivided: None };
        p.add(&self.out, &attended, next)
    }
}
