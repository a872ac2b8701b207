//! The kernels between the products: `rms_norm`, `add_bias`, `swiglu`, `combine`, `quantize`, `argmax`.

use super::harness::{POISON, Random, as_floats, close, floats, padded, poisoned, rows, run};
use crate::gpu::Recorder;
use crate::kernels::{add_bias, argmax, combine, quantize, rms_norm, swiglu};
use crate::reference;

fn norm(cols: usize, count: usize, first: usize, scale: f32, twin_eps: f32) -> Result<(), String> {
    let mut random = Random(cols as u64);
    let stride = cols.next_multiple_of(32);
    let x = random.floats((first + count) * cols, scale);
    let weight = random.floats(cols, 2.0);
    let y = poisoned(count * stride);
    let mut recorder = Recorder::default();
    let padded_x = floats(&padded(&x, cols, stride));
    rms_norm(&mut recorder, &padded_x, &floats(&weight), &y, cols, stride, first, count, 1e-5);
    let [y] = run(recorder, [&y]);
    let expected = reference::rms_norm(&x[first * cols..], &weight, twin_eps);
    close(&rows(&y, stride, 0, cols)?, &expected, |i| 3e-6 * expected[i].abs() + 1e-9)
}

#[test]
fn rms_norm_of_odd_sizes() {
    for (cols, count, first) in [(1, 1, 0), (33, 2, 0), (96, 5, 0), (160, 1, 4), (643, 75, 0), (5120, 1, 2)] {
        for scale in [1.0, 1e-3, 1e4] {
            norm(cols, count, first, scale, 1e-5).unwrap_or_else(|e| panic!("{cols} columns, {count} rows, {scale}: {e}"));
        }
    }
    assert!(norm(96, 1, 0, 1e-3, 1e-6).is_err(), "another eps goes unnoticed");
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

fn gated(cols: usize, count: usize, scores: Option<f32>, twin_scores: Option<f32>) -> Result<(), String> {
    let mut random = Random(cols as u64);
    let mut gate_up = random.floats(count * 2 * cols, 8.0);
    gate_up[0] = -200.0; // exp(200) overflows
    let scores = scores.map(|s| random.floats(count, s));
    let stride = cols.next_multiple_of(32);
    let y = poisoned(count * stride);
    let mut recorder = Recorder::default();
    swiglu(&mut recorder, &floats(&gate_up), scores.as_deref().map(floats).as_ref(), &y, cols, count);
    let [y] = run(recorder, [&y]);
    let twin = reference::swiglu(&gate_up, scores.as_deref().filter(|_| twin_scores.is_some()), cols);
    // The padding is written too, with zeros: a product reads it.
    let expected = padded(&twin, cols, stride);
    close(&rows(&y, stride, 0, stride)?, &expected, |i| 1e-5 * expected[i].abs() + 1e-6)
}

#[test]
fn swiglu_with_and_without_scores() {
    for (cols, count) in [(1, 1), (33, 3), (96, 75), (232, 8)] {
        for scores in [None, Some(1.0)] {
            gated(cols, count, scores, scores).unwrap_or_else(|e| panic!("{cols} columns, {count} rows, {scores:?}: {e}"));
        }
    }
    assert!(gated(33, 3, Some(1.0), None).is_err(), "missing scores go unnoticed");
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

#[test]
fn quantize_is_within_half_a_step() {
    for blocks in [1, 5, 33, 643] {
        let mut random = Random(blocks as u64);
        let mut x = random.floats(blocks * 32, 3.0);
        x[..32].fill(0.0);
        if blocks > 2 {
            x[32..64].fill(-1e-42); // subnormal: must not become NaN
            x[64..96].iter_mut().for_each(|x| *x *= 1e30);
        }
        let (bytes, scales) = (poisoned(blocks * 8), poisoned(blocks * 2));
        let mut recorder = Recorder::default();
        quantize(&mut recorder, &floats(&x), &bytes, &scales, blocks);
        let [bytes, scales] = run(recorder, [&bytes, &scales]);
        let (bytes, scales): (&[i8], _) = (bytemuck::cast_slice(&bytes), as_floats(&scales));
        for (b, twin) in reference::quantize(&x).iter().enumerate() {
            let (bytes, scale, sum) = (&bytes[b * 32..][..32], scales[2 * b], scales[2 * b + 1]);
            let values: Vec<f32> = bytes.iter().map(|&q| scale * f32::from(q)).collect();
            close(&values, &x[b * 32..][..32], |_| 0.501 * twin.scale + 1e-37).unwrap_or_else(|e| panic!("block {b}: {e}"));
            let off_by_more = bytes.iter().zip(twin.bytes).filter(|(a, b)| a.abs_diff(*b) > 1).count();
            assert!(off_by_more == 0 || twin.scale < 1e-37, "block {b}: {bytes:?}, expected {:?}", twin.bytes);
            close(&[sum], &[values.iter().sum()], |_| 1e-3 * twin.scale + 1e-37).unwrap();
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
