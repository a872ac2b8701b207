//! The kernels between the products: `rms_norm`, `add_bias`, `swiglu`, `combine`, `argmax`.

use super::blocks::{BLOCK_WORDS, from_bytes, half_steps};
use super::harness::{POISON, Random, as_floats, close, floats, padded, poisoned, rows, run};
use crate::gpu::Recorder;
use crate::kernels::{Norm, Normed, add_bias, argmax, combine, rms_norm, swiglu};
use crate::reference;

fn norm(cols: usize, count: usize, first: usize, scale: f32, twin_eps: f32, made: Normed) -> Result<(), String> {
    let mut random = Random(cols as u64);
    let stride = cols.next_multiple_of(32);
    let x = random.floats((first + count) * cols, scale);
    let weight = random.floats(cols, 2.0);
    let y = poisoned(count * stride);
    let mut recorder = Recorder::default();
    let padded_x = floats(&padded(&x, cols, stride));
    let norm = Norm { weight: floats(&padded(&weight, cols, stride)), cols, eps: 1e-5 };
    rms_norm(&mut recorder, &norm, &padded_x, (&y, made), first, count);
    let [y] = run(recorder, [&y]);
    let expected = reference::rms_norm(&x[first * cols..], &weight, twin_eps);
    if made != Normed::Floats {
        return bytes_close(&y, &expected);
    }
    close(&rows(&y, stride, 0, cols)?, &expected, |i| 3e-6 * expected[i].abs() + 1e-9)
}

/// Rows of bytes against their values, which floats would have within a few units in the last place.
fn bytes_close(made: &[u32], expected: &[f32]) -> Result<(), String> {
    let (values, _) = from_bytes(&made[..expected.len() / 32 * BLOCK_WORDS])?;
    let bounds = half_steps(expected);
    close(&values, expected, |i| 1.001 * bounds[i] + 1e-37)
}

#[test]
fn rms_norm_of_odd_sizes() {
    for (cols, count, first) in [(1usize, 1, 0), (33, 2, 0), (96, 5, 0), (160, 1, 4), (643, 75, 0), (5120, 1, 2)] {
        for scale in [1.0, 1e-3, 1e4] {
            for made in Normed::ALL.into_iter().filter(|&made| made == Normed::Floats || cols.is_multiple_of(32)) {
                let check = norm(cols, count, first, scale, 1e-5, made);
                check.unwrap_or_else(|e| panic!("{cols} columns, {count} rows, {scale}, {made:?}: {e}"));
            }
        }
    }
    for made in Normed::ALL {
        assert!(norm(96, 1, 0, 1e-3, 1e-6, made).is_err(), "another eps goes unnoticed");
    }
}

#[test]
fn add_bias_within_a_larger_row() {
    for (cols, count, offset) in [(1, 1, 0), (96, 3, 32), (643, 75, 5)] {
        let mut random = Random(cols as u64);
        let (bias, stride) = (random.floats(cols, 1.0), offset + cols + 3);
        let before = random.floats(count * stride, 1.0);
        let y = floats(&before);
        let mut recorder = Recorder::default();
        add_bias(&mut recorder, &floats(&bias), &y, cols, stride, offset, count);
        let [y] = run(recorder, [&y]);
        let wide = [&vec![0.0; offset][..], &bias, &[0.0; 3]].concat();
        let expected = reference::add_bias(&before, &wide);
        assert_eq!(as_floats(&y), expected);
        assert_ne!(as_floats(&y), before);
    }
}

fn activated(cols: usize, count: usize, scores: Option<f32>, twin_scores: Option<f32>, bytes: bool) -> Result<(), String> {
    let mut random = Random(cols as u64);
    let mut gate_up = random.floats(count * 2 * cols, 8.0);
    gate_up[0] = -200.0; // exp(200) overflows
    let scores = scores.map(|s| random.floats(count, s));
    let stride = cols.next_multiple_of(32);
    let y = poisoned(count * stride);
    let mut recorder = Recorder::default();
    swiglu(&mut recorder, &floats(&gate_up), scores.as_deref().map(floats).as_ref(), (&y, bytes), cols, count);
    let [y] = run(recorder, [&y]);
    let twin = reference::swiglu(&gate_up, scores.as_deref().filter(|_| twin_scores.is_some()), cols);
    if bytes {
        return bytes_close(&y, &twin);
    }
    // The padding is written too, with zeros: a product reads it.
    let expected = padded(&twin, cols, stride);
    close(&rows(&y, stride, 0, stride)?, &expected, |i| 1e-5 * expected[i].abs() + 1e-6)
}

#[test]
fn swiglu_with_and_without_scores() {
    for (cols, count) in [(1usize, 1), (33, 3), (96, 75), (232, 8)] {
        for scores in [None, Some(1.0)] {
            for bytes in [false, true].into_iter().filter(|bytes| !bytes || cols.is_multiple_of(32)) {
                let check = activated(cols, count, scores, scores, bytes);
                check.unwrap_or_else(|e| panic!("{cols} columns, {count} rows, {scores:?}, bytes {bytes}: {e}"));
            }
        }
    }
    assert!(activated(33, 3, Some(1.0), None, false).is_err(), "missing scores go unnoticed");
    assert!(activated(96, 3, Some(1.0), None, true).is_err(), "missing scores go unnoticed");
}

#[test]
fn combine_sums_in_rank_order() {
    for (cols, chosen, tokens) in [(1usize, 1, 1), (96, 2, 3), (160, 8, 5), (232, 1, 75)] {
        let mut random = Random(cols as u64);
        let stride = cols.next_multiple_of(32);
        let x = random.floats(tokens * cols, 1.0);
        let parts = random.floats(tokens * chosen * cols, 1.0);
        for weights in [None, Some(random.floats(tokens * chosen, 1.0))] {
            let y = floats(&padded(&x, cols, stride));
            let mut recorder = Recorder::default();
            let weights_slice = weights.as_deref().map(floats);
            let padded_parts = floats(&padded(&parts, cols, stride));
            combine(&mut recorder, &padded_parts, weights_slice.as_ref(), &y, cols, chosen, tokens);
            let [y] = run(recorder, [&y]);
            let expected = padded(&reference::combine(&x, &parts, weights.as_deref(), cols, chosen), cols, stride);
            close(&as_floats(&y), &expected, |_| 1e-6 * (chosen + 1) as f32).unwrap();
            let wrong = padded(&reference::combine(&x, &parts, Some(&vec![0.5; tokens * chosen]), cols, chosen), cols, stride);
            assert!(close(&as_floats(&y), &wrong, |_| 1e-6 * (chosen + 1) as f32).is_err());
        }
    }
}

fn highest(logits: &[f32]) -> u32 {
    let result = poisoned(2);
    let mut recorder = Recorder::default();
    argmax(&mut recorder, &floats(logits), &result, logits.len());
    let [result] = run(recorder, [&result]);
    assert_eq!(result[1], logits[result[0] as usize].to_bits());
    result[0]
}

#[test]
fn argmax_takes_the_lowest_of_equals() {
    for cols in [1, 5, 255, 257, 643, 49_152] {
        let mut logits = Random(cols as u64).floats(cols, 10.0);
        assert_eq!(highest(&logits) as usize, reference::argmax(&logits));
        for at in [cols - 1, cols / 2, cols / 3] {
            logits[at] = 20.0;
            assert_eq!(highest(&logits) as usize, reference::argmax(&logits), "{cols} logits, equals down to {at}");
        }
        logits.fill(-1e30);
        assert_eq!(highest(&logits), 0);
        logits[cols - 1] = -9e29;
        assert_eq!(highest(&logits) as usize, cols - 1);
    }
    assert_ne!(highest(&[0.0, 1.0]), POISON);
}
