//! `moxel.json`: what a packed model says about its files that safetensors headers cannot say.

use super::{PAGE, PackedLayer, PackedMatrix};
use crate::weights::{checkpoint::Format, dtype::DType, json, shard_index::check_file_name, tensors::byte_length, text::shown};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The only version there is.
const VERSION: u32 = 1;

/// JSON values in a manifest; one with ten thousand quantised tensors has about 80,000.
const MAX_VALUES: usize = 1 << 20;

/// The content of `moxel.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    pub(crate) made_by: String,
    pub(crate) format: Format,
    pub(crate) tensors: BTreeMap<String, StoredTensor>,
    pub(crate) experts: BTreeMap<usize, StoredExperts>,
    pub(crate) files: BTreeMap<String, StoredFile>,
}

/// A tensor in a block format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredTensor {
    pub(crate) dtype: DType,
    /// Outermost first.
    pub(crate) shape: Vec<u64>,
}

/// The experts of one layer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredExperts {
    pub(crate) count: usize,
    pub(crate) record_bytes: u64,
    pub(crate) gate_up: Vec<PackedMatrix>,
    pub(crate) down: Vec<PackedMatrix>,
}

/// A safetensors file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredFile {
    pub(crate) bytes: u64,
    /// 64 hexadecimal digits, lower case.
    pub(crate) sha256: String,
}

impl Manifest {
    /// The manifest of a model that this program packs.
    #[cfg(any(unix, windows))]
    pub(crate) fn new(
        format: Format,
        tensors: BTreeMap<String, StoredTensor>,
        experts: BTreeMap<usize, StoredExperts>,
        files: BTreeMap<String, StoredFile>,
    ) -> Self {
        let made_by = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { version: VERSION, made_by, format, tensors, experts, files }
    }

    /// Parses and checks what can be checked without the files.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let object = json::parse_object(bytes, MAX_VALUES)?;
        match object.get("version").map(Value::as_u64) {
            Some(Some(version)) if version == u64::from(VERSION) => {}
            Some(Some(version)) => {
                return Err(format!("its version is {version}, and this program reads only {VERSION}; pack the model again"));
            }
            _ => return Err("it has no version".to_owned()),
        }
        let manifest: Self = serde_json::from_value(Value::Object(object)).map_err(|error| format!("not a manifest: {error}"))?;
        for (file, stored) in &manifest.files {
            check_file_name(file)?;
            let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if stored.sha256.len() != 64 || !stored.sha256.bytes().all(hexadecimal) {
                return Err(format!("files: {}: the sha256 is not made of 64 hexadecimal digits", shown(file)));
            }
        }
        for (layer, experts) in &manifest.experts {
            experts.check().map_err(|problem| format!("experts: layer {layer}: {problem}"))?;
        }
        Ok(manifest)
    }
}

impl StoredFile {
    /// A file of this size whose SHA-256 is `digest`.
    pub(crate) fn new(bytes: u64, digest: &[u8]) -> Self {
        Self { bytes, sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl StoredExperts {
    fn check(&self) -> Result<(), String> {
        if self.count == 0 || self.gate_up.is_empty() || self.down.is_empty() {
            return Err("it has no experts, or experts without matrices".to_owned());
        }
        let mut least = Some(0u64);
        for matrix in self.gate_up.iter().chain(&self.down) {
            let PackedMatrix { dtype, rows, cols } = *matrix;
            if rows == 0 || cols == 0 || !cols.is_multiple_of(dtype.block_len()) {
                return Err(format!("a matrix of {rows} x {cols} in {dtype} is not possible"));
            }
            least = least.zip(byte_length(&[rows as u64, cols as u64], dtype)).and_then(|(sum, bytes)| sum.checked_add(bytes));
        }
        if least.is_none_or(|least| least > self.record_bytes) || !self.record_bytes.is_multiple_of(PAGE) {
            return Err(format!("records of {} bytes cannot hold its matrices in whole pages of {PAGE}", self.record_bytes));
        }
        Ok(())
    }

    /// What each of the experts is made of.
    pub(super) fn layer(&self) -> PackedLayer {
        PackedLayer { gate_up: self.gate_up.clone(), down: self.down.clone() }
    }
}
