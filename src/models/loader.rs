//! Room on the GPU for a model's weights, and the list of what has to be read into it.

use super::fill::Fill;
use crate::experts::Pools;
use crate::gpu::{Gpu, Slice};
use crate::kernels::{Matrix, Norm};
use crate::layers::{Linear, Mlp};
use crate::packing::{BLOCK_COLS, Layout};
use crate::repack::{Piece, runs, shaped, tensor_error};
use crate::weights::{Checkpoint, DType, TensorInfo};
use crate::{Result, rope};

/// Binds a model to GPU memory before anything is read into it: then it can be recorded, and what it needs be compiled, while its
/// weights are still on their way.
pub(crate) struct Loader<'a> {
    gpu: &'a Gpu,
    pub(crate) checkpoint: &'a Checkpoint,
    /// Positions that rotation tables are made for.
    context: usize,
    /// Room for the experts.
    pools: &'a Pools,
    fills: Vec<Fill>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(gpu: &'a Gpu, checkpoint: &'a Checkpoint, context: usize, pools: &'a Pools) -> Self {
        Self { gpu, checkpoint, context, pools, fills: Vec::new() }
    }

    /// What has to be read, in the order in which it was asked for.
    pub(crate) fn finish(self) -> Vec<Fill> {
        self.fills
    }

    /// The tensor `name` as one [rows, cols] matrix.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Piece> {
        Piece::whole(self.checkpoint, name, rows, cols)
    }

    /// Whether the checkpoint has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        Ok(self.checkpoint.find(name)?.is_some())
    }

    pub(crate) fn norm(&mut self, name: &str, cols: usize, eps: f32) -> Result<Norm> {
        // What pads it to whole blocks stays zero.
        let weight = self.floats("norm", name, cols, cols.next_multiple_of(BLOCK_COLS))?;
        Ok(Norm { weight, cols, eps })
    }

    /// The rotation table for these frequencies and the engine's context. The numbers of the tensor `divisors`, if there is such a
    /// name, divide the frequencies.
    pub(crate) fn rope_table(&mut self, frequencies: Vec<f64>, divisors: Option<&str>) -> Result<Slice> {
        let context = self.context;
        let divisors = divisors.map(|name| self.vector(name, frequencies.len())).transpose()?;
        let to = self.gpu.buffer("rope_table", 4 * rope::table_len(frequencies.len(), context) as u64)?.whole();
        self.fills.push(Fill::Rotations { frequencies, divisors, context, to: to.clone() });
        Ok(to)
    }

    /// Matrices with a common input stacked by rows; `biases` names their biases, or nothing.
    pub(crate) fn linear(&mut self, label: &'static str, pieces: &[Piece], biases: &[String]) -> Result<Linear> {
        let matrices =
            runs(pieces).into_iter().map(|(layout, run)| self.stack_of_one(label, layout, run)).collect::<Result<_>>()?;
        let mut linear = Linear::new(matrices);
        let mut row = 0;
        for (name, piece) in biases.iter().zip(pieces) {
            linear.biases.push((self.floats("bias", name, piece.rows(), piece.rows())?, row, piece.rows()));
            row += piece.rows();
        }
        Ok(linear)
    }

    /// The arenas that hold the experts of the model's MoE layer `index`, counted among the MoE layers: gate over up, and
    /// down.
    pub(crate) fn experts(&self, index: usize) -> (Linear, Linear) {
        let (gate_up, down) = self.pools.matrices(index);
        (Linear::new(gate_up), Linear::new(down))
    }

    /// The shared expert of the MoE layer `index`, of which these are the pieces of gate over up and of down; with its slot where it has
    /// one in the arenas.
    pub(crate) fn shared_expert(&mut self, index: usize, [gate_up, down]: [Vec<Piece>; 2]) -> Result<(Mlp, Option<u32>)> {
        let Some(slot) = self.pools.shared(index) else {
            let (gate_up, down) = (self.linear("ffn_gate_up", &gate_up, &[])?, self.linear("ffn_down", &down, &[])?);
            return Ok((Mlp { gate_up, down }, None));
        };
        let (above, below) = self.pools.matrices(index);
        let (gate_up, down) = (self.place(&above, slot, &gate_up), self.place(&below, slot, &down));
        Ok((Mlp { gate_up, down }, Some(slot)))
    }

    /// A matrix of its own.
    fn stack_of_one(&mut self, label: &'static str, layout: Layout, pieces: &[Piece]) -> Result<Matrix> {
        let to = Matrix::allocate(self.gpu, label, layout, 1)?;
        self.fills.push(Fill::Matrix { from: pieces.to_vec(), to: to.clone(), before: 0 });
        Ok(to)
    }

    /// A matrix in a slot of an arena, which has one stack of its format.
    fn place(&mut self, arena: &[Matrix], slot: u32, pieces: &[Piece]) -> Linear {
        let slot = slot as usize;
        let fill = |stack: &Matrix| Fill::Matrix { from: pieces.to_vec(), to: stack.clone(), before: slot };
        self.fills.extend(arena.iter().map(fill));
        Linear::new(arena.iter().map(|stack| stack.one(slot)).collect())
    }

    /// A vector of `len` floats as f32, in room for `room` of them.
    fn floats(&mut self, label: &'static str, name: &str, len: usize, room: usize) -> Result<Slice> {
        let from = self.vector(name, len)?;
        let to = self.gpu.buffer(label, 4 * room as u64)?.whole();
        self.fills.push(Fill::Floats { from, to: to.clone() });
        Ok(to)
    }

    fn vector(&self, name: &str, len: usize) -> Result<TensorInfo> {
        let tensor = shaped(self.checkpoint, name, &[len])?;
        match tensor.dtype {
            DType::F32 | DType::F16 | DType::BF16 => Ok(tensor.clone()),
            other => Err(tensor_error(name, format!("is {}, expected floats", other.name()))),
        }
    }
}
