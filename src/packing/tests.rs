//! The packed layout, read by a second decoder that is written from its description, and its size.

use half::{bf16, f16};
use safetensors::SafeTensors;

use super::{BLOCK_COLS, GROUP_ROWS, Layout};
use crate::weights::DType;

/// One packed group, its words as the kernels see them.
struct Group {
    layout: Layout,
    quants: Vec<u32>,
    side: Vec<u32>,
}

impl Group {
    fn pack(layout: Layout, rows: &[u8]) -> Self {
        let mut group = Self { layout, quants: vec![0; layout.group_quants()], side: vec![0; layout.group_side()] };
        layout.pack_group(rows, &mut group.quants, &mut group.side);
        group
    }

    /// Word `word` of the `words` quant words that each block of a row has: vec4s of neighbouring rows lie side by side.
    fn quant(&self, lane: usize, block: usize, words: usize, word: usize) -> u32 {
        self.quants[block * words * 32 + word / 4 * 128 + lane * 4 + word % 4]
    }

    /// Word `word` of the `words` side words of a unit of a row: words of neighbouring rows lie side by side.
    fn side(&self, lane: usize, unit: usize, words: usize, word: usize) -> u32 {
        self.side[unit * words * 32 + word * 32 + lane]
    }

    /// Byte `e % 16` of the four words of a block holds element e in its half `e / 16`.
    fn nibble(&self, lane: usize, block: usize, e: usize) -> u32 {
        self.quant(lane, block, 4, e % 16 / 4) >> (e % 4 * 8 + e / 16 * 4) & 15
    }

    /// Scale and minimum of a block of a superblock: d | dmin, then the 12 bytes of ggml.
    fn super_scale(&self, lane: usize, block: usize, words: usize) -> (f32, f32) {
        let unit = block / 8;
        let byte = |i: usize| self.side(lane, unit, words, 1 + i / 4) >> (i % 4 * 8) & 255;
        let j = block % 8;
        let (scale, minimum) = match j {
            0..4 => (byte(j) & 63, byte(j + 4) & 63),
            _ => (byte(j + 4) & 15 | byte(j - 4) >> 6 << 4, byte(j + 4) >> 4 | byte(j) >> 6 << 4),
        };
        let d = self.side(lane, unit, words, 0);
        (half(d) * scale as f32, half(d >> 16) * minimum as f32)
    }

    fn value(&self, lane: usize, col: usize) -> f32 {
        let (block, e) = (col / BLOCK_COLS, col % BLOCK_COLS);
        let shared = |words, word| half(self.side(lane, block / 2, words, word) >> (block % 2 * 16));
        let fifth = |high: u32| (high >> (e % 4 * 8 + e / 4) & 1) << 4;
        let nibble = || self.nibble(lane, block, e);
        match self.layout.dtype {
            DType::F32 => f32::from_bits(self.quant(lane, block, 32, e)),
            DType::F16 => half(self.quant(lane, block, 16, e / 2) >> (e % 2 * 16)),
            DType::BF16 => bf16::from_bits((self.quant(lane, block, 16, e / 2) >> (e % 2 * 16)) as u16).to_f32(),
            DType::Q8_0 => shared(1, 0) * f32::from((self.quant(lane, block, 8, e / 4) >> (e % 4 * 8)) as i8),
            DType::Q4_0 => shared(1, 0) * (nibble() as f32 - 8.0),
            DType::Q5_0 => {
                let high = self.side(lane, block / 2, 3, block % 2);
                shared(3, 2) * ((nibble() | fifth(high)) as f32 - 16.0)
            }
            DType::Q4_1 => {
                let pair = self.side(lane, block, 1, 0);
                half(pair) * nibble() as f32 + half(pair >> 16)
            }
            DType::Q5_1 => {
                let pair = self.side(lane, block, 2, 1);
                half(pair) * (nibble() | fifth(self.side(lane, block, 2, 0))) as f32 + half(pair >> 16)
            }
            DType::Q4K => {
                let (scale, minimum) = self.super_scale(lane, block, 4);
                scale * nibble() as f32 - minimum
            }
            DType::Q5K => {
                let (scale, minimum) = self.super_scale(lane, block, 12);
                let high = self.side(lane, block / 8, 12, 4 + block % 8);
                scale * (nibble() | fifth(high)) as f32 - minimum
            }
            DType::Q6K => {
                let word = |word| self.side(lane, block / 8, 21, word);
                let n = e % 16;
                let high = word(5 + block % 8 * 2 + e / 16) >> (n % 4 * 8 + n / 4 * 2) & 3;
                let scale = block % 8 * 2 + e / 16;
                let scale = f32::from((word(1 + scale / 4) >> (scale % 4 * 8)) as i8);
                half(word(0)) * scale * ((nibble() | high << 4) as f32 - 32.0)
            }
        }
    }
}

fn half(bits: u32) -> f32 {
    f16::from_bits(bits as u16).to_f32()
}

#[test]
fn every_format_can_be_read_back() {
    let golden = include_bytes!("../../tests/golden/formats.safetensors");
    let golden = SafeTensors::deserialize(golden).unwrap();
    for dtype in DType::ALL.into_iter().filter(|&d| d != DType::F32) {
        let expected: Vec<f32> = bytemuck::pod_collect_to_vec(golden.tensor(&format!("{dtype}.f32")).unwrap().data());
        let group = Group::pack(Layout::new(dtype, 24, 512), golden.tensor(&format!("{dtype}.raw")).unwrap().data());
        for (i, &expected) in expected.iter().enumerate() {
            let ours = group.value(i / 512, i % 512);
            assert!((ours - expected).abs() <= 1e-6 * expected.abs(), "{dtype} [{i}]: {ours}, expected {expected}");
        }
        // Rows that are not there are zero in every bit, whatever that means in the format.
        let unused = |words: &[u32], width: usize| words.chunks(32 * width).all(|c| c[24 * width..].iter().all(|&w| w == 0));
        assert!(unused(&group.quants, 4) && unused(&group.side, 1), "{dtype}");
    }
}

#[test]
fn floats_end_within_a_block() {
    let values: Vec<f32> = (0..3 * 40).map(|i| i as f32 + 0.5).collect();
    let group = Group::pack(Layout::new(DType::F32, 3, 40), bytemuck::cast_slice(&values));
    for row in 0..GROUP_ROWS {
        for col in 0..64 {
            let expected = if row < 3 && col < 40 { values[row * 40 + col] } else { 0.0 };
            assert_eq!(group.value(row, col), expected, "row {row}, column {col}");
        }
    }
}

#[test]
fn packed_weights_take_their_own_size() {
    let shapes = [(192, 576), (576, 1536), (49_152, 576), (643, 2048), (202_048, 5120), (8192, 5120), (5120, 8192), (1000, 768)];
    for dtype in DType::ALL {
        for (rows, cols) in shapes.into_iter().filter(|&(_, cols)| cols % dtype.block_len() == 0) {
            let raw = dtype.bytes_for((rows * cols) as u64).unwrap();
            let packed = Layout::new(dtype, rows, cols).bytes();
            assert!(packed >= raw && packed <= raw + raw / 10, "{dtype} {rows} x {cols}: {packed} bytes for {raw}");
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    let raw: Vec<u8> = (0..210 * 24).map(|i| (i * 37 % 251) as u8).collect();
    let mut group = Group::pack(Layout::new(DType::Q6K, 24, 256), &raw);
    let before: Vec<f32> = (0..256).map(|col| group.value(5, col)).collect();
    group.quants[5 * 4] ^= 1;
    let after: Vec<f32> = (0..256).map(|col| group.value(5, col)).collect();
    assert_eq!((0..256).filter(|&i| before[i] != after[i]).collect::<Vec<_>>(), [0]);
}
