//! Causal attention over the KV cache with grouped queries, keys possibly limited to the query's chunk.

use super::merge_attention::merge_attention;
use super::rope_append::{self, RopeShape};
use super::{KvType, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! {
    heads: u32, kv_heads: u32, head_dim: u32, context: u32, chunk: u32, scale: f32, spans: u32, batches: u32, to_bytes: u32, rotate: u32, coarse_rows: u32, eps: f32, floor_scale: f32, temperature: f32,
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

    /// Keys of a workgroup.
    pub(super) fn tile(&self) -> usize {
        tile(self.head_dim, self.batches().1)
    }

    /// Workgroups that share the keys of one token.
    pub(super) fn spans(&self) -> usize {
        let keys = match self.chunk {
            0 => self.most_keys,
            // Tiles begin where the cache's positions that lie together do, not where the chunk does.
            chunk if chunk.is_multiple_of(KvType::TOGETHER) => chunk.min(self.most_keys),
            chunk => (chunk + KvType::TOGETHER - 1).min(self.most_keys),
        };
        keys.div_ceil(self.tile()).max(1)
    }

    /// How the heads that share a key are divided among workgroups: workgroups, and heads of each.
    fn batches(&self) -> (usize, usize) {
        let sharing = self.heads / self.kv_heads;
        let batches = sharing.div_ceil(MOST_HEADS);
        (batches, sharing.div_ceil(batches))
    }
}

/// Keys of a workgroup that has many heads or wide ones, for whose scores there is memory.
const TILE: usize = 512;
/// Keys of another.
const LONG_TILE: usize = 1024;
/// The most heads that a workgroup computes.
const MOST_HEADS: usize = 4;

/// Keys of a workgroup that computes so many heads. They depend on nothing else, so that a result is the same in any cache.
fn tile(head_dim: usize, heads: usize) -> usize {
    if narrow(head_dim) && heads < MOST_HEADS { LONG_TILE } else { TILE }
}

/// Whether queries take little memory.
fn narrow(head_dim: usize) -> bool {
    head_dim <= 64
}

/// For how many keys the work of a token at this position is recorded: the next power of two, so that there are few recordings and
/// no more workgroups without keys than with some. Those cost software adapters as much as a quarter of the others.
pub(crate) fn most_keys(position: usize, context: usize) -> usize {
    context.min(position.next_power_of_two().max(TILE))
}

/// Words of what workgroups compute over tiles of the keys in a cache of this many positions.
pub(crate) fn span_words(heads: usize, head_dim: usize, context: usize) -> usize {
    context.div_ceil(TILE) * heads * (head_dim + 4)
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
        eps: rope.eps,
        floor_scale: rope.floor_scale,
        temperature: rope.temperature,
    };
    let out = if spans > 1 { s.spans } else { s.out };
    let mut bindings = vec![(1, new.qkv.clone()), (2, new.table.clone()), (4, out.clone())];
    bindings.extend(s.bindings());
    r.dispatch(Dispatch {
        shader: shader(s.kv, shape.head_dim, heads, new.rope.normalize.is_some()),
        params: params.bytes(),
        bindings,
        groups: [u32_of(spans), u32_of(shape.kv_heads * batches), 1],
        weight_bytes: 0,
    });
    if spans > 1 {
        merge_attention(r, shape, s);
    }
}

/// A workgroup computes `heads` of them, 1 to 4. `normalized`: q and k are. That needs loops that cost software adapters even where
/// they are passed over.
pub(super) fn shader(kv: KvType, head_dim: usize, heads: usize, normalized: bool) -> Shader {
    let shader = kv.variant(Shader::new("attention")).with_if(narrow(head_dim), "narrow").with_if(normalized, "normalized");
    let shader = shader.with_if(tile(head_dim, heads) == LONG_TILE, "long_tiles");
    shader.with(["heads_1", "heads_2", "heads_3", "heads_4"][heads.clamp(1, MOST_HEADS) - 1])
}
