//! The shared GPU, poisoned buffers, reading back, and the comparison.

use std::sync::{Arc, OnceLock};

use super::variants;
use crate::gpu::{Gpu, GpuOptions, Recorder, Slice};

/// The bits of a NaN that no computation gives: what every output holds before a run.
pub(super) const POISON: u32 = 0x7fed_cba9;

/// One device for all kernel tests. A machine without any adapter fails here: these tests are never skipped.
pub(super) fn gpu() -> &'static Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        let gpu = pollster::block_on(Gpu::new(&GpuOptions::default())).expect("an adapter, if only a software driver");
        eprintln!("kernel tests on {}", gpu.description());
        gpu
    })
}

pub(super) fn words(content: &[u32]) -> Slice {
    let bytes = bytemuck::cast_slice(content);
    gpu().upload("test", bytes).expect("memory").slice(0, bytes.len() as u64)
}

pub(super) fn floats(content: &[f32]) -> Slice {
    words(bytemuck::cast_slice(content))
}

pub(super) fn poisoned(len: usize) -> Slice {
    words(&vec![POISON; len])
}

/// Runs what was recorded and returns what the outputs then hold.
pub(super) fn run<const N: usize>(mut recorder: Recorder, outputs: [&Slice; N]) -> [Vec<u32>; N] {
    let gpu = gpu();
    let size = outputs.iter().map(|o| o.size()).sum();
    let staging = gpu.staging(size).expect("memory");
    let mut offset = 0;
    for output in outputs {
        recorder.copy(output.clone(), staging.slice(offset, output.size()));
        offset += output.size();
    }
    let recording = recorder.finish();
    for dispatch in recording.dispatches() {
        let listed = variants::ALL.iter().any(|v| v.shader == dispatch.shader);
        assert!(listed, "{} is not in the list of variants", dispatch.shader);
    }
    let program = gpu.prepare(&recording).expect("a valid recording");
    gpu.run(&[program.whole()]).expect("a run without errors");
    let all: Vec<u32> = bytemuck::pod_collect_to_vec(&pollster::block_on(gpu.read(&staging, size)).expect("results"));
    let mut rest = &all[..];
    outputs.map(|output| {
        let (mine, others) = rest.split_at(output.size() as usize / 4);
        rest = others;
        mine.to_vec()
    })
}

pub(super) fn as_floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&w| f32::from_bits(w)).collect()
}

/// Whether `actual` differs from `expected` by no more than `bound(i)` anywhere; what cannot be compared differs.
pub(super) fn close(actual: &[f32], expected: &[f32], bound: impl Fn(usize) -> f32) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} values, expected {}", actual.len(), expected.len()));
    }
    let differs = |&i: &usize| {
        let difference = (actual[i] - expected[i]).abs();
        difference.is_nan() || difference > bound(i)
    };
    let wrong: Vec<usize> = (0..actual.len()).filter(differs).collect();
    match wrong.first() {
        None => Ok(()),
        Some(&i) => Err(format!(
            "{} of {} values differ, the first is [{i}]: {} ({:#x}), expected {} within {}",
            wrong.len(),
            actual.len(),
            actual[i],
            actual[i].to_bits(),
            expected[i],
            bound(i)
        )),
    }
}

/// Cuts `cols` values at `offset` out of every row of `stride` words, and checks that nothing else was touched.
pub(super) fn rows(words: &[u32], stride: usize, offset: usize, cols: usize) -> Result<Vec<f32>, String> {
    let mut out = Vec::new();
    for (row, words) in words.chunks(stride).enumerate() {
        if let Some(at) = (0..stride).find(|i| !(offset..offset + cols).contains(i) && words[*i] != POISON) {
            return Err(format!("row {row}: element {at} was written, which is none of {offset}..{}", offset + cols));
        }
        out.extend(as_floats(&words[offset..offset + cols]));
    }
    Ok(out)
}

/// Rows of `cols` values, each with zeros behind it up to `stride`.
pub(super) fn padded(values: &[f32], cols: usize, stride: usize) -> Vec<f32> {
    let pad = |row: &[f32]| [row, &vec![0.0; stride - cols][..]].concat();
    values.chunks_exact(cols).flat_map(pad).collect()
}

/// Numbers that look random and are the same in every run (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Between -1 and 1.
    pub(super) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    pub(super) fn floats(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.float() * scale).collect()
    }
}

#[test]
fn a_wrong_value_a_nan_and_a_stray_write_are_noticed() {
    assert!(close(&[1.0, 2.0], &[1.0, 2.0], |_| 0.0).is_ok());
    assert!(close(&[1.0, 2.1], &[1.0, 2.0], |_| 0.05).is_err());
    assert!(close(&[f32::from_bits(POISON)], &[1.0], |_| f32::INFINITY).is_err());
    assert!(close(&[1.0], &[1.0, 2.0], |_| 1.0).is_err());
    assert!(rows(&[POISON, 0, POISON], 3, 1, 1).is_ok());
    assert!(rows(&[0, 0, POISON], 3, 1, 1).is_err());
}
