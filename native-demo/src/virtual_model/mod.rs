//! Checkpoints that exist nowhere: their headers are real, and their tensors are computed when they are read.
//!
//! A model made by a program becomes a [`WeightSource`] this way, and whatever can read a checkpoint (the engine, the packer)
//! can read it, without a file in between and without holding more than a few blocks of it.

pub mod gguf;
pub mod safetensors;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use moxel::weights::{BoxFuture, DType, WeightSource};
use moxel::{Error, Result};

/// Blocks that are kept after they were computed: readers come back for the next piece of one, and take the matrices of an
/// expert in turns.
const RECENT_BLOCKS: usize = 6;

/// A tensor of a virtual model.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    pub name: String,
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Equal parts, along the outermost dimension, that are computed one at a time.
    pub blocks: usize,
}

impl TensorSpec {
    /// Bytes of the whole tensor.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes_for(self.shape.iter().map(|&dim| dim as u64).product()).unwrap_or(0)
    }

    fn block_bytes(&self) -> u64 {
        self.bytes() / self.blocks as u64
    }
}

/// Computes the tensors of a virtual model.
pub trait Tensors: Send + Sync {
    /// The bytes of a block; both are indices, of the list of tensors and of the tensor's blocks.
    fn block(&self, tensor: usize, block: usize) -> BoxFuture<'_, Result<Vec<u8>>>;
}

/// A source with one file of computed tensors, and small files held in memory.
pub struct VirtualModel<T> {
    /// What messages call it.
    name: String,
    side_files: BTreeMap<String, Vec<u8>>,
    file: Layout,
    tensors: T,
    recent: Mutex<VecDeque<(BlockId, Arc<Vec<u8>>)>>,
}

/// Indices of a tensor and of its block.
type BlockId = (usize, usize);

/// Where everything lies in the file of tensors.
pub struct Layout {
    name: &'static str,
    header: Vec<u8>,
    /// Each tensor with its first byte, in ascending order; what lies between them is zero.
    tensors: Vec<(u64, TensorSpec)>,
}

impl Layout {
    fn size(&self) -> u64 {
        self.tensors.last().map_or(self.header.len() as u64, |(start, spec)| start + spec.bytes())
    }

    /// The blocks that share bytes with `range`, each with its place in the file.
    fn blocks(&self, range: Range<u64>) -> impl Iterator<Item = (BlockId, Range<u64>)> {
        let first = self.tensors.partition_point(|(start, spec)| start + spec.bytes() <= range.start);
        let tensors = self.tensors.iter().enumerate().skip(first);
        let blocks = tensors.flat_map(|(tensor, (start, spec))| {
            let (start, bytes) = (*start, spec.block_bytes());
            (0..spec.blocks).map(move |block| ((tensor, block), start + block as u64 * bytes..start + (block as u64 + 1) * bytes))
        });
        blocks.skip_while(move |(_, place)| place.end <= range.start).take_while(move |(_, place)| place.start < range.end)
    }
}

impl<T: Tensors> VirtualModel<T> {
    /// A model called `name` in messages, made of `side_files` by name and a file of tensors.
    pub fn new(name: String, side_files: BTreeMap<String, Vec<u8>>, file: Layout, tensors: T) -> Self {
        Self { name, side_files, file, tensors, recent: Mutex::default() }
    }

    fn file_size(&self, file: &str) -> Option<u64> {
        if file == self.file.name { Some(self.file.size()) } else { Some(self.side_files.get(file)?.len() as u64) }
    }

    async fn read_range(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let fail = |cause: String| Error::Read { file: format!("{}/{file}", self.name), cause };
        let size = self.file_size(file).ok_or_else(|| fail("there is no such file".into()))?;
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= size);
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
            return Err(fail(format!("bytes {}..{} were asked for, but it has {size}", range.start, range.end)));
        };
        let mut out = vec![0; length];
        if file != self.file.name {
            copy_overlap(self.side_files.get(file).map_or(&[], Vec::as_slice), 0, &mut out, range.start);
            return Ok(out);
        }
        copy_overlap(&self.file.header, 0, &mut out, range.start);
        for (block, place) in self.file.blocks(range.clone()) {
            let bytes = self.block(block).await?;
            if bytes.len() as u64 != place.end - place.start {
                return Err(fail(format!("block {block:?} came out with {} bytes for {place:?}", bytes.len())));
            }
            copy_overlap(&bytes, place.start, &mut out, range.start);
        }
        Ok(out)
    }

    async fn block(&self, id: BlockId) -> Result<Arc<Vec<u8>>> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = recent().iter().find(|(known, _)| *known == id) {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.tensors.block(id.0, id.1).await?);
        let mut recent = recent();
        if recent.len() == RECENT_BLOCKS {
            recent.pop_front();
        }
        recent.push_back((id, Arc::clone(&bytes)));
        Ok(bytes)
    }
}

/// Copies what `from`, which begins at byte `from_start` of a file, and `to`, which begins at `to_start`, have in common.
fn copy_overlap(from: &[u8], from_start: u64, to: &mut [u8], to_start: u64) {
    let start = from_start.max(to_start);
    let end = (from_start + from.len() as u64).min(to_start + to.len() as u64);
    if start < end {
        let within = |origin: u64| (start - origin) as usize..(end - origin) as usize;
        to[within(to_start)].copy_from_slice(&from[within(from_start)]);
    }
}

impl<T: Tensors> WeightSource for VirtualModel<T> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move { Ok(self.file_size(file)) })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.read_range(file, range))
    }
}

#[cfg(test)]
mod tests;
