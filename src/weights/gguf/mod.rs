//! GGUF, versions 2 and 3, little endian: one file, or the parts of a split one.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod header;
mod split;
mod types;
mod values;

pub(super) use split::SplitName;

use super::{
    checkpoint::{Format, Opened},
    source::{WeightSource, display_name, read_exactly},
    tensors::{TensorTable, format_error},
};
use crate::{Error, Result};
use cursor::Stop;
use header::Header;
use std::sync::Arc;

/// Largest accepted header. The tokenizer fills it: about 16 MB for the largest vocabularies.
const MAX_HEADER: u64 = 256 << 20;

/// What is read first; most headers of small vocabularies fit.
const FIRST_WINDOW: u64 = 1 << 20;

/// Opens the GGUF file `entry`, and with any part of a split file all of its parts.
pub(super) async fn open(source: &dyn WeightSource, entry: &str) -> Result<Opened> {
    let name = SplitName::parse(entry);
    let (first_file, parts) = match &name {
        Some(name) => (name.part(1), name.count),
        None => (entry.to_owned(), 1),
    };
    let shown_file = display_name(source, &first_file);
    let mut tensors = TensorTable::default();
    let first = add_file(source, &first_file, &mut tensors).await?;
    let announced = split::check(&first.metadata, &name, 1).map_err(|problem| format_error(&shown_file, problem))?;
    if let Some(name) = &name {
        for part in 2..=parts {
            let file = name.part(part);
            let header = add_file(source, &file, &mut tensors).await?;
            split::check(&header.metadata, &Some(name.clone()), part)
                .map_err(|problem| format_error(&display_name(source, &file), problem))?;
        }
    }
    if let Some(announced) = announced
        && announced != tensors.len() as u64
    {
        let problem = format!("split.tensors.count is {announced}, but the {parts} parts hold {} tensors", tensors.len());
        return Err(format_error(&shown_file, problem));
    }
    Ok(Opened { format: Format::Gguf, file: shown_file, config: first.metadata, tensors, packed: None })
}

/// Reads one file's header and adds its tensors.
async fn add_file(source: &dyn WeightSource, file: &str, tensors: &mut TensorTable) -> Result<Header> {
    let shown_file = display_name(source, file);
    let Some(size) = source.size(file).await? else {
        return Err(Error::Read { file: shown_file, cause: "there is no such file".to_owned() });
    };
    let mut header = read_header(source, file, &shown_file, size).await?;
    let listed = std::mem::take(&mut header.tensors);
    tensors.add_file(&Arc::from(file), &shown_file, size, listed)?;
    Ok(header)
}

/// Reads as much of the file as its header takes, in windows that double.
///
/// The header is parsed anew for each window: the header's length is not stored anywhere, and going
/// through it again costs less than keeping a half-finished parse would in clarity.
async fn read_header(source: &dyn WeightSource, file: &str, shown_file: &str, file_size: u64) -> Result<Header> {
    let mut window = Vec::new();
    let mut wanted = FIRST_WINDOW;
    loop {
        let end = wanted.min(file_size).min(MAX_HEADER);
        let more = read_exactly(source, file, window.len() as u64..end).await?;
        window.extend_from_slice(&more);
        match header::parse(&window, file_size) {
            Ok(header) => return Ok(header),
            Err(Stop::Bad(problem)) => return Err(format_error(shown_file, problem)),
            Err(Stop::More) => wanted = wanted.saturating_mul(2),
        }
    }
}
