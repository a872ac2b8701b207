//! Choosing experts.

use super::matrix::{Matrix, for_format};
use super::{Norm, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};
use crate::weights::DType;

params! {
    experts: u32, chosen: u32, stride: u32, score: u32, table_at: u32, tokens: u32, part: u32, beside: u32,
    blocks: u32, norm_cols: u32, norm_eps: f32,
}

/// How the weight of a chosen expert follows from the router's logits. The choice itself is always the k highest logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the kernel has what the families of softmax routers need")]
pub(crate) enum RouterScore {
    /// sigmoid(logit): Llama 4.
    Sigmoid,
    /// Softmax over the chosen logits alone, which is softmax over all, renormalised to a sum of 1: Mixtral, Granite.
    SoftmaxChosen,
    /// Softmax over all logits: OLMoE.
    SoftmaxAll,
}

/// In place of a slot: none.
const ABSENT: u32 = u32::MAX;
/// Tokens of a workgroup.
const TOKENS: usize = 32;

/// What a router chooses among, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterShape {
    pub(crate) experts: usize,
    /// k.
    pub(crate) chosen: usize,
    pub(crate) score: RouterScore,
    /// Where the layer begins in the table of slots.
    pub(crate) table_at: usize,
    /// Words from ids to weights and from weights to slots.
    pub(crate) part: usize,
    /// The slot of an expert that the only token passes besides: `routing` gets a weight of 1 and this slot behind those of the
    /// chosen ones, and no id.
    pub(crate) shared: Option<u32>,
}

/// What a router chooses by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RouterInput<'a> {
    /// Logits, [tokens, row length].
    Logits(&'a Slice, usize),
    /// The residual stream of one token, the norm behind it, and the matrix that makes logits of what the norm gives.
    Stream(&'a Slice, &'a Norm, &'a Matrix),
}

/// Rows up to which one workgroup computes logits as well as several would.
const MOST_ROWS: usize = 32;

/// Whether the kernel should compute logits with `w`.
pub(crate) fn can_route(w: &Matrix) -> bool {
    w.parts.len() == 1 && w.layout.rows <= MOST_ROWS
}

/// Chooses for `tokens` tokens from the `table` of slots, [layers, experts]. `routing` gets ids, weights and slots, [tokens, k]
/// each, highest first. In a guarded recording it raises the flag where an expert is missing.
pub(crate) fn router(
    r: &mut Recorder,
    shape: &RouterShape,
    input: RouterInput<'_>,
    table: &Slice,
    routing: &Slice,
    tokens: usize,
) {
    let score = match shape.score {
        RouterScore::Sigmoid => 0,
        RouterScore::SoftmaxChosen => 1,
        RouterScore::SoftmaxAll => 2,
    };
    let mut params = Params {
        experts: u32_of(shape.experts),
        chosen: u32_of(shape.chosen),
        stride: 0,
        score,
        table_at: u32_of(shape.table_at),
        tokens: u32_of(tokens),
        part: u32_of(shape.part),
        beside: shape.shared.filter(|_| tokens == 1).unwrap_or(ABSENT),
        blocks: 0,
        norm_cols: 0,
        norm_eps: 0.0,
    };
    let mut bindings = vec![(4, routing.clone()), (5, table.clone())];
    let (dtype, weight_bytes) = match input {
        RouterInput::Logits(logits, stride) => {
            params.stride = u32_of(stride);
            bindings.push((3, logits.clone()));
            (None, 0)
        }
        RouterInput::Stream(x, norm, w) => {
            params.blocks = u32_of(w.layout.blocks());
            (params.norm_cols, params.norm_eps) = (u32_of(norm.cols), norm.eps);
            bindings.extend(w.parts.iter().flat_map(super::Part::bindings));
            bindings.extend([(3, x.clone()), (6, norm.weight.clone())]);
            (Some(w.layout.dtype), w.bytes_of_one() + norm.weight.size())
        }
    };
    r.dispatch(Dispatch {
        shader: shader(dtype),
        params: params.bytes(),
        bindings,
        groups: [u32_of(tokens.div_ceil(TOKENS)), 1, 1],
        weight_bytes,
    });
}

/// `product`: the format of the matrix that it computes logits with.
pub(super) fn shader(product: Option<DType>) -> Shader {
    let shader = Shader::new("router");
    product.map_or(shader.clone(), |dtype| for_format(shader.with("product"), dtype))
}
