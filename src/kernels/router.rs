//! Choosing experts.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { experts: u32, chosen: u32, stride: u32, score: u32 }

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

/// `logits` [tokens, stride] to `ids` and `weights` [tokens, k], highest first.
#[expect(clippy::too_many_arguments, reason = "a kernel's operands and sizes")]
pub(crate) fn router(
    r: &mut Recorder,
    logits: &Slice,
    ids: &Slice,
    weights: &Slice,
    experts: usize,
    stride: usize,
    chosen: usize,
    score: RouterScore,
    tokens: usize,
) {
    let score = match score {
        RouterScore::Sigmoid => 0,
        RouterScore::SoftmaxChosen => 1,
        RouterScore::SoftmaxAll => 2,
    };
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { experts: u32_of(experts), chosen: u32_of(chosen), stride: u32_of(stride), score }.bytes(),
        bindings: vec![(1, logits.clone()), (2, ids.clone()), (3, weights.clone())],
        groups: [u32_of(tokens), 1, 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("router")
}
