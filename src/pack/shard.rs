//! One safetensors file, hashed while it is written.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use super::plan::{Content, Plan};
use crate::weights::{DType, PAGE, StoredFile};
use crate::{Error, Result};

/// A file that is being written.
pub(super) struct ShardFile {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl ShardFile {
    pub(super) fn create(path: &Path, header: &[u8]) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| write_error(path, &error))?;
        let mut shard = Self { path: path.to_owned(), file, hash: Sha256::new(), bytes: 0 };
        shard.write(header)?;
        Ok(shard)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| write_error(&self.path, &error))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Waits until the disk has it.
    pub(super) fn finish(self) -> Result<StoredFile> {
        self.file.sync_all().map_err(|error| write_error(&self.path, &error))?;
        Ok(StoredFile::new(self.bytes, &self.hash.finalize()))
    }
}

/// The length and the header of a file with these tensors one after the other. Spaces at its end, which the format allows,
/// let the tensors begin at a multiple of a page, and with them every record.
pub(super) fn header(contents: &[Content<'_>], plan: &Plan<'_>) -> Result<Vec<u8>> {
    let mut entries = Map::new();
    // Transformers refuses files that do not say so.
    entries.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut at = 0;
    for content in contents {
        let bytes = content.bytes(plan);
        let (dtype, shape) = match content {
            Content::Dense(dense) if dense.dtype.block_len() == 1 => (float_name(dense.dtype), dense.tensor.shape.clone()),
            _ => ("U8", vec![usize::try_from(bytes).unwrap_or(usize::MAX)]),
        };
        entries.insert(content.name(plan), json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] }));
        at += bytes;
    }
    let text = serde_json::to_vec(&entries).map_err(|error| Error::Request(format!("cannot write a header: {error}")))?;
    let length = (8 + text.len() as u64).next_multiple_of(PAGE) - 8;
    let mut header = length.to_le_bytes().to_vec();
    header.extend(text);
    header.resize(8 + length as usize, b' ');
    Ok(header)
}

fn float_name(dtype: DType) -> &'static str {
    // GGUF and safetensors spell the float formats alike.
    dtype.name()
}

/// What the operating system said, with what it means where it is terse.
pub(super) fn write_error(path: &Path, error: &io::Error) -> Error {
    let cause = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("the disk is full ({error})"),
        _ => error.to_string(),
    };
    Error::Write { file: path.display().to_string(), cause }
}
