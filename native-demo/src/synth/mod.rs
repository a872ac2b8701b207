//! A mixture of experts of any size with random weights, for measuring what streaming experts costs.
//!
//! It has Llama 4's architecture, a vocabulary of bytes, and presents itself as a GGUF file in Q4_1 that is computed as it is
//! read. Nothing it says makes sense, but the way in which its tokens choose experts is like a trained model's: some experts
//! are asked for more often than others, and neighbouring tokens often ask for the same ones. A cache that is measured on
//! independent choices shows nothing. `tensors.rs` says how that comes about.

mod metadata;
pub mod random;
mod tensors;

use std::collections::BTreeMap;
use std::sync::Arc;

use moxel::weights::{DType, WeightSource};

use crate::virtual_model::{VirtualModel, gguf};
use tensors::SynthTensors;

/// What to open in the source.
pub const ENTRY: &str = gguf::FILE;

/// Widths of heads; the residual stream is a multiple of it.
const HEAD: usize = 64;
/// Query heads that share a head of keys and values.
const GROUP: usize = 4;
/// Least step of the residual stream's width.
pub const HIDDEN_STEP: usize = HEAD * GROUP;
/// Format of everything large.
const EXPERT_FORMAT: DType = DType::Q4_1;

/// The size of a synthetic model.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub layers: usize,
    pub experts: usize,
    pub chosen: usize,
    /// A positive multiple of [`HIDDEN_STEP`].
    pub hidden: usize,
    /// Neurons of an expert.
    inner: usize,
}

impl Size {
    /// A model whose experts take at least `expert_bytes` each.
    pub fn new(layers: usize, experts: usize, chosen: usize, hidden: usize, expert_bytes: u64) -> Self {
        let block = EXPERT_FORMAT.block_len();
        // Gate and up have a row, down a column of each neuron.
        let neuron_bytes = (3 * hidden / block * EXPERT_FORMAT.block_bytes()) as u64;
        let inner = expert_bytes.div_ceil(neuron_bytes) as usize;
        Self { layers, experts, chosen, hidden, inner: inner.max(1).next_multiple_of(block) }
    }

    fn heads(&self) -> usize {
        self.hidden / HEAD
    }

    fn kv_heads(&self) -> usize {
        self.heads() / GROUP
    }
}

/// The synthetic model of this size; the same `seed` gives the same one.
pub fn source(size: Size, seed: u64) -> Arc<dyn WeightSource> {
    let (tensors, list) = SynthTensors::new(size, seed);
    let layout = gguf::layout(&metadata::metadata(&size), list);
    Arc::new(VirtualModel::new("synthetic model".into(), BTreeMap::new(), layout, tensors))
}

#[cfg(test)]
mod tests;
