//! Weights from the checkpoint into GPU buffers, through small staging memory, repacked on the way.

use std::ops::Range;

use crate::gpu::{Buffer, Gpu, Slice};
use crate::kernels::{Matrix, Part};
use crate::layers::{Linear, Norm};
use crate::packing::{BLOCK_COLS, GROUP_ROWS, Layout};
use crate::weights::{Checkpoint, DType, TensorInfo};
use crate::{Error, Result, rope};

/// Bytes of packed weights that are staged at a time.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes after which uploads are waited for, so that the driver's staging memory stays small.
const FLUSH_BYTES: u64 = 32 << 20;
/// Alignment of a binding within a buffer: WebGPU's guaranteed `minStorageBufferOffsetAlignment`.
const BINDING_ALIGNMENT: u64 = 256;

/// Told how many bytes of the checkpoint have been read.
type OnProgress<'a> = &'a mut (dyn FnMut(u64) + Send);

pub(crate) struct Loader<'a> {
    gpu: &'a Gpu,
    pub(crate) checkpoint: &'a Checkpoint,
    /// Positions that rotation tables are made for.
    context: usize,
    progress: OnProgress<'a>,
    read: u64,
    unflushed: u64,
}

/// A matrix in the checkpoint: all of a tensor, or one expert's part of a stacked one.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    tensor: &'a TensorInfo,
    rows: usize,
    cols: usize,
    /// Matrices of this size before it in the tensor.
    index: usize,
    /// Stored [cols, rows] instead of [rows, cols].
    transposed: bool,
}

impl<'a> Source<'a> {
    fn bytes(&self) -> u64 {
        self.tensor.dtype.bytes_for(self.rows as u64 * self.cols as u64).unwrap_or(0)
    }

    fn range(&self, rows: Range<usize>) -> Range<u64> {
        let row = self.bytes() / self.rows as u64;
        let start = self.index as u64 * self.bytes();
        start + rows.start as u64 * row..start + rows.end as u64 * row
    }
}

impl<'a> Loader<'a> {
    pub(crate) fn new(gpu: &'a Gpu, checkpoint: &'a Checkpoint, context: usize, progress: OnProgress<'a>) -> Self {
        Self { gpu, checkpoint, context, progress, read: 0, unflushed: 0 }
    }

    /// The tensor `name` as one [rows, cols] matrix.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Source<'a>> {
        let tensor = self.shaped(name, &[rows, cols])?;
        Ok(Source { tensor, rows, cols, index: 0, transposed: false })
    }

    /// Matrix `index` of the stack `name`, [count, rows, cols], or [count, cols, rows] if `transposed`.
    pub(crate) fn stacked(
        &self,
        name: &str,
        count: usize,
        index: usize,
        rows: usize,
        cols: usize,
        transposed: bool,
    ) -> Result<Source<'a>> {
        let tensor = self.shaped(name, &if transposed { [count, cols, rows] } else { [count, rows, cols] })?;
        if transposed && tensor.dtype.block_len() != 1 {
            return Err(tensor_error(name, format!("is {}, which cannot be transposed", tensor.dtype.name())));
        }
        Ok(Source { tensor, rows, cols, index, transposed })
    }

    /// Whether the checkpoint has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        Ok(self.checkpoint.find(name)?.is_some())
    }

    fn shaped(&self, name: &str, shape: &[usize]) -> Result<&'a TensorInfo> {
        let tensor = self.checkpoint.tensor(name)?;
        if tensor.shape != shape {
            return Err(tensor_error(name, format!("has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        Ok(tensor)
    }

    /// A vector of `len` floats as f32.
    pub(crate) async fn vector(&mut self, label: &'static str, name: &str, len: usize) -> Result<Slice> {
        let values = self.floats(name, len).await?;
        Ok(self.gpu.upload(label, bytemuck::cast_slice(&values))?.whole())
    }

    /// The same on the CPU.
    pub(crate) async fn floats(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let tensor = self.shaped(name, &[len])?;
        let bytes = self.checkpoint.read(tensor, 0..tensor.bytes()).await?;
        self.advance(tensor.bytes());
        let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        Ok(match tensor.dtype {
            DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            DType::F16 => halves().map(|h| half::f16::from_bits(h).to_f32()).collect(),
            DType::BF16 => halves().map(|h| half::bf16::from_bits(h).to_f32()).collect(),
            other => return Err(tensor_error(name, format!("is {}, expected floats", other.name()))),
        })
    }

    pub(crate) async fn norm(&mut self, name: &str, cols: usize, eps: f32) -> Result<Norm> {
        Ok(Norm { weight: self.vector("norm", name, cols).await?, cols, eps })
    }

    /// The rotation table for these frequencies and the engine's context.
    pub(crate) fn rope_table(&self, frequencies: &[f64]) -> Result<Slice> {
        let table = rope::table(frequencies, self.context);
        Ok(self.gpu.upload("rope_table", bytemuck::cast_slice(&table))?.whole())
    }

    /// Matrices with a common input stacked by rows; `biases` names their biases, or nothing.
    pub(crate) async fn linear(&mut self, label: &'static str, sources: &[Source<'a>], biases: &[String]) -> Result<Linear> {
        let mut linear = self.experts(label, &[sources.to_vec()]).await?;
        let mut row = 0;
        for (name, source) in biases.iter().zip(sources) {
            linear.biases.push((self.vector("bias", name, source.rows).await?, row, source.rows));
            row += source.rows;
        }
        Ok(linear)
    }

    /// The same for a stack of experts, each made of the same kinds of matrices.
    pub(crate) async fn experts(&mut self, label: &'static str, experts: &[Vec<Source<'a>>]) -> Result<Linear> {
        let Some(first) = experts.first().filter(|e| !e.is_empty()) else {
            return Err(tensor_error(label, "there is no matrix to load".into()));
        };
        let cols = first[0].cols;
        let mut matrices = Vec::new();
        let (mut begin, mut row) = (0, 0);
        while begin < first.len() {
            let dtype = first[begin].tensor.dtype;
            let run = first[begin..].iter().take_while(|s| s.tensor.dtype == dtype).count();
            let rows = first[begin..begin + run].iter().map(|s| s.rows).sum();
            let stack: Vec<_> = experts.iter().map(|e| &e[begin..begin + run]).collect();
            for source in stack.iter().copied().flatten() {
                if source.tensor.dtype != dtype {
                    let problem = format!("is {}, while others of its layer are {}", source.tensor.dtype.name(), dtype.name());
                    return Err(tensor_error(&source.tensor.name, problem));
                }
            }
            matrices.push((self.pack(label, Layout::new(dtype, rows, cols), &stack).await?, row));
            begin += run;
            row += rows;
        }
        Ok(Linear { matrices, rows: row, cols, biases: Vec::new() })
    }

    /// Packs a stack of matrices, each given as pieces from top to bottom, into as few buffers as the device allows.
    async fn pack(&mut self, label: &'static str, layout: Layout, stack: &[&[Source<'a>]]) -> Result<Matrix> {
        let (quants_words, side_words) = (layout.group_quants(), layout.group_side());
        let mut upload = Upload::new(self.gpu, label, &layout, layout.groups() * stack.len())?;
        let batch = (BATCH_BYTES / (4 * quants_words)).max(1);
        for matrix in stack {
            let mut whole = Vec::new();
            for source in matrix.iter().filter(|s| s.transposed) {
                whole.extend(self.transposed(source).await?);
            }
            let row_bytes = layout.cols / layout.dtype.block_len() * layout.dtype.block_bytes();
            for first in (0..layout.groups()).step_by(batch) {
                let groups = first..(first + batch).min(layout.groups());
                let rows = groups.start * GROUP_ROWS..(groups.end * GROUP_ROWS).min(layout.rows);
                let raw = if whole.is_empty() {
                    self.rows(matrix, rows).await?
                } else {
                    whole[rows.start * row_bytes..rows.end * row_bytes].to_vec()
                };
                let mut quants = vec![0; groups.len() * quants_words];
                let mut side = vec![0; groups.len() * side_words];
                for (i, group) in raw.chunks(GROUP_ROWS * row_bytes).enumerate() {
                    let side = &mut side[i * side_words..(i + 1) * side_words];
                    layout.pack_group(group, &mut quants[i * quants_words..(i + 1) * quants_words], side);
                }
                upload.write(self.gpu, &quants, &side);
                self.unflushed += 4 * (quants.len() + side.len()) as u64;
                if self.unflushed > FLUSH_BYTES {
                    self.gpu.flush();
                    self.unflushed = 0;
                }
            }
        }
        self.gpu.check()?;
        Ok(Matrix { layout, parts: upload.parts })
    }

    /// Rows of a matrix given as pieces from top to bottom.
    async fn rows(&mut self, pieces: &[Source<'a>], rows: Range<usize>) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut before = 0;
        for piece in pieces {
            let here = rows.start.max(before)..rows.end.min(before + piece.rows);
            if here.start < here.end {
                let range = piece.range(here.start - before..here.end - before);
                self.advance(range.end - range.start);
                out.extend(self.checkpoint.read(piece.tensor, range).await?);
            }
            before += piece.rows;
        }
        Ok(out)
    }

    /// A matrix stored [cols, rows], row by row. It is held in memory whole: one expert at a time.
    async fn transposed(&mut self, source: &Source<'a>) -> Result<Vec<u8>> {
        let size = source.tensor.dtype.block_bytes();
        let start = source.index as u64 * source.bytes();
        let mut out = vec![0; source.rows * source.cols * size];
        let batch = (BATCH_BYTES / (source.rows * size)).max(BLOCK_COLS);
        for first in (0..source.cols).step_by(batch) {
            let cols = first..(first + batch).min(source.cols);
            let range = start + (cols.start * source.rows * size) as u64..start + (cols.end * source.rows * size) as u64;
            self.advance(range.end - range.start);
            let raw = self.checkpoint.read(source.tensor, range).await?;
            for (col, values) in cols.zip(raw.chunks_exact(source.rows * size)) {
                for (row, value) in values.chunks_exact(size).enumerate() {
                    let at = (row * source.cols + col) * size;
                    out[at..at + size].copy_from_slice(value);
                }
            }
        }
        Ok(out)
    }

    fn advance(&mut self, bytes: u64) {
        self.read += bytes;
        (self.progress)(self.read);
    }
}

/// Buffers being filled, group after group.
struct Upload {
    parts: Vec<Part>,
    buffers: Vec<Buffer>,
    quants_bytes: u64,
    side_bytes: u64,
    next_group: usize,
}

impl Upload {
    fn new(gpu: &Gpu, label: &'static str, layout: &Layout, groups: usize) -> Result<Self> {
        let (quants_bytes, side_bytes) = (4 * layout.group_quants() as u64, 4 * layout.group_side() as u64);
        let caps = gpu.caps();
        let by_binding = caps.max_binding_bytes / quants_bytes.max(side_bytes);
        let by_buffer = caps.max_buffer_bytes.saturating_sub(BINDING_ALIGNMENT) / (quants_bytes + side_bytes);
        let most = usize::try_from(by_binding.min(by_buffer)).unwrap_or(usize::MAX);
        if most == 0 {
            let needed = quants_bytes.max(side_bytes);
            return Err(Error::Adapter(format!(
                "32 rows of {label} take {needed} bytes, more than the adapter's largest binding of {}",
                caps.max_binding_bytes
            )));
        }
        let mut upload = Self { parts: Vec::new(), buffers: Vec::new(), quants_bytes, side_bytes, next_group: 0 };
        for first_group in (0..groups).step_by(most) {
            let end_group = (first_group + most).min(groups);
            let count = (end_group - first_group) as u64;
            let side_at = (count * quants_bytes).next_multiple_of(BINDING_ALIGNMENT);
            let buffer = gpu.buffer(label, side_at + count * side_bytes)?;
            let quants = buffer.slice(0, count * quants_bytes);
            let side = (side_bytes > 0).then(|| buffer.slice(side_at, count * side_bytes));
            upload.parts.push(Part { first_group, end_group, quants, side });
            upload.buffers.push(buffer);
        }
        Ok(upload)
    }

    fn write(&mut self, gpu: &Gpu, quants: &[u32], side: &[u32]) {
        let groups = quants.len() * 4 / self.quants_bytes as usize;
        for (part, buffer) in self.parts.iter().zip(&self.buffers) {
            let from = self.next_group.max(part.first_group);
            let to = (self.next_group + groups).min(part.end_group);
            if from >= to {
                continue;
            }
            let (skip, at) = (from - self.next_group, (from - part.first_group) as u64);
            let words = |per_group: u64| skip * per_group as usize / 4..(skip + to - from) * per_group as usize / 4;
            gpu.write(buffer, at * self.quants_bytes, bytemuck::cast_slice(&quants[words(self.quants_bytes)]));
            if part.side.is_some() {
                let side_at =
                    ((part.end_group - part.first_group) as u64 * self.quants_bytes).next_multiple_of(BINDING_ALIGNMENT);
                gpu.write(buffer, side_at + at * self.side_bytes, bytemuck::cast_slice(&side[words(self.side_bytes)]));
            }
        }
        self.next_group += groups;
    }
}

fn tensor_error(name: &str, problem: String) -> Error {
    Error::Tensor { name: name.into(), problem }
}
