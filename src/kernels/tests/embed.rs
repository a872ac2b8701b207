//! `embed`.

use super::harness::{POISON, Random, close, padded, poisoned, rows, run, words};
use super::weights::{matrix, odd_columns, random_weights, values};
use crate::gpu::Recorder;
use crate::kernels::embed;
use crate::packing::Layout;
use crate::reference;
use crate::weights::DType;

/// The kernel reads the tokens `ids`, the twin `expected`.
fn compare(dtype: DType, cols: usize, cuts: &[usize], ids: &[u32], expected: &[u32]) -> Result<(), String> {
    let layout = Layout::new(dtype, 643, cols);
    let raw = random_weights(dtype, layout.rows * cols, &mut Random(7));
    let stride = 32 * layout.blocks();
    let x = poisoned(ids.len() * stride);
    let step = [&[POISON], ids].concat();
    let mut recorder = Recorder::default();
    embed(&mut recorder, &matrix(layout, &raw, cuts), &words(&step), &x, ids.len());
    let [x] = run(recorder, [&x]);
    let expected = padded(&reference::embed(&values(dtype, &raw), cols, expected), cols, stride);
    close(&rows(&x, stride, 0, stride)?, &expected, |i| 1e-6 + 1e-6 * expected[i].abs())
}

fn check(dtype: DType, cols: usize, cuts: &[usize]) {
    let ids = [0, 642, 31, 32, 5, 5, 320];
    compare(dtype, cols, cuts, &ids, &ids).unwrap_or_else(|e| panic!("{dtype}, {cols} columns, cuts {cuts:?}: {e}"));
}

#[test]
fn rows_of_every_format() {
    for dtype in DType::ALL {
        for cols in odd_columns(dtype) {
            check(dtype, cols, &[]);
        }
    }
    check(DType::Q8_0, 32 * 33, &[]);
}

#[test]
fn rows_in_several_buffers() {
    for dtype in [DType::F32, DType::Q4_1, DType::Q6K] {
        check(dtype, odd_columns(dtype)[0], &[1, 10]);
    }
}

#[test]
fn another_row_is_noticed() {
    assert!(compare(DType::F16, 96, &[], &[1, 2], &[1, 3]).is_err());
}
