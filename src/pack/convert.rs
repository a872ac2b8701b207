//! Tensors from the checkpoint into a shard, in another format if the plan says so.

use std::num::NonZero;
use std::ops::Range;
use std::thread;

use super::Watch;
use super::plan::{Dense, Layer};
use super::quantize::{NotRepresentable, quantize};
use super::shard::ShardFile;
use crate::packing::{GROUP_ROWS, Layout};
use crate::repack::Rows;
use crate::weights::{Checkpoint, DType};
use crate::{Error, Result};

/// Bytes of the checkpoint that are converted at a time.
const BATCH_BYTES: usize = 8 << 20;

/// The threads that compute.
#[derive(Clone, Copy)]
pub(super) struct Workers(usize);

impl Workers {
    /// One for each processor.
    pub(super) fn all() -> Self {
        Self(thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// Does `work` on all `items`, spread over the threads, and returns the first failure.
    fn each<T: Send>(
        self,
        items: Vec<T>,
        work: impl Fn(T) -> Result<(), NotRepresentable> + Sync,
    ) -> Result<(), NotRepresentable> {
        let share = items.len().div_ceil(self.0).max(1);
        let mut items = items.into_iter();
        let work = &work;
        thread::scope(|scope| {
            let mut running = Vec::new();
            loop {
                let own: Vec<T> = items.by_ref().take(share).collect();
                if own.is_empty() {
                    break;
                }
                running.push(scope.spawn(move || own.into_iter().try_for_each(work)));
            }
            running.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

/// Writes a tensor outside the experts.
pub(super) async fn write_dense(
    checkpoint: &Checkpoint,
    dense: Dense<'_>,
    workers: Workers,
    file: &mut ShardFile,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let (from, to) = (dense.tensor.dtype, dense.dtype);
    // Whole blocks of both formats, one of which has blocks of a single element if they differ.
    let unit = if from == to { 1 } else { (to.block_len() * from.block_bytes()) as u64 };
    let batch = BATCH_BYTES as u64 / unit * unit;
    let bytes = dense.tensor.bytes();
    let mut at = 0;
    while at < bytes {
        let end = (at + batch).min(bytes);
        let mut raw = checkpoint.read(dense.tensor, at..end).await?;
        if from != to {
            raw = convert(&raw, from, to, workers).map_err(|_| not_representable(&dense.tensor.name, to))?;
        }
        file.write(&raw)?;
        watch.advance(raw.len() as u64)?;
        at = end;
    }
    Ok(())
}

/// Writes the record of an expert.
pub(super) async fn write_record(
    checkpoint: &Checkpoint,
    layer: &Layer,
    expert: usize,
    workers: Workers,
    file: &mut ShardFile,
    watch: &mut Watch<'_>,
) -> Result<()> {
    let words = |bytes: &Range<u64>| (bytes.end - bytes.start) as usize / 4;
    let mut record = vec![0u32; layer.record.bytes() as usize / 4];
    let mut rest = record.as_mut_slice();
    let matrices = layer.source.pieces(expert).ok_or_else(|| Error::Tensor {
        name: format!("expert {expert} of layer {}", layer.source.layer),
        problem: "is not in the checkpoint".into(),
    })?;
    let places = layer.record.places();
    for ((place, source), pieces) in places.iter().zip(layer.source.record.matrices()).zip(matrices) {
        let (mut quants, mut side);
        (quants, rest) = rest.split_at_mut(words(&place.quants));
        (side, rest) = rest.split_at_mut(words(&place.side));
        let conversion = Conversion { from: source.dtype, to: place.layout };
        let rows = Rows::open(checkpoint, *source, pieces).await?;
        let batch = (BATCH_BYTES / (GROUP_ROWS * conversion.row_bytes()).max(1)).max(1) * GROUP_ROWS;
        for first in (0..source.rows).step_by(batch) {
            let end = (first + batch).min(source.rows);
            let raw = rows.raw(first..end).await?;
            let groups = (end - first).div_ceil(GROUP_ROWS);
            let (now_quants, now_side);
            (now_quants, quants) = quants.split_at_mut(groups * place.layout.group_quants());
            (now_side, side) = side.split_at_mut(groups * place.layout.group_side());
            let packed = conversion.pack(&raw, now_quants, now_side, workers);
            packed.map_err(|_| not_representable(pieces.first().map_or("", |p| p.name()), place.layout.dtype))?;
            watch.advance(0)?;
        }
    }
    let record = bytemuck::cast_slice(&record);
    file.write(record)?;
    watch.advance(record.len() as u64)
}

/// From rows in a checkpoint's format to a packed matrix in another or the same.
struct Conversion {
    from: DType,
    to: Layout,
}

impl Conversion {
    fn row_bytes(&self) -> usize {
        self.to.cols / self.from.block_len() * self.from.block_bytes()
    }

    /// Packs rows that begin with a group into groups of zeros.
    fn pack(&self, raw: &[u8], mut quants: &mut [u32], mut side: &mut [u32], workers: Workers) -> Result<(), NotRepresentable> {
        let mut groups = Vec::new();
        for rows in raw.chunks(GROUP_ROWS * self.row_bytes()) {
            let (own_quants, own_side);
            (own_quants, quants) = quants.split_at_mut(self.to.group_quants());
            (own_side, side) = side.split_at_mut(self.to.group_side());
            groups.push((rows, own_quants, own_side));
        }
        workers.each(groups, |(rows, quants, side)| {
            if self.from == self.to.dtype {
                self.to.pack_group(rows, quants, side);
                return Ok(());
            }
            let mut converted = Vec::new();
            quantize(&floats(rows, self.from), self.to.dtype, &mut converted)?;
            self.to.pack_group(&converted, quants, side);
            Ok(())
        })
    }
}

/// Floats in one format to another, of which they are whole blocks.
fn convert(raw: &[u8], from: DType, to: DType, workers: Workers) -> Result<Vec<u8>, NotRepresentable> {
    const BLOCKS: usize = 1024;
    let chunk = BLOCKS * to.block_len() * from.block_bytes();
    let mut parts: Vec<Vec<u8>> = raw.chunks(chunk).map(|_| Vec::new()).collect();
    let work = raw.chunks(chunk).zip(&mut parts).collect();
    workers.each(work, |(raw, out)| quantize(&floats(raw, from), to, out))?;
    Ok(parts.concat())
}

/// The values of a float format.
fn floats(raw: &[u8], dtype: DType) -> Vec<f32> {
    let halves = raw.as_chunks().0.iter().map(|&two| u16::from_le_bytes(two));
    match dtype {
        DType::F16 => halves.map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        DType::BF16 => halves.map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        // Formats with blocks are never converted.
        _ => raw.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
    }
}

fn not_representable(name: &str, dtype: DType) -> Error {
    let problem = format!("holds a weight that is not finite or too large for {dtype}");
    Error::Tensor { name: name.into(), problem }
}
