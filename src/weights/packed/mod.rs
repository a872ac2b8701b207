//! Models that `moxel pack` made: a Hugging Face directory in which every expert is one aligned, contiguous record.
//!
//! Such a directory has, beside the files that any Hugging Face directory has, a manifest, `moxel.json`:
//!
//! | key | meaning |
//! |---|---|
//! | `version` | 1 |
//! | `made_by` | the program and its version |
//! | `format` | `huggingface` or `gguf`: whose names the tensors have, and whose keys `config.json` has (all metadata of the GGUF file, tokenizer included) |
//! | `tensors` | `dtype` and `shape` of the tensors in block formats, which safetensors does not know: they are stored as U8 |
//! | `experts` | for each MoE layer: `count`, `record_bytes`, and the matrices `gate_up` and `down` with `dtype`, `rows`, `cols` |
//! | `files` | `bytes` and `sha256` of every safetensors file |
//!
//! The record of an expert is a U8 tensor named by [`packed_expert_name`]: its matrices one after the other as the kernels
//! read them, with zeros up to a multiple of 4096 bytes. It begins at a multiple of 4096 in its file.

mod manifest;
mod open;
mod verify;

pub(crate) use manifest::{Manifest, StoredFile};
#[cfg(any(unix, windows))]
pub(crate) use manifest::{StoredExperts, StoredTensor};
pub(super) use open::open;
pub(super) use verify::verify;

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::dtype::DType;

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "moxel.json";

/// Records begin and end at multiples of this.
pub(crate) const PAGE: u64 = 4096;

const RECORD_PREFIX: &str = "moxel.experts.";

/// One matrix of a packed expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedMatrix {
    /// How the elements are stored.
    pub dtype: DType,
    /// Rows: elements of the output.
    pub rows: usize,
    /// Columns: elements of the input.
    pub cols: usize,
}

/// What each expert of a layer is made of, in the order of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLayer {
    /// The gate's rows over those of the up projection: one matrix, or several where formats differ.
    pub gate_up: Vec<PackedMatrix>,
    /// The down projection.
    pub down: Vec<PackedMatrix>,
}

impl PackedLayer {
    /// All matrices in order.
    pub fn matrices(&self) -> impl Iterator<Item = &PackedMatrix> {
        self.gate_up.iter().chain(&self.down)
    }
}

/// Where the record of an expert lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// The file that holds it.
    pub file: Arc<str>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<u64>,
}

impl RecordInfo {
    /// The number of bytes, padding included.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// What an opened packed model has beside its tensors.
#[derive(Debug)]
pub(super) struct Packed {
    /// By the index of the layer.
    pub experts: BTreeMap<usize, PackedExperts>,
    pub files: BTreeMap<String, StoredFile>,
}

/// The packed experts of one layer.
#[derive(Debug)]
pub(super) struct PackedExperts {
    pub layer: PackedLayer,
    /// One for each expert, in order.
    pub records: Vec<RecordInfo>,
}

/// The name of the tensor that is the record of expert `expert` of layer `layer`, both counted from 0.
pub fn packed_expert_name(layer: usize, expert: usize) -> String {
    format!("{RECORD_PREFIX}{layer}.{expert}")
}

/// The layer and the expert whose record has this name.
fn parse_expert_name(name: &str) -> Option<(usize, usize)> {
    let (layer, expert) = name.strip_prefix(RECORD_PREFIX)?.split_once('.')?;
    let (layer, expert) = (layer.parse().ok()?, expert.parse().ok()?);
    // Only the one spelling that the writer uses, so that no record has two names.
    (packed_expert_name(layer, expert) == name).then_some((layer, expert))
}

#[cfg(test)]
mod tests;
