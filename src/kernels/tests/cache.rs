//! Rows of the KV cache in and out of the GPU's forms.

use half::f16;

use super::harness::{POISON, as_floats, words};
use crate::gpu::Slice;
use crate::kernels::KvType;
use crate::reference::{self, Quantized};

/// The types whose blocks divide a head.
pub(super) fn types(head_dim: usize) -> impl Iterator<Item = KvType> {
    KvType::ALL.into_iter().filter(move |kv| kv.holds(head_dim))
}

/// Words of a row.
pub(super) fn row_words(kv: KvType, head_dim: usize) -> usize {
    kv.row_bytes(head_dim) as usize / 4
}

/// The values of a row once it is in the cache.
pub(super) fn stored(kv: KvType, row: &[f32]) -> Vec<f32> {
    match kv {
        KvType::F32 => row.to_vec(),
        KvType::F16 => row.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
        KvType::Q8 => reference::quantize(row).iter().flat_map(Quantized::values).collect(),
    }
}

/// How far a value may be off in the cache: `error` is that of what was rounded.
pub(super) fn bounds(kv: KvType, row: &[f32], error: f32) -> Vec<f32> {
    match kv {
        KvType::F32 => vec![error; row.len()],
        KvType::F16 => row.iter().map(|x| error + x.abs() / 2048.0).collect(),
        KvType::Q8 => reference::quantize(row).iter().flat_map(|block| [error + 0.501 * block.scale; 32]).collect(),
    }
}

/// Rows of `head_dim` on the GPU; in place of those that begin with a NaN there is poison.
pub(super) fn on_gpu(kv: KvType, rows: &[f32], head_dim: usize) -> Slice {
    let row = |row: &[f32]| match row[0].is_nan() {
        true => vec![POISON; row_words(kv, head_dim)],
        false => to_words(kv, row),
    };
    words(&rows.chunks_exact(head_dim).flat_map(row).collect::<Vec<_>>())
}

fn to_words(kv: KvType, row: &[f32]) -> Vec<u32> {
    let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
    let mut all: Vec<u32> = match kv {
        KvType::F32 => row.iter().map(|x| x.to_bits()).collect(),
        KvType::F16 => row.chunks_exact(2).map(|x| half(x[0]) | half(x[1]) << 16).collect(),
        KvType::Q8 => {
            let blocks = reference::quantize(row);
            let bytes = blocks.iter().flat_map(|block| bytemuck::pod_collect_to_vec::<i8, u32>(&block.bytes));
            bytes.chain(blocks.iter().map(|block| block.scale.to_bits())).collect()
        }
    };
    all.resize(row_words(kv, row.len()), 0);
    all
}

/// The values that a row's words stand for.
pub(super) fn from_words(kv: KvType, row: &[u32], head_dim: usize) -> Vec<f32> {
    match kv {
        KvType::F32 => as_floats(row),
        KvType::F16 => {
            let halves = row.iter().flat_map(|w| [*w as u16, (w >> 16) as u16]);
            halves.map(|h| f16::from_bits(h).to_f32()).take(head_dim).collect()
        }
        KvType::Q8 => {
            let (bytes, scales) = row.split_at(head_dim / 4);
            let bytes: &[i8] = bytemuck::cast_slice(bytes);
            let block =
                |(bytes, &scale): (&[i8], &u32)| bytes.iter().map(move |&q| f32::from_bits(scale) * f32::from(q)).collect();
            bytes.chunks_exact(32).zip(scales).flat_map::<Vec<f32>, _>(block).collect()
        }
    }
}

#[test]
fn every_type_keeps_what_it_says() {
    let row: Vec<f32> = (0..96).map(|i| (i as f32 - 40.0) / 7.0).collect();
    for kv in KvType::ALL {
        let words = to_words(kv, &row);
        assert_eq!(words.len(), row_words(kv, 96));
        assert_eq!(from_words(kv, &words, 96), stored(kv, &row), "{kv}");
    }
    let largest = |kv| {
        let errors = stored(kv, &row).into_iter().zip(&row).map(|(a, b)| (a - b).abs());
        errors.fold(0.0f32, f32::max)
    };
    assert!(largest(KvType::F32) == 0.0 && largest(KvType::F16) > 0.0 && largest(KvType::Q8) > largest(KvType::F16));
    let sizes = KvType::ALL.map(|kv| [32, 64, 128, 160, 256].map(|head_dim| kv.row_bytes(head_dim)));
    assert_eq!(sizes, [[128, 256, 512, 640, 1024], [64, 128, 256, 320, 512], [48, 80, 144, 192, 288]]);
}
