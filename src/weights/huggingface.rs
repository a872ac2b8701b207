//! A Hugging Face directory: `config.json` and safetensors files, one or several with an index.

use super::{
    checkpoint::{Format, Opened},
    json, safetensors, shard_index,
    source::{WeightSource, display_name, read_small_file},
    tensors::{TensorTable, format_error},
    text::shown,
};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::{collections::HashSet, sync::Arc};

pub(crate) const CONFIG: &str = "config.json";
pub(super) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

// Real files stay far below these.
const MAX_CONFIG: u64 = 4 << 20;
const MAX_CONFIG_VALUES: usize = 100_000;
/// All metadata of a GGUF file, its tokenizer included.
const MAX_GGUF_CONFIG: u64 = 256 << 20;
const MAX_GGUF_VALUES: usize = 1 << 22;
const MAX_INDEX: u64 = 64 << 20;

/// Opens the directory, or with `file` not empty that safetensors file of it alone.
pub(super) async fn open(source: &dyn WeightSource, file: &str) -> Result<Opened> {
    let config = read_config(source, Format::HuggingFace).await?;
    let mut tensors = TensorTable::default();
    let single = if file.is_empty() { SINGLE } else { file };
    if let Some(size) = source.size(single).await? {
        add_file(source, single, size, &[], &mut tensors).await?;
    } else if file.is_empty() {
        add_shards(source, &mut tensors).await?;
    } else {
        return Err(missing(source, file, "there is no such file"));
    }
    Ok(Opened { format: Format::HuggingFace, file: display_name(source, CONFIG), config, tensors, packed: None })
}

/// Reads `config.json`, whose keys are those of `format`.
pub(super) async fn read_config(source: &dyn WeightSource, format: Format) -> Result<Map<String, Value>> {
    let (most_bytes, most_values) = match format {
        Format::HuggingFace => (MAX_CONFIG, MAX_CONFIG_VALUES),
        Format::Gguf => (MAX_GGUF_CONFIG, MAX_GGUF_VALUES),
    };
    let config = read_small_file(source, CONFIG, most_bytes).await?.ok_or_else(|| {
        let cause = "there is no such file, and without it the tensors say nothing about the model";
        missing(source, CONFIG, cause)
    })?;
    json::parse_object(&config, most_values).map_err(|problem| format_error(&display_name(source, CONFIG), problem))
}

/// Adds the tensors of one file, which must hold all those that the index `places` there.
async fn add_file(source: &dyn WeightSource, file: &str, size: u64, places: &[String], tensors: &mut TensorTable) -> Result<()> {
    let listed = safetensors::read_header(source, file, size).await?;
    let held: HashSet<&str> = listed.iter().map(|tensor| tensor.name.as_str()).collect();
    if let Some(name) = places.iter().find(|name| !held.contains(name.as_str())) {
        let problem = format!("{INDEX} places the tensor {} here, but it is not", shown(name));
        return Err(format_error(&display_name(source, file), problem));
    }
    tensors.add_file(&Arc::from(file), &display_name(source, file), size, listed)
}

async fn add_shards(source: &dyn WeightSource, tensors: &mut TensorTable) -> Result<()> {
    let index = read_small_file(source, INDEX, MAX_INDEX)
        .await?
        .ok_or_else(|| missing(source, SINGLE, &format!("there is no such file, and no {INDEX} either")))?;
    let shards = shard_index::parse(&index).map_err(|problem| format_error(&display_name(source, INDEX), problem))?;
    drop(index);
    for (file, names) in shards {
        let Some(size) = source.size(&file).await? else {
            let cause = format!("there is no such file, but {INDEX} names it");
            return Err(missing(source, &file, &cause));
        };
        add_file(source, &file, size, &names, tensors).await?;
    }
    Ok(())
}

fn missing(source: &dyn WeightSource, file: &str, cause: &str) -> Error {
    Error::Read { file: display_name(source, file), cause: cause.to_owned() }
}
