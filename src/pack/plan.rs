//! What is written: every tensor with its format, spread over files.

use std::collections::HashSet;

use super::{PackOptions, PackWeights};
use crate::experts::{ExpertLayer, Record};
use crate::models::{Role, role};
use crate::weights::{Checkpoint, DType, TensorInfo, packed_expert_name};
use crate::{Result, packing::Layout};

/// A tensor outside the routed experts and the format that it gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dense<'a> {
    pub(super) tensor: &'a TensorInfo,
    pub(super) dtype: DType,
}

/// A layer of experts and the record that each of them becomes.
pub(super) struct Layer {
    pub(super) source: ExpertLayer,
    pub(super) record: Record,
}

/// What a shard holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Dense(Dense<'a>),
    /// `layer` counts the layers with experts.
    Record {
        layer: usize,
        expert: usize,
    },
}

pub(super) struct Plan<'a> {
    pub(super) layers: Vec<Layer>,
    /// The dense part first. Records have files of their own, because safetensors allows no gaps that would align them.
    pub(super) shards: Vec<Vec<Content<'a>>>,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// A matrix that the model needs is in an unsupported format.
    pub(super) fn new(checkpoint: &'a Checkpoint, sources: Vec<ExpertLayer>, options: &PackOptions) -> Result<Self> {
        for (name, _) in checkpoint.unsupported_tensors() {
            if role(name) != Role::Other {
                checkpoint.find(name)?;
            }
        }
        let in_records: HashSet<&str> = sources.iter().flat_map(ExpertLayer::tensors).collect();
        let dense = checkpoint.tensors().filter(|tensor| !in_records.contains(tensor.name.as_str()));
        let dense = dense.map(|tensor| Content::Dense(Dense { tensor, dtype: dense_format(tensor, options.weights) }));
        let dense: Vec<_> = dense.collect();
        drop(in_records);
        let layers: Vec<_> = sources.into_iter().map(|source| Layer::new(source, options.weights)).collect();
        let records = layers.iter().enumerate();
        let records = records.flat_map(|(layer, l)| (0..l.source.experts()).map(move |expert| Content::Record { layer, expert }));
        let records: Vec<_> = records.collect();
        let mut plan = Self { layers, shards: Vec::new() };
        let dense = plan.split(dense, options.shard_bytes);
        let records = plan.split(records, options.shard_bytes);
        plan.shards = dense.into_iter().chain(records).collect();
        Ok(plan)
    }

    /// Cuts a list into files of at most `most` bytes, with at least one tensor each.
    fn split(&self, contents: Vec<Content<'a>>, most: u64) -> Vec<Vec<Content<'a>>> {
        let mut shards: Vec<Vec<_>> = Vec::new();
        let mut room = 0;
        for content in contents {
            let bytes = content.bytes(self);
            match shards.last_mut() {
                Some(shard) if bytes <= room => shard.push(content),
                _ => {
                    shards.push(vec![content]);
                    room = most.max(bytes);
                }
            }
            room -= bytes;
        }
        shards
    }

    pub(super) fn dense(&self) -> impl Iterator<Item = &Dense<'a>> {
        self.shards.iter().flatten().filter_map(|content| match content {
            Content::Dense(dense) => Some(dense),
            Content::Record { .. } => None,
        })
    }

    /// Bytes of all tensors.
    pub(super) fn bytes(&self) -> u64 {
        self.shards.iter().flatten().map(|content| content.bytes(self)).sum()
    }
}

impl Content<'_> {
    pub(super) fn name(&self, plan: &Plan<'_>) -> String {
        match *self {
            Content::Dense(dense) => dense.tensor.name.clone(),
            Content::Record { layer, expert } => packed_expert_name(plan.layers[layer].source.layer, expert),
        }
    }

    pub(super) fn bytes(&self, plan: &Plan<'_>) -> u64 {
        match *self {
            // Whole blocks: `dense_format` sees to that.
            Content::Dense(dense) => dense.dtype.bytes_for(dense.tensor.elements()).unwrap_or(0),
            Content::Record { layer, .. } => plan.layers[layer].record.bytes(),
        }
    }
}

impl Layer {
    fn new(source: ExpertLayer, weights: PackWeights) -> Self {
        let own = match weights {
            PackWeights::Keep => None,
            PackWeights::Q4 => Some(DType::Q4_1),
            PackWeights::Q8 => Some(DType::Q8_0),
            PackWeights::F16 => Some(DType::F16),
        };
        let converted = |layouts: &[Layout]| -> Vec<Layout> {
            layouts.iter().map(|l| Layout::new(converted(l.dtype, own, l.cols), l.rows, l.cols)).collect()
        };
        let record = Record { gate_up: converted(&source.record.gate_up), down: converted(&source.record.down) };
        Self { source, record }
    }
}

fn dense_format(tensor: &TensorInfo, weights: PackWeights) -> DType {
    let target = match (weights, role(&tensor.name)) {
        (PackWeights::Keep, _) | (_, Role::Other) => None,
        (PackWeights::Q4, Role::FeedForward) => Some(DType::Q4_1),
        (PackWeights::Q4 | PackWeights::Q8, _) => Some(DType::Q8_0),
        (PackWeights::F16, _) => Some(DType::F16),
    };
    match tensor.shape[..] {
        [_, cols] => converted(tensor.dtype, target, cols),
        _ => tensor.dtype,
    }
}

/// The format that rows of `cols` elements get: `target` if they are floats and whole blocks of it.
fn converted(dtype: DType, target: Option<DType>, cols: usize) -> DType {
    let is_float = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    target.filter(|target| is_float && cols.is_multiple_of(target.block_len())).unwrap_or(dtype)
}
