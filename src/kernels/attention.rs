//! Causal attention over the KV cache with grouped queries, keys possibly limited to the query's chunk.

use super::merge_attention::merge_attention;
use super::rope_append::{self, RopeShape};
use super::{KvType, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! {
    heads: u32, kv_heads: u32, head_dim: u32, context: u32, chunk: u32, scale: f32, spans: u32, batches: u32, to_bytes: u32, rotate: u32, coarse_rows: u32, normalize: u32, eps: f32, floor_scale: f32, temperature: f32,
}

/// The largest head that the kernels' memory holds.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// Sizes of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Positions in the cache.
    pub(crate) context: usize,
    /// Keys in the cache that a single token finds there at most.
    pub(crate) most_keys: usize,
    /// Positions in a chunk outside of which a query sees nothing; 0: no chunks.
    pub(crate) chunk: usize,
    /// Factor of the scores.
    pub(crate) scale: f32,
}

impl AttentionShape {
    /// Row length of the result.
    pub(super) fn out_stride(&self) -> usize {
        (self.heads * self.head_dim).next_multiple_of(32)
    }

    /// Workgroups that share the keys of one token.
    pub(super) fn spans(&self) -> usize {
        spans(if self.chunk == 0 { self.most_keys } else { self.chunk.min(self.most_keys) })
    }

    /// How the heads that share a key are divided among workgroups: workgroups, and heads of each.
    fn batches(&self) -> (usize, usize) {
        let sharing = self.heads / self.kv_heads;
        let batches = sharing.div_ceil(MOST_HEADS);
        (batches, sharing.div_ceil(batches))
    }
}

/// Keys of a tile, for whose scores a workgroup has memory; also in `shared/spans.wgsl`.
const TILE: usize = 512;
/// The most workgroups that share the keys of a head. What is recorded is submitted again at many positions, so that some of them
/// may have nothing to do, and on software adapters that is not free.
const MOST_SPANS: usize = 4;
/// The most heads that a workgroup computes.
const MOST_HEADS: usize = 4;

/// Workgroups that share the keys of one token, which sees up to `most_keys`: as many as there are tiles of them.
fn spans(most_keys: usize) -> usize {
    most_keys.div_ceil(TILE).clamp(1, MOST_SPANS)
}

/// Keys in a cache of so many positions that a single token finds there at most, by the position of one: the same for all positions
/// at which few keys are there, and for all others.
pub(crate) fn most_keys(position: usize, context: usize) -> usize {
    if position <= TILE { context.min(TILE) } else { context }
}

/// Words of what workgroups compute over spans of the keys in a cache of this many positions.
pub(crate) fn span_words(heads: usize, head_dim: usize, context: usize) -> usize {
    spans(context) * heads * (head_dim + 4)
}

/// One token's stacked projections and the rotation's table.
pub(crate) struct Projected<'a> {
    pub(crate) rope: &'a RopeShape,
    pub(crate) qkv: &'a Slice,
    pub(crate) table: &'a Slice,
}

/// Slices: the layer's two caches, `step`, `out` [tokens, heads * head_dim padded to 32].
pub(crate) struct AttentionSlices<'a> {
    pub(crate) k_cache: &'a Slice,
    pub(crate) v_cache: &'a Slice,
    pub(crate) step: &'a Slice,
    pub(crate) out: &'a Slice,
    /// [`span_words`], used by one token that may find more keys than a span has.
    pub(crate) spans: &'a Slice,
    /// `out` is bytes, see [`can_make_bytes`].
    pub(crate) bytes: bool,
    /// What the caches hold.
    pub(crate) kv: KvType,
}

impl AttentionSlices<'_> {
    pub(super) fn bindings(&self) -> [(u32, Slice); 3] {
        [(3, self.step.clone()), (5, self.k_cache.clone()), (6, self.v_cache.clone())]
    }
}

/// Whether heads of this size are whole blocks.
pub(crate) fn can_make_bytes(head_dim: usize) -> bool {
    head_dim.is_multiple_of(32)
}

/// Of one token, whose key and value it appends to the caches as `rope_append` does.
pub(crate) fn attention(r: &mut Recorder, shape: &AttentionShape, new: &Projected<'_>, s: &AttentionSlices<'_>) {
    let (spans, (batches, heads)) = (shape.spans(), shape.batches());
    let rope = rope_append::Params::new(new.rope, new.table);
    let params = Params {
        heads: u32_of(shape.heads),
        kv_heads: u32_of(shape.kv_heads),
        head_dim: u32_of(shape.head_dim),
        context: u32_of(shape.context),
        chunk: u32_of(shape.chunk),
        scale: shape.scale,
        spans: u32_of(spans),
        batches: u32_of(batches),
        to_bytes: u32::from(s.bytes && spans == 1),
        rotate: rope.rotate,
        coarse_rows: rope.coarse_rows,
        normalize: u32::from(new.rope.normalize.is_some()),
        eps: rope.eps,
        floor_scale: rope.floor_scale,
        temperature: rope.temperature,
    };
    let out = if spans > 1 { s.spans } else { s.out };
    let mut bindings = vec![(1, new.qkv.clone()), (2, new.table.clone()), (4, out.clone())];
    bindings.extend(s.bindings());
    r.dispatch(Dispatch {
        shader: shader(s.kv, shape.head_dim <= 64, heads),
        params: params.bytes(),
        bindings,
        groups: [u32_of(spans), u32_of(shape.kv_heads * batches), 1],
        weight_bytes: 0,
    });
    if spans > 1 {
        merge_attention(r, shape, s);
    }
}

/// `narrow`: heads of up to 64 dimensions. A workgroup computes `heads` of them, 1 to 4.
pub(super) fn shader(kv: KvType, narrow: bool, heads: usize) -> Shader {
    let shader = kv.variant(Shader::new("attention")).with_if(narrow, "narrow");
    shader.with(["heads_1", "heads_2", "heads_3", "heads_4"][heads.clamp(1, MOST_HEADS) - 1])
}
