//! Random weights in every format, and packed matrices on the GPU.

use half::{bf16, f16};

use super::harness::{Random, words};
use crate::kernels::{Matrix, Part};
use crate::packing::Layout;
use crate::weights::{DType, decode};

/// Byte offsets of the f16 scales in a block.
fn scales_at(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => &[],
        DType::Q8_0 | DType::Q4_0 | DType::Q5_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q6K => &[208],
    }
}

/// `len` values as the checkpoint stores them: random bytes with sane scales, or random floats.
pub(super) fn random_weights(dtype: DType, len: usize, random: &mut Random) -> Vec<u8> {
    let floats = |random: &mut Random, encode: fn(f32) -> Vec<u8>| (0..len).flat_map(|_| encode(random.float())).collect();
    match dtype {
        DType::F32 => floats(random, |x| x.to_le_bytes().into()),
        DType::F16 => floats(random, |x| f16::from_f32(x).to_le_bytes().into()),
        DType::BF16 => floats(random, |x| bf16::from_f32(x).to_le_bytes().into()),
        _ => {
            let mut raw: Vec<u8> =
                (0..len / dtype.block_len() * dtype.block_bytes()).map(|_| random.next().to_le_bytes()[0]).collect();
            for block in raw.chunks_exact_mut(dtype.block_bytes()) {
                for &at in scales_at(dtype) {
                    block[at..at + 2].copy_from_slice(&f16::from_f32(0.1 * random.float()).to_le_bytes());
                }
            }
            raw
        }
    }
}

pub(super) fn values(dtype: DType, raw: &[u8]) -> Vec<f32> {
    decode(dtype, raw)
}

/// Column counts that end within a block where the format allows it, and odd numbers of blocks elsewhere.
pub(super) fn odd_columns(dtype: DType) -> [usize; 3] {
    match dtype.block_len() {
        1 => [96, 160, 232],
        32 => [32, 96, 160],
        _ => [256, 768, 512],
    }
}

/// Packs `raw`, a stack of matrices of `layout`, and uploads it in parts that end at the groups `cuts` and at the end.
pub(super) fn matrix(layout: Layout, raw: &[u8], cuts: &[usize]) -> Matrix {
    let row_bytes = layout.cols / layout.dtype.block_len() * layout.dtype.block_bytes();
    let (mut quants, mut side) = (Vec::new(), Vec::new());
    for one in raw.chunks_exact(row_bytes * layout.rows) {
        for rows in one.chunks(row_bytes * 32) {
            let (q, s) = (quants.len(), side.len());
            quants.resize(q + layout.group_quants(), 0);
            side.resize(s + layout.group_side(), 0);
            layout.pack_group(rows, &mut quants[q..], &mut side[s..]);
        }
    }
    let groups = quants.len() / layout.group_quants();
    let mut first_group = 0;
    let parts = cuts.iter().copied().chain([groups]).map(|end_group| {
        let piece = |all: &[u32], per_group: usize| words(&all[first_group * per_group..end_group * per_group]);
        let part = Part {
            first_group,
            end_group,
            quants: piece(&quants, layout.group_quants()),
            side: (layout.group_side() > 0).then(|| piece(&side, layout.group_side())),
        };
        first_group = end_group;
        part
    });
    Matrix { layout, parts: parts.collect(), most_groups: groups }
}
