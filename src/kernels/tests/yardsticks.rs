//! The kernels that measure an adapter: `copy_memory`, `multiply_add`.

use super::harness::{POISON, Random, as_floats, close, poisoned, run, words};
use crate::gpu::Recorder;
use crate::kernels::{copy_memory, multiply_add};
use crate::reference;

#[test]
fn memory_is_copied_whole() {
    for blocks in [1usize, 255, 1024, 1025, 5000] {
        let mut random = Random(blocks as u64);
        let content: Vec<u32> = (0..4 * blocks).map(|_| random.next() as u32).collect();
        // What lies behind is not touched.
        let y = poisoned(4 * blocks + 4);
        let mut recorder = Recorder::default();
        copy_memory(&mut recorder, &words(&content), &y.words(0, 4 * blocks));
        let [y] = run(recorder, [&y]);
        let (copied, behind) = y.split_at(4 * blocks);
        assert!(copied == reference::copy_memory(&content), "{blocks} blocks");
        assert_eq!(behind, [POISON; 4]);
    }
}

fn computed(lanes: usize, factor: f32, twin_factor: f32) -> Result<(), String> {
    let y = poisoned(lanes);
    let mut recorder = Recorder::default();
    let operations = multiply_add(&mut recorder, &y, factor, 0.01);
    assert_eq!(operations, 2 * 12 * 128 * lanes as u64);
    let [y] = run(recorder, [&y]);
    // Each of 128 steps rounds twice, and later ones shrink the error.
    close(&as_floats(&y), &reference::multiply_add(lanes, twin_factor, 0.01), |_| 2e-4)
}

#[test]
fn every_step_is_computed() {
    for lanes in [1, 63, 64, 1000] {
        computed(lanes, 0.99, 0.99).unwrap_or_else(|e| panic!("{lanes} lanes: {e}"));
    }
    assert!(computed(100, 0.99, 0.9901).is_err(), "another factor goes unnoticed");
}
