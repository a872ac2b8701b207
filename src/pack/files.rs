//! The files of a packed model besides its shards.

use serde_json::{Map, Value, json};

use super::folder::Partial;
use super::plan::Plan;
use super::shard_name;
use crate::weights::{CONFIG, Checkpoint, Format, INDEX, MANIFEST, Manifest};
use crate::{Error, Result};

/// What a Hugging Face directory may hold that belongs to the model.
const SIDE_FILES: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "LICENSE",
    "README.md",
];

/// The configuration and whatever goes with it. A GGUF file has everything in its metadata, which becomes `config.json`.
pub(super) async fn copy_side_files(checkpoint: &Checkpoint, partial: &Partial) -> Result<()> {
    if checkpoint.format() == Format::Gguf {
        return partial.write(CONFIG, &json_bytes(checkpoint.config())?);
    }
    for name in [CONFIG].iter().chain(&SIDE_FILES) {
        if let Some(bytes) = checkpoint.side_file(name).await? {
            partial.write(name, &bytes)?;
        }
    }
    Ok(())
}

/// Which shard holds which tensor, for programs that know Hugging Face directories.
pub(super) fn write_index(plan: &Plan<'_>, partial: &Partial) -> Result<()> {
    let mut map = Map::new();
    for (index, contents) in plan.shards.iter().enumerate() {
        let file = shard_name(index, plan.shards.len());
        map.extend(contents.iter().map(|content| (content.name(plan), Value::from(file.as_str()))));
    }
    partial.write(INDEX, &json_bytes(&json!({ "metadata": { "total_size": plan.bytes() }, "weight_map": map }))?)
}

pub(super) fn write_manifest(manifest: &Manifest, partial: &Partial) -> Result<()> {
    partial.write(MANIFEST, &json_bytes(manifest)?)
}

fn json_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Request(format!("cannot write JSON: {error}")))
}
