//! The buffers that one forward pass works in, made once for a session.

use std::ops::Range;

use crate::Result;
use crate::dims::Dims;
use crate::gpu::{Gpu, Slice};
use crate::kernels::{DRAW_WORDS, Matmul, activation_words, span_words};

/// Alignment of a binding within a buffer, in words: WebGPU's guaranteed `minStorageBufferOffsetAlignment`.
const BINDING_WORDS: usize = 64;

/// Where intermediate results live. Rows that are multiplied by weights are floats, padded to whole blocks with zeros, or bytes.
pub(crate) struct Scratch {
    /// [1 + tokens] u32: position of the first token, then the token ids.
    pub(crate) step: Slice,
    /// [tokens, hidden]: the residual stream.
    pub(crate) x: Slice,
    /// [tokens, hidden]: normalised, or for one token so but for the division.
    pub(crate) h: Slice,
    /// [tokens, qkv].
    pub(crate) qkv: Slice,
    /// [tokens, heads, head_dim].
    pub(crate) q: Slice,
    /// [tokens, heads * head_dim].
    pub(crate) attended: Slice,
    /// [spans, heads, 4 + head_dim]: a token's attention over spans of many keys.
    pub(crate) spans: Slice,
    /// [rows, 2, inner].
    pub(crate) gate_up: Slice,
    /// [rows, inner].
    pub(crate) inner: Slice,
    /// [head rows, vocab].
    pub(crate) logits: Slice,
    /// The draw and its options, as `sample` reads them.
    pub(crate) draw: Slice,
    /// [vocab, 2]: where `sample` sorts.
    pub(crate) candidates: Slice,
    /// [2]: token id and bits of the highest logit.
    pub(crate) sampled: Slice,
    pub(crate) moe: Option<MoeScratch>,
}

/// What MoE layers need besides.
pub(crate) struct MoeScratch {
    /// [tokens, experts].
    pub(crate) router_logits: Slice,
    /// For each MoE layer what its router said, see [`RoutingLayout`]: kept until the pass is over, for whoever wants to know.
    pub(crate) routing: Slice,
    /// [experts]: slots of the experts whose turn it is.
    pub(crate) turn: Slice,
    /// The flag of guarded recordings.
    pub(crate) guard: Slice,
    /// [tiles] and [tiles, width] of `moe_group`.
    pub(crate) tiles: (Slice, Slice),
    /// [tokens, inner]: the shared expert's, while `inner` is the others'.
    pub(crate) shared: Slice,
    /// [tokens, k, hidden]: outputs of the chosen experts.
    pub(crate) parts: Slice,
}

/// Where the routing of a pass lies in its buffer: for each MoE layer ids, weights and slots, [tokens, k] each, each at an
/// offset that a kernel can bind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoutingLayout {
    layers: usize,
    pairs: usize,
}

impl RoutingLayout {
    /// Of a pass of `tokens` tokens through all layers of a model.
    pub(crate) fn new(dims: &Dims, tokens: usize) -> Self {
        Self::of(dims.moe_layers, tokens * dims.chosen)
    }

    pub(super) fn of(layers: usize, pairs: usize) -> Self {
        Self { layers, pairs }
    }

    /// 32-bit words of all layers.
    pub(crate) fn words(&self) -> usize {
        3 * self.layers * self.stride()
    }

    /// Words of ids, of weights and of slots of a layer.
    pub(crate) fn ranges(&self, layer: usize) -> [Range<usize>; 3] {
        [0, 1, 2].map(|part| (3 * layer + part) * self.stride()).map(|at| at..at + self.pairs)
    }

    /// Words from ids to weights, and from weights to slots. There is room for one pair more, of a shared expert.
    pub(super) fn stride(&self) -> usize {
        (self.pairs + 1).next_multiple_of(BINDING_WORDS)
    }
}

impl MoeScratch {
    /// Weights and slots of a layer's chosen experts and, behind them, of its shared one, of a single token.
    pub(super) fn routing_with_shared(&self, layout: &RoutingLayout, layer: usize) -> [Slice; 2] {
        let [_, weights, slots] = layout.ranges(layer);
        [weights, slots].map(|range| self.routing.words(range.start, range.len() + 1))
    }

    /// Ids, weights and slots of a layer.
    pub(crate) fn routing(&self, layout: &RoutingLayout, layer: usize) -> [Slice; 3] {
        layout.ranges(layer).map(|range| self.routing.words(range.start, range.len()))
    }

    /// All three in one.
    pub(super) fn routing_of(&self, layout: &RoutingLayout, layer: usize) -> Slice {
        self.routing.words(3 * layer * layout.stride(), 3 * layout.stride())
    }
}

impl Scratch {
    /// For passes of up to `tokens` tokens computed by `matmul`, with logits for up to `head_rows` of them, and a cache of
    /// `context` positions.
    pub(crate) fn new(gpu: &Gpu, dims: &Dims, matmul: Matmul, tokens: usize, head_rows: usize, context: usize) -> Result<Self> {
        let words = |label, words: usize| Ok::<_, crate::Error>(gpu.storage(label, 4 * words as u64)?.whole());
        let padded = |cols: usize| cols.next_multiple_of(32);
        let expert_rows = if dims.moe_layers > 0 { tokens * dims.chosen } else { 0 };
        // One row more where a shared expert is computed with a token's others.
        let inner = activation_words(tokens, dims.inner).max(activation_words(expert_rows + 1, dims.expert_inner));
        let moe = (dims.moe_layers > 0).then(|| {
            let (tiles, tile_pairs) = matmul.tile_words(expert_rows, dims.experts);
            Ok::<_, crate::Error>(MoeScratch {
                router_logits: words("router_logits", tokens * dims.experts)?,
                routing: words("routing", RoutingLayout::new(dims, tokens).words())?,
                turn: words("expert_turn", dims.experts)?,
                guard: words("guard", 1)?,
                tiles: (words("tile_expert", tiles)?, words("tile_pairs", tile_pairs)?),
                shared: words("shared_inner", activation_words(tokens, dims.expert_inner))?,
                parts: words("expert_parts", expert_rows * padded(dims.hidden))?,
            })
        });
        Ok(Self {
            step: words("step", 1 + tokens)?,
            x: words("x", tokens * padded(dims.hidden))?,
            h: words("h", activation_words(tokens, dims.hidden))?,
            qkv: words("qkv", tokens * dims.qkv())?,
            q: words("q", tokens * dims.heads * dims.head_dim)?,
            attended: words("attended", activation_words(tokens, dims.heads * dims.head_dim))?,
            spans: words("spans", span_words(dims.heads, dims.head_dim, context))?,
            gate_up: words("gate_up", 2 * (tokens * dims.inner).max(expert_rows * dims.expert_inner))?,
            inner: words("inner", inner)?,
            logits: words("logits", head_rows * dims.vocab)?,
            draw: words("draw", DRAW_WORDS)?,
            candidates: words("candidates", 2 * dims.vocab)?,
            sampled: words("sampled", 2)?,
            moe: moe.transpose()?,
        })
    }
}
