//! What a tensor outside the routed experts is to the model, as far as choosing its format must know.

use super::common::{ATTENTION, EMBEDDING, HEAD};
use super::names::Module;
use super::{llama, llama4};

/// What a tensor is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The embedding or the head.
    Ends,
    /// A projection of attention.
    Attention,
    /// A projection of a dense feed-forward layer.
    FeedForward,
    /// A projection of an expert that every token passes through.
    SharedExpert,
    /// Routers, norms, biases, and what takes no part in text.
    Other,
}

/// The role of the tensor of this name, be it a Hugging Face or a GGUF one.
pub(crate) fn role(name: &str) -> Role {
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    let is = |(huggingface, gguf): Module| name == huggingface || name == gguf;
    if is(EMBEDDING) || is(HEAD) {
        return Role::Ends;
    }
    let Some((within, huggingface)) = within_layer(name) else { return Role::Other };
    let any = |modules: &[Module]| modules.iter().any(|module| within == if huggingface { module.0 } else { module.1 });
    if any(&ATTENTION) {
        Role::Attention
    } else if any(&llama4::SHARED) {
        Role::SharedExpert
    } else if any(&llama::MLP) || any(&llama4::DENSE) {
        Role::FeedForward
    } else {
        Role::Other
    }
}

/// The module whose weight has this name, within its layer, and whether the name is a Hugging Face one.
fn within_layer(name: &str) -> Option<(&str, bool)> {
    let (rest, huggingface) = match name.strip_prefix("model.layers.") {
        Some(rest) => (rest, true),
        None => (name.strip_prefix("blk.")?, false),
    };
    let (layer, module) = rest.split_once('.')?;
    let numbered = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
    Some((module.strip_suffix(".weight")?, huggingface)).filter(|_| numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_roles() {
        let cases = [
            (Role::Ends, ["model.embed_tokens.weight", "language_model.lm_head.weight", "token_embd.weight", "output.weight"]),
            (
                Role::Attention,
                [
                    "model.layers.0.self_attn.q_proj.weight",
                    "language_model.model.layers.12.self_attn.o_proj.weight",
                    "blk.3.attn_output.weight",
                    "blk.47.attn_v.weight",
                ],
            ),
            (
                Role::FeedForward,
                [
                    "model.layers.0.mlp.down_proj.weight",
                    "model.layers.1.feed_forward.gate_proj.weight",
                    "blk.0.ffn_up.weight",
                    "blk.1.ffn_down.weight",
                ],
            ),
            (
                Role::SharedExpert,
                [
                    "model.layers.1.feed_forward.shared_expert.gate_proj.weight",
                    "language_model.model.layers.1.feed_forward.shared_expert.down_proj.weight",
                    "blk.0.ffn_up_shexp.weight",
                    "blk.1.ffn_down_shexp.weight",
                ],
            ),
            (
                Role::Other,
                [
                    "model.layers.1.feed_forward.router.weight",
                    "vision_model.model.layers.0.self_attn.q_proj.weight",
                    "blk.0.attn_norm.weight",
                    "model.layers.0.self_attn.q_proj.bias",
                ],
            ),
            (Role::Other, ["blk.0.ffn_gate_inp.weight", "output_norm.weight", "rope_freqs.weight", "blk.x.attn_q.weight"]),
        ];
        for (expected, names) in cases {
            for name in names {
                assert_eq!(role(name), expected, "{name}");
            }
        }
    }
}
