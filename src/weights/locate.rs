//! From the path or URL somebody typed to a source and what to open in it.

use super::{
    disk_cache::{CacheOptions, DiskCache},
    file::{FileSource, read_error},
    gguf::SplitName,
    http::{Address, HttpOptions, HttpSource},
    huggingface::{INDEX, SINGLE},
    source::WeightSource,
};
use crate::{Error, Result};
use std::{collections::BTreeSet, path::Path, sync::Arc};

/// Finds the checkpoint at `location`, which is a path or a URL of HTTP or HTTPS: the source and the
/// entry for [`Checkpoint::open`].
///
/// A path may be all that it may be for [`open_path`]. A URL may name a GGUF file, any part of a split
/// one, a safetensors file with its `config.json` beside it, or a folder with a Hugging Face
/// checkpoint. What is read through a URL is kept in `cache`, if there is one.
///
/// # Errors
/// [`Error::Read`] if nothing can be found there.
///
/// [`Checkpoint::open`]: super::Checkpoint::open
pub async fn open(location: &Path, cache: Option<CacheOptions>) -> Result<(Arc<dyn WeightSource>, String)> {
    match location.to_str().filter(|text| is_url(text)) {
        Some(url) => open_url(url, cache).await,
        None => open_path(location),
    }
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

async fn open_url(url: &str, cache: Option<CacheOptions>) -> Result<(Arc<dyn WeightSource>, String)> {
    let (folder, name) = Address::parse(url)?;
    let is_file = name.ends_with(".gguf") || name.ends_with(".safetensors");
    let (folder, name) = if is_file { (folder, name) } else { (folder.join(&name), String::new()) };
    let web = Arc::new(HttpSource::at(folder, HttpOptions::default()));
    let entry = if names_shard(&name) && web.size(INDEX).await?.is_some() || name == SINGLE { String::new() } else { name };
    Ok((cache.map_or(web.clone() as Arc<dyn WeightSource>, |options| Arc::new(DiskCache::new(web, options))), entry))
}

/// Whether the name is that of one shard, which stands for the whole model if there is an index beside it.
fn names_shard(name: &str) -> bool {
    name.ends_with(".safetensors") && name.contains("-of-")
}

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
    let shard = names_shard(name) && folder.join(INDEX).is_file();
    let entry = if shard || name == SINGLE { "" } else { name };
    Ok((Arc::new(FileSource::new(folder)), entry.to_owned()))
}

fn entry_of_directory(folder: &Path) -> Result<String> {
    let has = |name: &str| folder.join(name).is_file();
    // GGUF repositories often carry the original config.json too, so that alone decides nothing.
    if has("config.json") && (has(SINGLE) || has(INDEX)) {
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
