//! Matrices of a checkpoint in the packed layout: reading rows where they lie and packing them, a few megabytes at a time.

use std::ops::Range;
use std::sync::Arc;

use crate::packing::{BLOCK_COLS, GROUP_ROWS, Layout};
use crate::weights::{Checkpoint, DType, TensorInfo};
use crate::{Error, Result};

/// Bytes of a transposed matrix that are read at a time.
const BATCH_BYTES: usize = 4 << 20;

/// A matrix in the checkpoint: all of a tensor, or one expert's part of a stacked one.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    tensor: Arc<TensorInfo>,
    rows: usize,
    cols: usize,
    /// Matrices of this size before it in the tensor.
    index: usize,
    /// Stored [cols, rows] instead of [rows, cols].
    transposed: bool,
}

impl Piece {
    /// The tensor `name` as one [rows, cols] matrix.
    ///
    /// # Errors
    /// It is missing, or has another shape or an unsupported format.
    pub(crate) fn whole(checkpoint: &Checkpoint, name: &str, rows: usize, cols: usize) -> Result<Self> {
        let tensor = Arc::new(shaped(checkpoint, name, &[rows, cols])?.clone());
        Ok(Self { tensor, rows, cols, index: 0, transposed: false })
    }

    /// The matrices of the stack `name`, [count, rows, cols], or [count, cols, rows] if `transposed`.
    ///
    /// # Errors
    /// As [`Piece::whole`], or a transposed stack of blocks.
    pub(crate) fn stack(
        checkpoint: &Checkpoint,
        name: &str,
        count: usize,
        (rows, cols): (usize, usize),
        transposed: bool,
    ) -> Result<Vec<Self>> {
        let tensor =
            Arc::new(shaped(checkpoint, name, &if transposed { [count, cols, rows] } else { [count, rows, cols] })?.clone());
        if transposed && tensor.dtype.block_len() != 1 {
            return Err(tensor_error(name, format!("is {}, which cannot be transposed", tensor.dtype.name())));
        }
        Ok((0..count).map(|index| Self { tensor: Arc::clone(&tensor), rows, cols, index, transposed }).collect())
    }

    pub(crate) fn name(&self) -> &str {
        &self.tensor.name
    }

    pub(crate) fn dtype(&self) -> DType {
        self.tensor.dtype
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn is_transposed(&self) -> bool {
        self.transposed
    }

    /// Bytes in the checkpoint.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensor.dtype.bytes_for(self.rows as u64 * self.cols as u64).unwrap_or(0)
    }

    fn range(&self, rows: Range<usize>) -> Range<u64> {
        let row = self.bytes() / self.rows.max(1) as u64;
        let start = self.index as u64 * self.bytes();
        start + rows.start as u64 * row..start + rows.end as u64 * row
    }

    /// A matrix stored [cols, rows], row by row. It is held in memory whole: one expert at a time.
    async fn transpose(&self, checkpoint: &Checkpoint) -> Result<Vec<u8>> {
        let size = self.tensor.dtype.block_bytes();
        let start = self.index as u64 * self.bytes();
        let mut out = vec![0; self.rows * self.cols * size];
        let batch = (BATCH_BYTES / (self.rows * size)).max(BLOCK_COLS);
        for first in (0..self.cols).step_by(batch) {
            let cols = first..(first + batch).min(self.cols);
            let range = start + (cols.start * self.rows * size) as u64..start + (cols.end * self.rows * size) as u64;
            let raw = checkpoint.read(&self.tensor, range).await?;
            for (col, values) in cols.zip(raw.chunks_exact(self.rows * size)) {
                for (row, value) in values.chunks_exact(size).enumerate() {
                    let at = (row * self.cols + col) * size;
                    out[at..at + size].copy_from_slice(value);
                }
            }
        }
        Ok(out)
    }
}

/// The tensor of this name if it has this shape.
pub(crate) fn shaped<'a>(checkpoint: &'a Checkpoint, name: &str, shape: &[usize]) -> Result<&'a TensorInfo> {
    let tensor = checkpoint.tensor(name)?;
    if tensor.shape != shape {
        return Err(tensor_error(name, format!("has shape {:?}, expected {shape:?}", tensor.shape)));
    }
    Ok(tensor)
}

/// A run of packed groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) quants: Vec<u32>,
    pub(crate) side: Vec<u32>,
}

/// One matrix of the checkpoint, given as pieces from top to bottom, while its groups are read.
pub(crate) struct Rows<'a> {
    checkpoint: &'a Checkpoint,
    layout: Layout,
    pieces: &'a [Piece],
    /// The whole matrix row by row, where the checkpoint has it transposed.
    turned: Option<Vec<u8>>,
}

impl<'a> Rows<'a> {
    /// Reads already what can only be read whole.
    pub(crate) async fn open(checkpoint: &'a Checkpoint, layout: Layout, pieces: &'a [Piece]) -> Result<Self> {
        let mut turned = None;
        if pieces.iter().any(|piece| piece.transposed) {
            let whole: &mut Vec<u8> = turned.insert(Vec::new());
            for piece in pieces {
                whole.extend(piece.transpose(checkpoint).await?);
            }
        }
        Ok(Self { checkpoint, layout, pieces, turned })
    }

    /// Rows in the checkpoint's own format.
    pub(crate) async fn raw(&self, rows: Range<usize>) -> Result<Vec<u8>> {
        let row_bytes = self.row_bytes();
        if let Some(whole) = &self.turned {
            return Ok(whole[rows.start * row_bytes..rows.end * row_bytes].to_vec());
        }
        let mut out = Vec::with_capacity(rows.len() * row_bytes);
        let mut before = 0;
        for piece in self.pieces {
            let here = rows.start.max(before)..rows.end.min(before + piece.rows);
            if here.start < here.end {
                let range = piece.range(here.start - before..here.end - before);
                out.extend(self.checkpoint.read(&piece.tensor, range).await?);
            }
            before += piece.rows;
        }
        Ok(out)
    }

    /// Packs a run of groups.
    pub(crate) async fn groups(&self, groups: Range<usize>) -> Result<Groups> {
        let rows = groups.start * GROUP_ROWS..(groups.end * GROUP_ROWS).min(self.layout.rows);
        let raw = self.raw(rows).await?;
        let (quants_words, side_words) = (self.layout.group_quants(), self.layout.group_side());
        let mut packed = Groups { quants: vec![0; groups.len() * quants_words], side: vec![0; groups.len() * side_words] };
        for (i, group) in raw.chunks(GROUP_ROWS * self.row_bytes()).enumerate() {
            let side = &mut packed.side[i * side_words..(i + 1) * side_words];
            self.layout.pack_group(group, &mut packed.quants[i * quants_words..(i + 1) * quants_words], side);
        }
        Ok(packed)
    }

    fn row_bytes(&self) -> usize {
        self.layout.cols / self.layout.dtype.block_len() * self.layout.dtype.block_bytes()
    }
}

/// Pieces from top to bottom cut into runs of one format: each is one packed matrix.
///
/// # Errors
/// There is no piece.
pub(crate) fn runs(pieces: &[Piece]) -> Vec<(Layout, &[Piece])> {
    pieces
        .chunk_by(|a, b| a.dtype() == b.dtype())
        .map(|run| (Layout::new(run[0].dtype(), run.iter().map(|p| p.rows).sum(), run[0].cols), run))
        .collect()
}

pub(crate) fn tensor_error(name: &str, problem: String) -> Error {
    Error::Tensor { name: name.into(), problem }
}
