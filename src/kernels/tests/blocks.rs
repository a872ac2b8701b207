//! Rows as bytes and rows whose norm is not divided by yet, in and out of the GPU's form; and that bytes are the values.

use super::harness::{Random, as_floats, close, floats, padded, poisoned, run, words};
use super::weights::matrix;
use crate::gpu::{Recorder, Slice};
use crate::kernels::{Activations, Matvec, Norm, activation_words, residual};
use crate::packing::Layout;
use crate::reference::{self, Quantized};
use crate::weights::DType;

/// Words of a block of bytes.
pub(super) const BLOCK_WORDS: usize = 12;

/// Rows of whole blocks as bytes, each block with a sum of squares.
pub(super) fn to_bytes(x: &[f32], squares: &[f32]) -> Vec<u32> {
    let block = |(block, squares): (&Quantized, &f32)| -> Vec<u32> {
        let head = [block.scale, block.sum(), *squares, 0.0].map(f32::to_bits);
        [&head[..], &bytemuck::pod_collect_to_vec::<i8, u32>(&block.bytes)].concat()
    };
    reference::quantize(x).iter().zip(squares).flat_map(block).collect()
}

/// The values that bytes stand for, and what says the sums of squares. Fails where the sum of a block is not its bytes'.
pub(super) fn from_bytes(blocks: &[u32]) -> Result<(Vec<f32>, Vec<f32>), String> {
    let (mut values, mut squares) = (Vec::new(), Vec::new());
    for block in blocks.chunks_exact(BLOCK_WORDS) {
        let [scale, sum, square, _] = [0, 1, 2, 3].map(|i| f32::from_bits(block[i]));
        let bytes: &[i8] = bytemuck::cast_slice(&block[4..]);
        let total: f32 = bytes.iter().map(|&q| f32::from(q)).sum();
        close(&[sum], &[scale * total], |_| 1e-3 * scale + 1e-37)?;
        values.extend(bytes.iter().map(|&q| scale * f32::from(q)));
        squares.push(square);
    }
    Ok((values, squares))
}

/// Half a step of the block's bytes, for each value.
pub(super) fn half_steps(x: &[f32]) -> Vec<f32> {
    reference::quantize(x).iter().flat_map(|block| [0.501 * block.scale; 32]).collect()
}

/// A row behind a norm on the GPU, and the values that it stands for there.
pub(super) struct Row {
    pub(super) activations: Activations,
    pub(super) values: Vec<f32>,
}

impl Row {
    /// norm(x) of one row for products that divide.
    pub(super) fn undivided(x: &[f32], weight: &[f32], eps: f32, bytes: bool) -> Self {
        let cols = x.len();
        let stride = cols.next_multiple_of(32);
        let h: Vec<f32> = x.iter().zip(weight).map(|(x, w)| x * w).collect();
        let h = padded(&h, cols, stride);
        let squares: Vec<f32> = x.chunks(32).map(|block| block.iter().map(|x| x * x).sum()).collect();
        let (rows, values) = if bytes {
            (words(&to_bytes(&h, &squares)), reference::quantize(&h).iter().flat_map(Quantized::values).collect())
        } else {
            let tail: Vec<f32> = squares.iter().flat_map(|&square| [square, f32::NAN, f32::NAN, f32::NAN]).collect();
            (floats(&[&h[..], &tail].concat()), h)
        };
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / cols as f64;
        let factor = 1.0 / (mean + f64::from(eps)).sqrt();
        let values = values[..cols].iter().map(|&h: &f32| (f64::from(h) * factor) as f32).collect();
        Self { activations: Activations { rows, bytes, undivided: Some((cols, eps)) }, values }
    }

    /// Rows as they are, each of `cols`.
    pub(super) fn ready(x: &[f32], cols: usize, bytes: bool) -> Self {
        let stride = cols.next_multiple_of(32);
        let x = padded(x, cols, stride);
        let (rows, values): (Slice, Vec<f32>) = if bytes {
            let zeros = vec![0.0; x.len() / 32];
            (words(&to_bytes(&x, &zeros)), reference::quantize(&x).iter().flat_map(Quantized::values).collect())
        } else {
            (floats(&x), x)
        };
        let values = values.chunks_exact(stride).flat_map(|row| row[..cols].to_vec()).collect();
        Self { activations: Activations { rows, bytes, undivided: None }, values }
    }
}

/// A row through a kernel that adds nothing to it.
fn through(x: &[f32], kernel: Matvec) -> Vec<u32> {
    let cols = x.len();
    let layout = Layout::new(DType::F32, cols, 32);
    let w = matrix(layout, &vec![0; 4 * cols * 32], &[]);
    let zeros = Row::ready(&[0.0; 32], 32, false);
    let h = Activations { rows: poisoned(activation_words(1, cols)), bytes: true, undivided: None };
    let norm = Norm { weight: floats(&vec![1.0; cols]), cols, eps: 0.0 };
    let mut recorder = Recorder::default();
    residual(&mut recorder, kernel, &w, &zeros.activations, None, &floats(x), &norm, &h);
    let [mut h] = run(recorder, [&h.rows]);
    h.truncate(cols / 32 * BLOCK_WORDS);
    h
}

#[test]
fn bytes_are_within_half_a_step() {
    for (blocks, kernel) in [(1, Matvec::Rows), (5, Matvec::Cooperative), (33, Matvec::Rows)] {
        let mut x = Random(blocks as u64).floats(blocks * 32, 3.0);
        x[..32].fill(0.0);
        if blocks > 2 {
            x[32..64].fill(-1e-42); // subnormal: must not become NaN
            x[64..96].iter_mut().for_each(|x| *x *= 1e30);
        }
        let made = through(&x, kernel);
        let (values, _) = from_bytes(&made).unwrap();
        let bounds = half_steps(&x);
        close(&values, &x, |i| bounds[i] + 1e-37).unwrap_or_else(|e| panic!("{blocks} blocks: {e}"));
        for (block, twin) in made.chunks_exact(BLOCK_WORDS).zip(reference::quantize(&x)) {
            let bytes: &[i8] = bytemuck::cast_slice(&block[4..]);
            let off_by_more = bytes.iter().zip(twin.bytes).any(|(a, b)| a.abs_diff(b) > 1);
            assert!(!off_by_more || twin.scale < 1e-37, "{bytes:?}, expected {:?}", twin.bytes);
        }
    }
}

#[test]
fn a_wrong_sum_is_noticed() {
    let mut block = to_bytes(&[1.0; 32], &[32.0]);
    assert_eq!(as_floats(&block[2..3]), [32.0]);
    assert!(from_bytes(&block).is_ok());
    block[5] ^= 0x40;
    assert!(from_bytes(&block).is_err());
}
