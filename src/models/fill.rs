//! Weights from the checkpoint into the GPU memory that was made for them, through small staging memory, repacked on the way.

use crate::gpu::{Gpu, Slice};
use crate::kernels::{Array, Matrix};
use crate::repack::{Piece, Rows};
use crate::weights::{Checkpoint, DType, OnProgress, TensorInfo};
use crate::{Result, rope};

/// Bytes of packed weights that are staged at a time.
const BATCH_BYTES: u64 = 4 << 20;
/// Bytes after which uploads are waited for, so that the driver's staging memory stays small.
const FLUSH_BYTES: u64 = 32 << 20;

/// What is to be read, and where to.
pub(crate) enum Fill {
    /// Floats of any kind, as f32.
    Floats { from: TensorInfo, to: Slice },
    /// The rotation table for these frequencies, each divided by a number of the tensor.
    Rotations { frequencies: Vec<f64>, divisors: Option<TensorInfo>, context: usize, to: Slice },
    /// A matrix, given as pieces from top to bottom, behind `before` others of a stack.
    Matrix { from: Vec<Piece>, to: Matrix, before: usize },
}

/// Reads everything, in this order. `progress` is told how many bytes of the checkpoint have been read.
///
/// # Errors
/// The source or the GPU fails.
pub(crate) async fn fill(gpu: &Gpu, checkpoint: &Checkpoint, fills: &[Fill], progress: &mut OnProgress<'_, u64>) -> Result<()> {
    let mut filler = Filler { gpu, checkpoint, progress, read: 0, unflushed: 0 };
    for fill in fills {
        match fill {
            Fill::Floats { from, to } => {
                let values = filler.floats(from).await?;
                gpu.write_slice(to, 0, bytemuck::cast_slice(&values));
            }
            Fill::Rotations { frequencies, divisors, context, to } => {
                let mut frequencies = frequencies.clone();
                if let Some(divisors) = divisors {
                    for (f, divisor) in frequencies.iter_mut().zip(filler.floats(divisors).await?) {
                        *f /= f64::from(divisor);
                    }
                }
                gpu.write_slice(to, 0, bytemuck::cast_slice(&rope::table(&frequencies, *context)));
            }
            Fill::Matrix { from, to, before } => filler.matrix(from, to, *before).await?,
        }
    }
    Ok(())
}

struct Filler<'a, 'p> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    progress: &'a mut OnProgress<'p, u64>,
    read: u64,
    unflushed: u64,
}

impl Filler<'_, '_> {
    async fn floats(&mut self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let bytes = self.checkpoint.read(tensor, 0..tensor.bytes()).await?;
        self.advance(tensor.bytes());
        let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        Ok(match tensor.dtype {
            DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            DType::F16 => halves().map(|h| half::f16::from_bits(h).to_f32()).collect(),
            DType::BF16 => halves().map(|h| half::bf16::from_bits(h).to_f32()).collect(),
            _ => unreachable!("the loader takes floats only"),
        })
    }

    async fn matrix(&mut self, pieces: &[Piece], stack: &Matrix, before: usize) -> Result<()> {
        let layout = stack.layout;
        let rows = Rows::open(self.checkpoint, layout, pieces).await?;
        let group_bytes = layout.bytes() / layout.groups().max(1) as u64;
        let batch = usize::try_from(BATCH_BYTES / group_bytes).unwrap_or(1).max(1);
        for first in (0..layout.groups()).step_by(batch) {
            let groups = first..(first + batch).min(layout.groups());
            let share = groups.len() as u64 * pieces.iter().map(Piece::bytes).sum::<u64>() / layout.groups() as u64;
            let packed = rows.groups(groups).await?;
            for (array, words, per_group) in
                [(Array::Quants, &packed.quants, layout.group_quants()), (Array::Side, &packed.side, layout.group_side())]
            {
                let at = 4 * ((before * layout.groups() + first) * per_group) as u64;
                stack.write(self.gpu, array, at, bytemuck::cast_slice(words));
            }
            self.advance(share);
            self.unflushed += 4 * (packed.quants.len() + packed.side.len()) as u64;
            if self.unflushed > FLUSH_BYTES {
                self.gpu.flush().await;
                self.unflushed = 0;
            }
        }
        self.gpu.check()
    }

    fn advance(&mut self, bytes: u64) {
        self.read += bytes;
        (self.progress)(self.read);
    }
}
