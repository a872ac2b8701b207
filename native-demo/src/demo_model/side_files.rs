//! The demo model's configuration and text files, in Hugging Face's form.

use std::collections::BTreeMap;

use moxel::{Error, Result};
use serde_json::{Map, Value, json};

use super::recipe::{EXPERTS, HIDDEN, LAYERS, NEURONS, PARENT_NEURONS, is_moe};
use super::tensors::VOCABULARY;

const BOS: u32 = 1;
const EOS: u32 = 2;
/// The value of a control token in `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;

/// All files besides the weights, by name. The tokenizer and the chat template are the parent's, from its metadata.
pub fn side_files(metadata: &Map<String, Value>) -> Result<BTreeMap<String, Vec<u8>>> {
    let template = text(metadata, "tokenizer.chat_template")?;
    let files = [
        ("config.json", config().to_string()),
        ("generation_config.json", ends().to_string()),
        ("tokenizer.json", tokenizer(metadata)?.to_string()),
        ("tokenizer_config.json", tokenizer_config(metadata)?.to_string()),
        ("chat_template.jinja", template.to_owned()),
    ];
    Ok(files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect())
}

fn ends() -> Value {
    json!({ "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": EOS })
}

fn config() -> Value {
    json!({
        "architectures": ["Llama4ForCausalLM"],
        "model_type": "llama4_text",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": NEURONS,
        "intermediate_size_mlp": PARENT_NEURONS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
        "tie_word_embeddings": true,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": 1,
        "moe_layers": (0..LAYERS).filter(|&layer| is_moe(layer)).collect::<Vec<_>>(),
        "interleave_moe_layer_step": 2,
        "use_qk_norm": false,
        "attn_temperature_tuning": false,
        "no_rope_layers": vec![1; LAYERS],
        "attention_chunk_size": 8192,
        "layer_types": vec!["full_attention"; LAYERS],
        "rope_parameters": { "rope_type": "default", "rope_theta": 100_000.0 },
        "initializer_range": 0.02,
        "router_aux_loss_coef": 0.0,
        "use_cache": true,
        "dtype": "bfloat16",
    })
}

/// The byte-level vocabulary as `tokenizer.json` spells it. Digits stand alone: the pre-tokenizer that GGUF calls `smollm`.
fn tokenizer(metadata: &Map<String, Value>) -> Result<Value> {
    let tokens = texts(metadata, "tokenizer.ggml.tokens")?;
    let kinds = list(metadata, "tokenizer.ggml.token_type")?;
    let control = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| kind.as_i64() == Some(CONTROL));
    let added = control.map(|(id, (token, _))| {
        json!({ "id": id, "content": token, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false })
    });
    let merges = texts(metadata, "tokenizer.ggml.merges")?;
    let vocabulary: Map<String, Value> = tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id.into())).collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let digits = json!({ "type": "Digits", "individual_digits": true });
    Ok(json!({
        "version": "1.0",
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [digits, byte_level.clone()] },
        "post_processor": null,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges },
    }))
}

fn tokenizer_config(metadata: &Map<String, Value>) -> Result<Value> {
    let tokens = texts(metadata, "tokenizer.ggml.tokens")?;
    let token = |id: u32| tokens.get(id as usize).copied().unwrap_or_default();
    Ok(json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token(BOS),
        "eos_token": token(EOS),
        "pad_token": token(EOS),
        "unk_token": token(0),
        "model_max_length": 8192,
    }))
}

fn texts<'a>(metadata: &'a Map<String, Value>, key: &str) -> Result<Vec<&'a str>> {
    list(metadata, key)?.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(|| invalid(key, "is no list of strings"))
}

fn list<'a>(metadata: &'a Map<String, Value>, key: &str) -> Result<&'a [Value]> {
    metadata.get(key).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| invalid(key, "is no list"))
}

fn text<'a>(metadata: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    metadata.get(key).and_then(Value::as_str).ok_or_else(|| invalid(key, "is no string"))
}

fn invalid(key: &str, problem: &str) -> Error {
    Error::Tokenizer(format!("{key} {problem} in the parent's metadata"))
}
