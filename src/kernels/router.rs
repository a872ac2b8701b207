//! Choosing experts.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { experts: u32, chosen: u32, stride: u32, score: u32, table_at: u32, tokens: u32 }

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

/// Tokens of a workgroup.
const TOKENS: usize = 32;

/// What a router chooses among, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterShape {
    pub(crate) experts: usize,
    /// k.
    pub(crate) chosen: usize,
    /// Row length of the logits.
    pub(crate) stride: usize,
    pub(crate) score: RouterScore,
    /// Where the layer begins in the table of slots.
    pub(crate) table_at: usize,
}

/// Operands of [`router`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterSlices<'a> {
    /// [tokens, stride].
    pub(crate) logits: &'a Slice,
    /// [layers, experts].
    pub(crate) table: &'a Slice,
    /// [tokens, k], highest first.
    pub(crate) ids: &'a Slice,
    /// [tokens, k].
    pub(crate) weights: &'a Slice,
    /// [tokens, k].
    pub(crate) slots: &'a Slice,
}

/// Chooses for `tokens` tokens. In a guarded recording it raises the flag where an expert is missing.
pub(crate) fn router(r: &mut Recorder, shape: &RouterShape, slices: &RouterSlices<'_>, tokens: usize) {
    let score = match shape.score {
        RouterScore::Sigmoid => 0,
        RouterScore::SoftmaxChosen => 1,
        RouterScore::SoftmaxAll => 2,
    };
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params {
            experts: u32_of(shape.experts),
            chosen: u32_of(shape.chosen),
            stride: u32_of(shape.stride),
            score,
            table_at: u32_of(shape.table_at),
            tokens: u32_of(tokens),
        }
        .bytes(),
        bindings: vec![
            (1, slices.logits.clone()),
            (2, slices.ids.clone()),
            (3, slices.weights.clone()),
            (4, slices.slots.clone()),
            (5, slices.table.clone()),
        ],
        groups: [u32_of(tokens.div_ceil(TOKENS)), 1, 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("router")
}
