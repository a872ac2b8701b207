//! Where each expert of a checkpoint is, and reading it as a record.

use std::ops::Range;

use futures_util::future::try_join_all;

use super::record::{Place, Record};
use crate::repack::{Piece, Rows, runs, tensor_error};
use crate::weights::{Checkpoint, PackedLayer};
use crate::{Error, Result, packing::Layout};

/// Larger records are moved in parts of about this size, so that reading, packing and uploading overlap.
const LARGEST_WHOLE: u64 = 16 << 20;
const TILE_BYTES: u64 = 8 << 20;

/// The routed experts of one MoE layer.
#[derive(Clone, Debug)]
pub(crate) struct ExpertLayer {
    /// Index of the layer in the model.
    pub(crate) layer: usize,
    pub(crate) record: Record,
    /// Whether every token passes one more expert, which has the record's sizes and formats.
    pub(crate) has_alike: bool,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// Records as `moxel pack` writes them.
    Packed { experts: usize },
    /// For each expert, its matrices in the record's order, each as pieces from top to bottom.
    Loose(Vec<Vec<Vec<Piece>>>),
}

/// The part of a record that is moved at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    /// The whole record.
    Whole,
    /// Bytes of a packed record.
    Bytes(Range<u64>),
    /// Groups of a matrix of the record.
    Groups { matrix: usize, groups: Range<usize> },
}

/// Bytes of a record: where they begin in it, and what they are.
pub(crate) type Fragment = (u64, Vec<u8>);

impl ExpertLayer {
    /// Experts in the checkpoint's own tensors: for each expert the pieces of gate over up, and those of down.
    ///
    /// # Errors
    /// Experts of one layer in different formats.
    pub(crate) fn loose(layer: usize, gate_up: Vec<Vec<Piece>>, down: Vec<Vec<Piece>>) -> Result<Self> {
        let mut record: Option<Record> = None;
        let mut experts = Vec::with_capacity(gate_up.len());
        for (gate_up, down) in gate_up.into_iter().zip(down) {
            let own = Record { gate_up: layouts(&gate_up), down: layouts(&down) };
            if *record.get_or_insert_with(|| own.clone()) != own {
                let name = gate_up.first().map_or("", Piece::name);
                return Err(tensor_error(name, "the experts of its layer have different formats".into()));
            }
            let matrices = runs(&gate_up).into_iter().chain(runs(&down)).map(|(_, pieces)| pieces.to_vec()).collect();
            experts.push(matrices);
        }
        let record = record.ok_or_else(|| tensor_error("experts", "there is no expert to load".into()))?;
        Ok(Self { layer, record, has_alike: false, source: Source::Loose(experts) })
    }

    /// Experts that `moxel pack` wrote, whose matrices must have these shapes.
    ///
    /// # Errors
    /// They have others.
    pub(crate) fn packed(
        layer: usize,
        experts: usize,
        packed: (&PackedLayer, usize),
        gate_up: (usize, usize),
        down: (usize, usize),
    ) -> Result<Self> {
        let layouts = |matrices: &[crate::weights::PackedMatrix], (rows, cols): (usize, usize)| {
            if matrices.iter().map(|m| m.rows).sum::<usize>() != rows || matrices.iter().any(|m| m.cols != cols) {
                let name = format!("the packed experts of layer {layer}");
                return Err(tensor_error(&name, format!("are not made of matrices of {rows} x {cols}")));
            }
            Ok(matrices.iter().map(|m| Layout::new(m.dtype, m.rows, m.cols)).collect())
        };
        let (packed, count) = packed;
        if count != experts {
            let name = format!("the packed experts of layer {layer}");
            return Err(tensor_error(&name, format!("are {count}, the configuration says {experts}")));
        }
        let record = Record { gate_up: layouts(&packed.gate_up, gate_up)?, down: layouts(&packed.down, down)? };
        Ok(Self { layer, record, has_alike: false, source: Source::Packed { experts } })
    }

    /// The same with a shared expert, whose pieces of gate over up and of down these are.
    #[must_use]
    pub(crate) fn with_shared(self, [gate_up, down]: &[Vec<Piece>; 2]) -> Self {
        Self { has_alike: layouts(gate_up) == self.record.gate_up && layouts(down) == self.record.down, ..self }
    }

    /// Whether the experts are records in the checkpoint, and not among its tensors.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.source, Source::Packed { .. })
    }

    /// Experts in the layer.
    pub(crate) fn experts(&self) -> usize {
        match &self.source {
            Source::Packed { experts } => *experts,
            Source::Loose(experts) => experts.len(),
        }
    }

    /// The matrices of an expert in the record's order, each as pieces from top to bottom, unless it is packed.
    #[cfg(any(unix, windows))]
    pub(crate) fn pieces(&self, expert: usize) -> Option<&[Vec<Piece>]> {
        match &self.source {
            Source::Packed { .. } => None,
            Source::Loose(experts) => experts.get(expert).map(Vec::as_slice),
        }
    }

    /// The names of these tensors, in the order of the experts; a stack is named once for each of its matrices.
    #[cfg(any(unix, windows))]
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &str> {
        let experts: &[Vec<Vec<Piece>>] = if let Source::Loose(experts) = &self.source { experts } else { &[] };
        experts.iter().flatten().flatten().map(Piece::name)
    }

    /// Bytes that reading one expert takes from the source.
    pub(crate) fn read_bytes(&self) -> u64 {
        match &self.source {
            Source::Packed { .. } => self.record.bytes(),
            Source::Loose(experts) => experts.first().into_iter().flatten().flatten().map(Piece::bytes).sum(),
        }
    }

    /// Bytes of memory that a part takes while it is read: packed records come as they are, others are packed and copied.
    pub(crate) fn part_bytes(&self) -> u64 {
        let part = if self.record.bytes() <= LARGEST_WHOLE { self.record.bytes() } else { TILE_BYTES };
        if self.is_packed() { part } else { 3 * part }
    }

    /// The parts that an expert is moved in, in the order of the file.
    pub(crate) fn tiles(&self) -> Vec<Tile> {
        if self.record.bytes() <= LARGEST_WHOLE {
            return vec![Tile::Whole];
        }
        if self.is_packed() {
            let bytes = self.record.content();
            let step = |first: u64| Tile::Bytes(first..(first + TILE_BYTES).min(bytes));
            return (0..bytes).step_by(TILE_BYTES as usize).map(step).collect();
        }
        let mut tiles = Vec::new();
        for (matrix, layout) in self.record.matrices().enumerate() {
            let group = layout.bytes() / layout.groups().max(1) as u64;
            let step = usize::try_from(TILE_BYTES / group.max(1)).unwrap_or(1).max(1);
            // A transposed matrix can only be read whole.
            let step = if self.is_transposed() { layout.groups() } else { step };
            let run = |first: usize| Tile::Groups { matrix, groups: first..(first + step).min(layout.groups()) };
            tiles.extend((0..layout.groups()).step_by(step).map(run));
        }
        tiles
    }

    fn is_transposed(&self) -> bool {
        matches!(&self.source, Source::Loose(experts) if experts.iter().flatten().flatten().any(Piece::is_transposed))
    }

    /// Reads a part of an expert.
    ///
    /// # Errors
    /// The source fails, or there is no such expert.
    pub(crate) async fn read(&self, checkpoint: &Checkpoint, expert: usize, tile: &Tile) -> Result<Vec<Fragment>> {
        let Source::Loose(experts) = &self.source else {
            let range = if let Tile::Bytes(range) = tile { range.clone() } else { 0..self.record.content() };
            return Ok(vec![(range.start, checkpoint.read_record(checkpoint.expert_record(self.layer, expert)?, range).await?)]);
        };
        let Some(matrices) = experts.get(expert) else {
            return Err(Error::Tensor { name: format!("expert {expert}"), problem: "is not in the checkpoint".into() });
        };
        let places = self.record.places();
        let parts = places.iter().zip(matrices).enumerate().filter_map(|(i, (place, pieces))| match tile {
            Tile::Groups { matrix, groups } => (*matrix == i).then(|| read_groups(checkpoint, place, pieces, groups.clone())),
            _ => Some(read_groups(checkpoint, place, pieces, 0..place.layout.groups())),
        });
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
    }
}

/// The matrices that these pieces are packed into.
fn layouts(pieces: &[Piece]) -> Vec<Layout> {
    runs(pieces).into_iter().map(|(layout, _)| layout).collect()
}

async fn read_groups(checkpoint: &Checkpoint, place: &Place, pieces: &[Piece], groups: Range<usize>) -> Result<Vec<Fragment>> {
    let first = groups.start;
    let packed = Rows::open(checkpoint, place.layout, pieces).await?.groups(groups).await?;
    let at = |begin: u64, words: usize| begin + 4 * (first * words) as u64;
    let fragments = [
        (at(place.quants.start, place.layout.group_quants()), packed.quants),
        (at(place.side.start, place.layout.group_side()), packed.side),
    ];
    Ok(fragments
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(at, words)| (at, bytemuck::cast_slice(&words).to_vec()))
        .collect())
}
