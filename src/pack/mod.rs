//! Packing: a checkpoint rewritten as a packed model (see [`crate::weights::Checkpoint::is_packed`]), quantised on the way.
//!
//! Whatever the size of the checkpoint, a few megabytes of a tensor or one expert are in memory at a time. The model is
//! written into a folder beside its destination and renamed when it is whole.

mod convert;
mod files;
mod folder;
mod plan;
mod quantize;
mod shard;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use crate::models::architecture;
use crate::weights::{Checkpoint, FileSource, Manifest, PackedMatrix, StoredExperts, StoredFile, StoredTensor};
use crate::{Error, Result, packing::Layout};
use convert::{Workers, write_dense, write_record};
use folder::Partial;
use plan::{Content, Plan};
use shard::{ShardFile, header};

/// What packing does with the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PackWeights {
    /// Every tensor keeps its format: the packed model computes exactly what the checkpoint does.
    #[default]
    Keep,
    /// Routed experts and dense feed-forward layers in Q4_1; what every token passes through, where errors add up (embedding,
    /// head, attention, shared experts), in Q8_0.
    Q4,
    /// All large matrices in Q8_0.
    Q8,
    /// All large matrices in F16.
    F16,
}

/// How a model is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// What happens to weights in float formats. Those that are quantised already, norms, routers and biases are kept, and
    /// so are matrices whose rows are not whole blocks of the new format.
    pub weights: PackWeights,
    /// Bytes that a file has at most, unless a single tensor has more.
    pub shard_bytes: u64,
    /// Whether a packed model at the destination is replaced; nothing else ever is.
    pub replace: bool,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { weights: PackWeights::default(), shard_bytes: 2_000_000_000, replace: false }
    }
}

/// How far packing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackProgress {
    /// Bytes of tensors written so far.
    pub written_bytes: u64,
    /// Bytes of all tensors that will be written.
    pub total_bytes: u64,
}

/// What was packed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PackSummary {
    /// Bytes of the tensors in the checkpoint.
    pub source_bytes: u64,
    /// Bytes of the files with tensors that were written.
    pub written_bytes: u64,
    /// How many these are.
    pub files: usize,
    /// Expert records among the tensors.
    pub records: usize,
    /// Elements in each format.
    pub formats: BTreeMap<String, u64>,
    /// Tensors that were left out because nothing can be computed with their formats.
    pub left_out: Vec<String>,
}

/// Packs the model into the new directory `out`.
///
/// Works in place: it reads, computes on all processors and writes before the future is ready. `progress` is told often how
/// far it is and says whether to go on. On an error, and when it is told to stop, nothing is left behind.
///
/// # Errors
/// The checkpoint cannot be read or is packed already, a weight is not finite or too large for its new format, `out` exists
/// (and is not a packed model that may be replaced), cannot be written, or `progress` said stop.
pub async fn pack(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &PackOptions,
    progress: &mut (dyn FnMut(PackProgress) -> ControlFlow<()> + Send),
) -> Result<PackSummary> {
    if checkpoint.is_packed() {
        return Err(Error::Request(format!("{} is packed already; pack the original model", checkpoint.file())));
    }
    let layers = architecture(checkpoint)?.expert_layers(checkpoint)?;
    let plan = Plan::new(checkpoint, layers, options)?;
    let partial = Partial::create(out, options.replace)?;
    let mut watch = Watch { progress, written: 0, total: plan.bytes() };
    let workers = Workers::all();
    let mut files = BTreeMap::new();
    for (index, content) in plan.shards.iter().enumerate() {
        watch.advance(0)?;
        let name = shard_name(index, plan.shards.len());
        let mut file = ShardFile::create(&partial.file(&name), &header(content, &plan)?)?;
        for &part in content {
            match part {
                Content::Dense(dense) => write_dense(checkpoint, dense, workers, &mut file, &mut watch).await?,
                Content::Record { layer, expert } => {
                    write_record(checkpoint, &plan.layers[layer], expert, workers, &mut file, &mut watch).await?;
                }
            }
        }
        files.insert(name, file.finish()?);
    }
    files::copy_side_files(checkpoint, &partial).await?;
    files::write_index(&plan, &partial)?;
    let summary = summary(checkpoint, &plan, &files);
    files::write_manifest(&manifest(checkpoint, &plan, files), &partial)?;
    // What cannot be opened is not published.
    Checkpoint::open(std::sync::Arc::new(FileSource::new(partial.path())), "").await?;
    partial.publish()?;
    Ok(summary)
}

/// The name of one of `count` shards, as transformers numbers them.
fn shard_name(index: usize, count: usize) -> String {
    format!("model-{:05}-of-{count:05}.safetensors", index + 1)
}

/// Tells how far it is.
struct Watch<'a> {
    progress: &'a mut (dyn FnMut(PackProgress) -> ControlFlow<()> + Send),
    written: u64,
    total: u64,
}

impl Watch<'_> {
    /// `bytes` more were written.
    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.written += bytes;
        match (self.progress)(PackProgress { written_bytes: self.written, total_bytes: self.total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Request("packing was stopped".into())),
        }
    }
}

fn manifest(checkpoint: &Checkpoint, plan: &Plan<'_>, files: BTreeMap<String, StoredFile>) -> Manifest {
    let matrices = |layouts: &[Layout]| {
        layouts.iter().map(|layout| PackedMatrix { dtype: layout.dtype, rows: layout.rows, cols: layout.cols }).collect()
    };
    let blocks = plan.dense().filter(|dense| dense.dtype.block_len() > 1).map(|dense| {
        let shape = dense.tensor.shape.iter().map(|&dim| dim as u64).collect();
        (dense.tensor.name.clone(), StoredTensor { dtype: dense.dtype, shape })
    });
    let experts = plan.layers.iter().map(|layer| {
        let stored = StoredExperts {
            count: layer.source.experts(),
            record_bytes: layer.record.bytes(),
            gate_up: matrices(&layer.record.gate_up),
            down: matrices(&layer.record.down),
        };
        (layer.source.layer, stored)
    });
    Manifest::new(checkpoint.format(), blocks.collect(), experts.collect(), files)
}

fn summary(checkpoint: &Checkpoint, plan: &Plan<'_>, files: &BTreeMap<String, StoredFile>) -> PackSummary {
    let mut formats = BTreeMap::new();
    let mut add = |dtype: crate::weights::DType, elements| *formats.entry(dtype.name().to_owned()).or_insert(0) += elements;
    plan.dense().for_each(|dense| add(dense.dtype, dense.tensor.elements()));
    for layer in &plan.layers {
        for matrix in layer.record.matrices() {
            add(matrix.dtype, (layer.source.experts() * matrix.rows * matrix.cols) as u64);
        }
    }
    PackSummary {
        source_bytes: checkpoint.total_bytes(),
        written_bytes: files.values().map(|file| file.bytes).sum(),
        files: files.len(),
        records: plan.layers.iter().map(|layer| layer.source.experts()).sum(),
        formats,
        left_out: checkpoint.unsupported_tensors().map(|(name, format)| format!("{name} ({format})")).collect(),
    }
}
