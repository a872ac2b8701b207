//! A tiny golden checkpoint with a tokenizer and a chat template, so that it can be talked with.
//!
//! The golden checkpoints have none: their numbers are about ids. Here every byte is a token, and the rest of the vocabulary
//! are words.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Ids before those of the bytes: padding, beginning and end.
pub const SPECIAL: [&str; 3] = ["<pad>", "<s>", "</s>"];

const TEMPLATE: &str = "{% for message in messages %}{{ message.role }}: {{ message.content }}</s>{% endfor %}\
                        {% if add_generation_prompt %}assistant: {% endif %}";

/// Copies the golden checkpoint `name` of this repository into `folder` and teaches it to spell; returns where it is.
pub fn spoken_model(repository: &Path, name: &str, folder: &Path) -> PathBuf {
    let (from, to) = (repository.join("tests/golden").join(name), folder.join(name));
    fs::create_dir_all(&to).expect("a folder for the model");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(file), to.join(file)).unwrap_or_else(|e| panic!("{}: {e}", from.join(file).display()));
    }
    let config: Value = serde_json::from_slice(&fs::read(from.join("config.json")).expect("config")).expect("json");
    let vocab = config["vocab_size"].as_u64().expect("a vocabulary") as usize;
    write(&to.join("tokenizer.json"), &tokenizer(vocab));
    write(&to.join("tokenizer_config.json"), &json!({ "chat_template": TEMPLATE, "eos_token": "</s>", "bos_token": "<s>" }));
    to
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A byte-level `tokenizer.json` without merges.
fn tokenizer(vocab: usize) -> Value {
    let mut spellings: Vec<String> = SPECIAL.iter().map(ToString::to_string).collect();
    spellings.extend((0..=255).map(|byte| spelling(byte).to_string()));
    spellings.extend((spellings.len()..vocab).map(|id| format!("Ġw{id}")));
    let entries: Map<String, Value> = spellings.into_iter().zip(0..).map(|(token, id)| (token, json!(id))).collect();
    let special = SPECIAL.iter().zip(0..).map(|(token, id): (_, u32)| {
        json!({ "id": id, "content": token, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false })
    });
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    json!({
        "version": "1.0",
        "added_tokens": special.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": entries, "merges": [] },
    })
}

/// The character that stands for a byte in GPT-2's vocabulary and all byte-level ones since.
fn spelling(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    if printable(byte) { char::from(byte) } else { char::from_u32(256 + before).expect("a character") }
}
