//! From the path somebody typed to a source and what to open in it.

use super::{
    file::{FileSource, read_error},
    gguf::SplitName,
    huggingface::INDEX,
    source::WeightSource,
};
use crate::{Error, Result};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// Finds the checkpoint at `path`: the source and the entry for [`Checkpoint::open`].
///
/// A directory may hold a Hugging Face checkpoint or exactly one GGUF model (all parts of a split
/// one count as one). A file may be a GGUF file, any part of a split one, or a safetensors file
/// with its `config.json` beside it.
///
/// # Errors
/// [`Error::Read`] if there is nothing at `path`, or no model or more than one in the directory.
///
/// [`Checkpoint::open`]: super::Checkpoint::open
pub fn open_path(path: &Path) -> Result<(Arc<dyn WeightSource>, String)> {
    let metadata = path.metadata().map_err(|error| read_error(path, &error))?;
    if metadata.is_dir() {
        let entry = entry_of_directory(path)?;
        return Ok((Arc::new(FileSource::new(path)), entry));
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::Read { file: path.display().to_string(), cause: "its name is not valid UTF-8".to_owned() })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // One shard stands for the whole model that the index beside it describes.
    let shard = name.ends_with(".safetensors") && name.contains("-of-") && folder.join(INDEX).is_file();
    let entry = if shard || name == "model.safetensors" { "" } else { name };
    Ok((Arc::new(FileSource::new(folder)), entry.to_owned()))
}

fn entry_of_directory(folder: &Path) -> Result<String> {
    let has = |name: &str| folder.join(name).is_file();
    // GGUF repositories often carry the original config.json too, so that alone decides nothing.
    if has("config.json") && (has("model.safetensors") || has(INDEX)) {
        return Ok(String::new());
    }
    let mut models = BTreeSet::new();
    for file in folder.read_dir().map_err(|error| read_error(folder, &error))? {
        let file = file.map_err(|error| read_error(folder, &error))?;
        if let Some(name) = file.file_name().to_str()
            && name.ends_with(".gguf")
        {
            models.insert(SplitName::parse(name).map_or(name.to_owned(), |split| split.part(1)));
        }
    }
    let fail = |cause: String| Error::Read { file: folder.display().to_string(), cause };
    match models.len() {
        0 => Err(fail("no model here: neither config.json with model.safetensors (or its index) nor a .gguf file".to_owned())),
        1 => models.pop_first().ok_or_else(|| fail("no model here".to_owned())),
        _ => {
            let names: Vec<_> = models.into_iter().collect();
            Err(fail(format!("several models here, name one of them: {}", names.join(", "))))
        }
    }
}
