//! The values of stored weights, as ggml defines its formats (`ggml-common.h` for the blocks, `dequantize_row_*` in
//! `ggml-quants.c` for what they mean). Plain and slow: kernels are checked against it.

use half::{bf16, f16};

use super::DType;

/// The values of whole blocks of a format.
pub(crate) fn decode(dtype: DType, raw: &[u8]) -> Vec<f32> {
    let block: fn(&[u8]) -> Vec<f32> = match dtype {
        DType::F32 => |b| vec![f32::from_le_bytes([b[0], b[1], b[2], b[3]])],
        DType::F16 => |b| vec![half(b)],
        DType::BF16 => |b| vec![bf16::from_le_bytes([b[0], b[1]]).to_f32()],
        DType::Q8_0 => |b| b[2..].iter().map(|&q| half(b) * f32::from(q.cast_signed())).collect(),
        DType::Q4_0 => |b| nibbles(&b[2..]).map(|q| half(b) * (f32::from(q) - 8.0)).collect(),
        DType::Q4_1 => |b| nibbles(&b[4..]).map(|q| half(b) * f32::from(q) + half(&b[2..])).collect(),
        DType::Q5_0 => |b| fives(&b[2..6], &b[6..]).map(|q| half(b) * (f32::from(q) - 16.0)).collect(),
        DType::Q5_1 => |b| fives(&b[4..8], &b[8..]).map(|q| half(b) * f32::from(q) + half(&b[2..])).collect(),
        DType::Q4K => q4_k,
        DType::Q5K => q5_k,
        DType::Q6K => q6_k,
    };
    raw.chunks_exact(dtype.block_bytes()).flat_map(block).collect()
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// All low halves, then all high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|b| b & 15).chain(bytes.iter().map(|b| b >> 4))
}

/// Nibbles with a fifth bit from the 32 bits of `high`.
fn fives(high: &[u8], low: &[u8]) -> impl Iterator<Item = u8> {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    nibbles(low).enumerate().map(move |(i, q)| q | ((high >> i & 1) as u8) << 4)
}

/// Scale and minimum `j` (0..8), six bits each, in 12 bytes.
fn scale_and_minimum(j: usize, packed: &[u8]) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

/// 64 values at a time: the low halves of 32 bytes, then their high halves.
fn q4_k(b: &[u8]) -> Vec<f32> {
    let one = |i: usize| {
        let (scale, minimum) = scale_and_minimum(i / 32, &b[4..16]);
        let q = b[16 + i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
        half(b) * scale * f32::from(q) - half(&b[2..]) * minimum
    };
    (0..256).map(one).collect()
}

/// As Q4_K; the fifth bits of values i, i + 32, i + 64 ... lie in byte i of 32.
fn q5_k(b: &[u8]) -> Vec<f32> {
    let one = |i: usize| {
        let (scale, minimum) = scale_and_minimum(i / 32, &b[4..16]);
        let low = b[48 + i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
        let high = b[16 + i % 32] >> (i / 32) & 1;
        half(b) * scale * f32::from(low + 16 * high) - half(&b[2..]) * minimum
    };
    (0..256).map(one).collect()
}

/// 128 values at a time: 64 bytes of low bits, 32 bytes of high bits, 8 signed scales.
fn q6_k(b: &[u8]) -> Vec<f32> {
    let (low, high, scales) = (&b[..128], &b[128..192], &b[192..208]);
    let one = |i: usize| {
        let (part, l) = (i / 128, i % 32);
        let quarter = i % 128 / 32;
        let low = low[part * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        let high = high[part * 32 + l] >> (2 * quarter) & 3;
        let scale = f32::from(scales[i / 16].cast_signed());
        half(&b[208..]) * scale * (f32::from(low + 16 * high) - 32.0)
    };
    (0..256).map(one).collect()
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use crate::weights::DType;

    /// Values that `gguf.dequantize` made; tests/golden/README.md says how.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/formats.safetensors");

    fn difference(dtype: DType, change: impl Fn(&mut [u8])) -> Option<usize> {
        let golden = SafeTensors::deserialize(GOLDEN).unwrap();
        let name = dtype.name();
        let mut raw = golden.tensor(&format!("{name}.raw")).unwrap().data().to_vec();
        change(&mut raw);
        let expected: Vec<f32> = bytemuck::pod_collect_to_vec(golden.tensor(&format!("{name}.f32")).unwrap().data());
        let ours = super::decode(dtype, &raw);
        assert_eq!(ours.len(), expected.len());
        (0..ours.len()).find(|&i| (ours[i] - expected[i]).abs() > 1e-6 * expected[i].abs())
    }

    #[test]
    fn decoding_is_what_gguf_makes_of_it() {
        for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::F32) {
            assert_eq!(difference(dtype, |_| {}), None, "{dtype}");
        }
    }

    #[test]
    fn a_changed_quant_is_noticed() {
        assert!(difference(DType::Q5K, |raw| raw[10 * 352 + 100] ^= 1).is_some());
    }
}
