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

/// Words of a cache of `context` positions for so many heads.
pub(super) fn cache_words(kv: KvType, heads: usize, head_dim: usize, context: usize) -> usize {
    heads * head_words(kv, head_dim, context)
}

fn head_words(kv: KvType, head_dim: usize, context: usize) -> usize {
    kv.bytes(head_dim, context) as usize / 4
}

/// Where in a cache the words of a head's row for a position are; those of bytes come before their scales.
pub(super) fn places(kv: KvType, head_dim: usize, context: usize, head: usize, position: usize) -> Vec<usize> {
    let at = head * head_words(kv, head_dim, context);
    if kv != KvType::Q8 {
        let words = head_words(kv, head_dim, 1);
        return (0..words).map(|i| at + position * words + i).collect();
    }
    // For each block eight scales, and then eight rows together.
    let (words, blocks, place) = (head_dim / 4, head_dim / 32, position % 8);
    let eight = at + position / 8 * 8 * (blocks + words);
    let scales = (0..blocks).map(|block| eight + 8 * block + place);
    (0..words).map(|i| eight + 8 * blocks + place * words + i).chain(scales).collect()
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

/// Rows of `head_dim` on the GPU, `context` of each head; in place of those that begin with a NaN there is poison, and where none is.
pub(super) fn on_gpu(kv: KvType, rows: &[f32], head_dim: usize, context: usize) -> Slice {
    let mut cache = vec![POISON; cache_words(kv, rows.len() / head_dim / context, head_dim, context)];
    for (i, row) in rows.chunks_exact(head_dim).enumerate().filter(|(_, row)| !row[0].is_nan()) {
        for (place, word) in places(kv, head_dim, context, i / context, i % context).into_iter().zip(to_words(kv, row)) {
            cache[place] = word;
        }
    }
    words(&cache)
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
    if kv != KvType::Q8 {
        all.resize(head_words(kv, row.len(), 1), 0);
    }
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
        assert_eq!(words.len(), places(kv, 96, 10, 0, 0).len());
        assert_eq!(from_words(kv, &words, 96), stored(kv, &row), "{kv}");
    }
    let largest = |kv| {
        let errors = stored(kv, &row).into_iter().zip(&row).map(|(a, b)| (a - b).abs());
        errors.fold(0.0f32, f32::max)
    };
    assert!(largest(KvType::F32) == 0.0 && largest(KvType::F16) > 0.0 && largest(KvType::Q8) > largest(KvType::F16));
    let sizes = KvType::ALL.map(|kv| [32, 64, 128, 160, 256].map(|head_dim| kv.bytes(head_dim, 8) / 8));
    assert_eq!(sizes, [[128, 256, 512, 640, 1024], [64, 128, 256, 320, 512], [36, 72, 144, 180, 288]]);
}

#[test]
fn every_word_belongs_to_one_row() {
    for (kv, context) in KvType::ALL.into_iter().flat_map(|kv| [8, 24].map(|context| (kv, context))) {
        let rows = (0..2).flat_map(|head| (0..context).map(move |position| (head, position)));
        let mut all: Vec<usize> = rows.flat_map(|(head, position)| places(kv, 64, context, head, position)).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..cache_words(kv, 2, 64, context)), "{kv} of {context}");
    }
}
