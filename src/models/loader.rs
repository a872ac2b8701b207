//! Weights from the checkpoint into GPU buffers, through small staging memory, repacked on the way.

use crate::experts::Pools;
use crate::gpu::{Gpu, Slice};
use crate::kernels::{Array, Matrix, Norm};
use crate::layers::{Linear, Mlp};
use crate::packing::{BLOCK_COLS, Layout};
use crate::repack::{Piece, Rows, runs, shaped, tensor_error};
use crate::weights::{Checkpoint, DType, OnProgress};
use crate::{Result, rope};

/// Bytes of packed weights that are staged at a time.
const BATCH_BYTES: u64 = 4 << 20;
/// Bytes after which uploads are waited for, so that the driver's staging memory stays small.
const FLUSH_BYTES: u64 = 32 << 20;

pub(crate) struct Loader<'a> {
    gpu: &'a Gpu,
    pub(crate) checkpoint: &'a Checkpoint,
    /// Positions that rotation tables are made for.
    context: usize,
    /// Room for the experts.
    pools: &'a Pools,
    /// Told how many bytes of the checkpoint have been read.
    progress: &'a mut OnProgress<'a, u64>,
    read: u64,
    unflushed: u64,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        gpu: &'a Gpu,
        checkpoint: &'a Checkpoint,
        context: usize,
        pools: &'a Pools,
        progress: &'a mut OnProgress<'a, u64>,
    ) -> Self {
        Self { gpu, checkpoint, context, pools, progress, read: 0, unflushed: 0 }
    }

    /// The tensor `name` as one [rows, cols] matrix.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Piece> {
        Piece::whole(self.checkpoint, name, rows, cols)
    }

    /// Whether the checkpoint has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        Ok(self.checkpoint.find(name)?.is_some())
    }

    /// A vector of `len` floats as f32.
    pub(crate) async fn vector(&mut self, label: &'static str, name: &str, len: usize) -> Result<Slice> {
        let values = self.floats(name, len).await?;
        Ok(self.gpu.upload(label, bytemuck::cast_slice(&values))?.whole())
    }

    /// The same on the CPU.
    pub(crate) async fn floats(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let tensor = shaped(self.checkpoint, name, &[len])?;
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
        let mut weight = self.floats(name, cols).await?;
        weight.resize(cols.next_multiple_of(BLOCK_COLS), 0.0);
        Ok(Norm { weight: self.gpu.upload("norm", bytemuck::cast_slice(&weight))?.whole(), cols, eps })
    }

    /// The rotation table for these frequencies and the engine's context.
    pub(crate) fn rope_table(&self, frequencies: &[f64]) -> Result<Slice> {
        let table = rope::table(frequencies, self.context);
        Ok(self.gpu.upload("rope_table", bytemuck::cast_slice(&table))?.whole())
    }

    /// Matrices with a common input stacked by rows; `biases` names their biases, or nothing.
    pub(crate) async fn linear(&mut self, label: &'static str, pieces: &[Piece], biases: &[String]) -> Result<Linear> {
        let mut matrices = Vec::new();
        for (layout, run) in runs(pieces) {
            matrices.push(self.upload(label, layout, run).await?);
        }
        let mut linear = Linear::new(matrices);
        let mut row = 0;
        for (name, piece) in biases.iter().zip(pieces) {
            linear.biases.push((self.vector("bias", name, piece.rows()).await?, row, piece.rows()));
            row += piece.rows();
        }
        Ok(linear)
    }

    /// Packs a matrix, given as pieces from top to bottom, into a buffer of its own.
    async fn upload(&mut self, label: &'static str, layout: Layout, pieces: &[Piece]) -> Result<Matrix> {
        let matrix = Matrix::allocate(self.gpu, label, layout, 1)?;
        self.fill(&matrix, 0, pieces).await?;
        Ok(matrix)
    }

    /// Packs a matrix into a stack, behind `before` others.
    async fn fill(&mut self, stack: &Matrix, before: usize, pieces: &[Piece]) -> Result<()> {
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

    /// The arenas that hold the experts of the model's MoE layer `index`, counted among the MoE layers: gate over up, and
    /// down.
    pub(crate) fn experts(&self, index: usize) -> (Linear, Linear) {
        let (gate_up, down) = self.pools.matrices(index);
        (Linear::new(gate_up), Linear::new(down))
    }

    /// The shared expert of the MoE layer `index`, of which these are the pieces of gate over up and of down; with its slot where it has
    /// one in the arenas.
    pub(crate) async fn shared_expert(&mut self, index: usize, [gate_up, down]: &[Vec<Piece>; 2]) -> Result<(Mlp, Option<u32>)> {
        let Some(slot) = self.pools.shared(index) else {
            let (gate_up, down) = (self.linear("ffn_gate_up", gate_up, &[]).await?, self.linear("ffn_down", down, &[]).await?);
            return Ok((Mlp { gate_up, down }, None));
        };
        let (above, below) = self.pools.matrices(index);
        let (gate_up, down) = (self.place(&above, slot, gate_up).await?, self.place(&below, slot, down).await?);
        Ok((Mlp { gate_up, down }, Some(slot)))
    }

    /// Packs a matrix into a slot of an arena, which has one stack of its format.
    async fn place(&mut self, arena: &[Matrix], slot: u32, pieces: &[Piece]) -> Result<Linear> {
        let mut placed = Vec::with_capacity(arena.len());
        for stack in arena {
            self.fill(stack, slot as usize, pieces).await?;
            placed.push(stack.one(slot as usize));
        }
        Ok(Linear::new(placed))
    }

    fn advance(&mut self, bytes: u64) {
        self.read += bytes;
        (self.progress)(self.read);
    }
}
