//! Self-attention: projections, rotation, cache, attention, output projection, residual.

use super::{Linear, Norm, Pass};
use crate::gpu::Slice;
use crate::kernels::{AttentionShape, AttentionSlices, RopeShape, RopeSlices, Rotate, attention, rope_append};

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
    /// x += attention(norm(x)); the layer's keys and values go into cache `layer`.
    pub(crate) fn record(&self, p: &mut Pass<'_>, layer: usize) {
        let (s, tokens, context) = (p.s, p.tokens, p.kv.context);
        let hidden = self.norm.cols.next_multiple_of(32);
        let out_cols = self.heads * self.head_dim;
        let (k_cache, v_cache) = &p.kv.layers[layer];
        let (heads, kv_heads, head_dim, kv_f32) = (self.heads, self.kv_heads, self.head_dim, p.kv.f32);

        self.norm.record(p, 0, tokens);
        let h = p.activations(&s.h, self.norm.cols, tokens, &s.h_bytes, &[&self.qkv]);
        self.qkv.record(p, &h, tokens, &s.qkv, self.qkv.rows, false);

        let (rotate, normalize, temperature) = (self.rotate, self.normalize, self.temperature);
        let shape = RopeShape { heads, kv_heads, head_dim, stride: self.qkv.rows, context, rotate, normalize, temperature };
        let slices = RopeSlices { qkv: &s.qkv, table: &self.rope_table, step: &s.step, q: &s.q, k_cache, v_cache, kv_f32 };
        rope_append(&mut p.r, &shape, &slices, tokens);

        let (out_stride, scale) = (out_cols.next_multiple_of(32), (head_dim as f32).sqrt().recip());
        let shape = AttentionShape { heads, kv_heads, head_dim, out_stride, context, chunk: self.chunk, scale };
        let slices = AttentionSlices { q: &s.q, k_cache, v_cache, step: &s.step, out: &s.attended, kv_f32 };
        attention(&mut p.r, &shape, &slices, tokens);

        let attended = p.activations(&s.attended, out_cols, tokens, &s.inner_bytes, &[&self.out]);
        self.out.record(p, &attended, tokens, &s.x, hidden, true);
    }
}
