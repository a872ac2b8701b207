//! A synthetic model's configuration and its tokenizer, in GGUF's keys.

use super::{HEAD, Size};
use crate::virtual_model::gguf::Value;

/// Ids before those of the bytes: beginning and end of a text.
const SPECIAL: [&str; 2] = ["<s>", "</s>"];
const END: usize = 1;
/// Every byte is a token.
pub const VOCABULARY: usize = SPECIAL.len() + 256;

const CONTEXT: u32 = 8192;
/// Low, so that attention fades with distance: see `tensors.rs`.
const ROPE_BASE: f32 = 20.0;

const TEMPLATE: &str = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant: {% endif %}";

pub fn metadata(size: &Size) -> Vec<(&'static str, Value)> {
    let number = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let tokens = SPECIAL.iter().map(ToString::to_string).chain((0..=255).map(|byte| spelling(byte).to_string()));
    // 3 is a control token, 1 an ordinary one.
    let kinds = (0..VOCABULARY).map(|id| if id < SPECIAL.len() { 3 } else { 1 });
    vec![
        ("general.architecture", Value::Text("llama4".into())),
        ("general.name", Value::Text("synthetic".into())),
        ("llama4.block_count", number(size.layers)),
        ("llama4.context_length", Value::U32(CONTEXT)),
        ("llama4.embedding_length", number(size.hidden)),
        ("llama4.feed_forward_length", number(size.inner)),
        ("llama4.expert_feed_forward_length", number(size.inner)),
        ("llama4.expert_count", number(size.experts)),
        ("llama4.expert_used_count", number(size.chosen)),
        ("llama4.interleave_moe_layer_step", Value::U32(1)),
        ("llama4.attention.head_count", number(size.heads())),
        ("llama4.attention.head_count_kv", number(size.kv_heads())),
        ("llama4.attention.key_length", number(HEAD)),
        ("llama4.attention.value_length", number(HEAD)),
        ("llama4.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        // Every layer rotates and sees the whole text.
        ("llama4.attention.sliding_window", Value::U32(0)),
        ("llama4.rope.freq_base", Value::F32(ROPE_BASE)),
        ("llama4.rope.dimension_count", number(HEAD)),
        ("llama4.vocab_size", number(VOCABULARY)),
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text("gpt-2".into())),
        ("tokenizer.ggml.tokens", Value::Texts(tokens.collect())),
        ("tokenizer.ggml.token_type", Value::I32s(kinds.collect())),
        ("tokenizer.ggml.merges", Value::Texts(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", number(END)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.chat_template", Value::Text(TEMPLATE.into())),
    ]
}

/// Whether a token is a visible ASCII character or a space.
pub fn is_printable(id: usize) -> bool {
    (SPECIAL.len() + 0x20..SPECIAL.len() + 0x7f).contains(&id)
}

/// The character that stands for a byte in GPT-2's vocabulary and all byte-level ones since.
fn spelling(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    if printable(byte) { char::from(byte) } else { char::from_u32(256 + before).unwrap_or_default() }
}
