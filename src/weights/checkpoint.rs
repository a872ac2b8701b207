//! An opened checkpoint: its configuration and the list of its tensors, whichever format it has.

use super::{
    gguf, huggingface,
    packed::{self, Packed, PackedLayer, RecordInfo, packed_expert_name},
    source::{OnProgress, WeightSource, display_name, read_exactly, read_small_file},
    tensors::{TensorInfo, TensorTable},
    text::shown,
};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, ops::Range, sync::Arc};

/// Larger than any tokenizer; such a file is read into memory whole.
const MAX_SIDE_FILE: u64 = 256 << 20;

/// Whose names the tensors have and whose keys the configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Those of transformers: a directory with `config.json` and safetensors files, or a model packed from one.
    HuggingFace,
    /// Those of llama.cpp: one GGUF file, all parts of a split one, or a model packed from them.
    Gguf,
}

/// What the two formats' readers hand over.
pub(super) struct Opened {
    pub format: Format,
    /// The file that carries the configuration, as messages call it.
    pub file: String,
    pub config: Map<String, Value>,
    pub tensors: TensorTable,
    /// What a packed model has beside its tensors.
    pub packed: Option<Packed>,
}

/// A checkpoint whose headers have been read and checked; tensor bytes are read on demand.
pub struct Checkpoint {
    source: Arc<dyn WeightSource>,
    opened: Opened,
}

impl Checkpoint {
    /// Opens a checkpoint and reads its headers, no tensor.
    ///
    /// `entry` says what to open in the source: `""` is a Hugging Face directory or a packed model, a name ending in
    /// `.safetensors` is that file alone with the directory's `config.json`, and any other name is a
    /// GGUF file (of a split one any part; all parts are opened).
    ///
    /// # Errors
    /// [`Error::Read`] for files that are missing or cannot be read, [`Error::Format`] for content
    /// that contradicts its format or itself; both name the file.
    pub async fn open(source: Arc<dyn WeightSource>, entry: &str) -> Result<Self> {
        let packed = if entry.is_empty() { packed::open(&*source).await? } else { None };
        let opened = if let Some(packed) = packed {
            packed
        } else if entry.is_empty() || entry.ends_with(".safetensors") {
            huggingface::open(&*source, entry).await?
        } else {
            gguf::open(&*source, entry).await?
        };
        Ok(Self { source, opened })
    }

    /// Whether reading costs so little that taking everything at once is sensible.
    pub fn is_local(&self) -> bool {
        self.source.is_local()
    }

    /// Whose names and keys it has.
    pub fn format(&self) -> Format {
        self.opened.format
    }

    /// The file that carries the configuration, for messages.
    pub fn file(&self) -> &str {
        &self.opened.file
    }

    /// The configuration: the content of `config.json`, or all metadata of the GGUF file.
    pub fn config(&self) -> &Map<String, Value> {
        &self.opened.config
    }

    /// Forgets the keys of the configuration that begin so: a vocabulary is large, and of no use once it has been read.
    pub(crate) fn forget_keys(&mut self, prefix: &str) {
        self.opened.config.retain(|key, _| !key.starts_with(prefix));
    }

    /// All tensors whose format is supported, in the order of the files, without the experts of a packed model.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.opened.tensors.iter()
    }

    /// Name and format of the tensors that cannot be computed with.
    pub fn unsupported_tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.opened.tensors.unsupported()
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is missing or its format is not supported.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.find(name)?.ok_or_else(|| Error::Tensor { name: shown(name), problem: format!("missing from {}", self.file()) })
    }

    /// The tensor of this name, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is there in a format that is not supported: taking it for absent
    /// would change what the model computes.
    pub fn find(&self, name: &str) -> Result<Option<&TensorInfo>> {
        self.opened.tensors.find(name)
    }

    /// The bytes `bytes` of `tensor`, counted from its beginning.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a range outside the tensor, [`Error::Read`] if the source fails.
    pub async fn read(&self, tensor: &TensorInfo, bytes: Range<u64>) -> Result<Vec<u8>> {
        if bytes.start > bytes.end || bytes.end > tensor.bytes() {
            return Err(Error::Tensor {
                name: shown(&tensor.name),
                problem: format!("bytes {}..{} were asked for, but it has {}", bytes.start, bytes.end, tensor.bytes()),
            });
        }
        let start = tensor.range.start;
        read_exactly(&*self.source, &tensor.file, start + bytes.start..start + bytes.end).await
    }

    /// Whether `moxel pack` made it: its experts are records then.
    pub fn is_packed(&self) -> bool {
        self.opened.packed.is_some()
    }

    /// What the experts of layer `layer` are made of, if they are packed.
    pub fn packed_experts(&self, layer: usize) -> Option<&PackedLayer> {
        self.opened.packed.as_ref()?.experts.get(&layer).map(|experts| &experts.layer)
    }

    /// How many packed experts layer `layer` has.
    pub fn expert_records(&self, layer: usize) -> usize {
        let layer = self.opened.packed.as_ref().and_then(|packed| packed.experts.get(&layer));
        layer.map_or(0, |experts| experts.records.len())
    }

    /// Where the record of a packed expert lies.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the checkpoint is not a packed one or has no such expert.
    pub fn expert_record(&self, layer: usize, expert: usize) -> Result<&RecordInfo> {
        let records = self.opened.packed.as_ref().and_then(|packed| packed.experts.get(&layer));
        records.and_then(|experts| experts.records.get(expert)).ok_or_else(|| Error::Tensor {
            name: packed_expert_name(layer, expert),
            problem: format!("missing from {}", self.file()),
        })
    }

    /// The bytes `bytes` of a record, counted from its beginning.
    ///
    /// # Errors
    /// [`Error::Read`] for a range outside the record, or if the source fails.
    pub async fn read_record(&self, record: &RecordInfo, bytes: Range<u64>) -> Result<Vec<u8>> {
        if bytes.start > bytes.end || bytes.end > record.bytes() {
            return Err(Error::Read {
                file: display_name(&*self.source, &record.file),
                cause: format!("bytes {}..{} of a record of {} were asked for", bytes.start, bytes.end, record.bytes()),
            });
        }
        let start = record.range.start;
        read_exactly(&*self.source, &record.file, start + bytes.start..start + bytes.end).await
    }

    /// Reads all files of a packed model and compares them with the hashes that were taken when it was packed. `progress`
    /// is told the bytes of every piece that was read.
    ///
    /// # Errors
    /// [`Error::Format`] for a file whose content is another, [`Error::Request`] if the checkpoint is not a packed model,
    /// [`Error::Read`] if the source fails.
    pub async fn verify(&self, progress: &mut OnProgress<'_, u64>) -> Result<()> {
        let Some(packed) = &self.opened.packed else {
            return Err(Error::Request(format!("{} has no hashes to compare with: only packed models have", self.file())));
        };
        packed::verify(&*self.source, &packed.files, progress).await
    }

    /// A whole further file of a Hugging Face directory, such as `tokenizer.json`; `None` if it is
    /// absent, and always for GGUF, which carries everything inside.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, [`Error::Format`] if it has more than 256 MiB.
    pub async fn side_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.format() {
            Format::HuggingFace => read_small_file(&*self.source, name, MAX_SIDE_FILE).await,
            Format::Gguf => Ok(None),
        }
    }

    /// The bytes of all tensors whose format is supported, and of all records of packed experts.
    pub fn total_bytes(&self) -> u64 {
        let records = self.opened.packed.iter().flat_map(|packed| &packed.experts).flat_map(|(_, experts)| &experts.records);
        self.tensors().map(TensorInfo::bytes).sum::<u64>() + records.map(RecordInfo::bytes).sum::<u64>()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("file", &self.file())
            .field("format", &self.format())
            .field("tensors", &self.opened.tensors.len())
            .finish_non_exhaustive()
    }
}
