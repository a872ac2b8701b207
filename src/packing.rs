//! The packed layout of weights that every kernel reads.
//!
//! A matrix is stored in groups of 32 rows. Within a group, column block by column block (32 columns), the 16-byte vectors
//! of quants of the 32 rows lie side by side, then those of the next vector; scales, minima and high bits (`side` words)
//! lie in an array of their own, interleaved the same way. One layout serves a lane per row (neighbouring lanes read
//! neighbouring vectors) and several lanes per row, keeps every load aligned, and takes the size of the checkpoint's own
//! format, up to padding. `shaders/shared/formats.wgsl` is the reader.

use crate::weights::DType;

/// Rows in a group.
pub(crate) const GROUP_ROWS: usize = 32;
/// Columns in a block.
pub(crate) const BLOCK_COLS: usize = 32;
/// Blocks in a superblock of the K-quants.
const SUPERBLOCK: usize = 8;

/// Where things are in a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Layout {
    pub(crate) fn new(dtype: DType, rows: usize, cols: usize) -> Self {
        Self { dtype, rows, cols }
    }

    /// Groups of rows, the last one padded with zeros.
    pub(crate) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP_ROWS)
    }

    /// Column blocks, the last one padded with zeros (floats only: quantised rows divide).
    pub(crate) fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK_COLS)
    }

    /// 32-bit words of quants in a block of a row.
    fn quant_words(&self) -> usize {
        match self.dtype {
            DType::F32 => 32,
            DType::F16 | DType::BF16 => 16,
            DType::Q8_0 => 8,
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q4K | DType::Q5K | DType::Q6K => 4,
        }
    }

    /// Units of side words in a row, and words in a unit.
    fn side_units(&self) -> (usize, usize) {
        let blocks = self.blocks();
        match self.dtype {
            DType::F32 | DType::F16 | DType::BF16 => (0, 0),
            DType::Q4_0 | DType::Q8_0 => (blocks.div_ceil(2), 1),
            DType::Q5_0 => (blocks.div_ceil(2), 3),
            DType::Q4_1 => (blocks, 1),
            DType::Q5_1 => (blocks, 2),
            DType::Q4K => (blocks / SUPERBLOCK, 4),
            DType::Q5K => (blocks / SUPERBLOCK, 12),
            DType::Q6K => (blocks / SUPERBLOCK, 21),
        }
    }

    /// Words of quants in a group.
    pub(crate) fn group_quants(&self) -> usize {
        GROUP_ROWS * self.blocks() * self.quant_words()
    }

    /// Side words in a group.
    pub(crate) fn group_side(&self) -> usize {
        let (units, words) = self.side_units();
        GROUP_ROWS * units * words
    }

    /// Bytes of the whole packed matrix.
    pub(crate) fn bytes(&self) -> u64 {
        4 * self.groups() as u64 * (self.group_quants() + self.group_side()) as u64
    }

    /// Packs up to 32 rows, given one after the other in the checkpoint's format, into one zeroed group.
    pub(crate) fn pack_group(&self, rows: &[u8], quants: &mut [u32], side: &mut [u32]) {
        let row_bytes = self.cols / self.dtype.block_len() * self.dtype.block_bytes();
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let mut out = Lane { layout: self, lane, quants, side };
            match self.dtype {
                DType::F32 | DType::F16 | DType::BF16 => out.floats(row),
                DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => out.blocks(row),
                DType::Q4K | DType::Q5K | DType::Q6K => out.superblocks(row),
            }
        }
    }
}

/// One row's place in a group.
struct Lane<'a> {
    layout: &'a Layout,
    lane: usize,
    quants: &'a mut [u32],
    side: &'a mut [u32],
}

impl Lane<'_> {
    /// Word `word` of a block's quants.
    fn quant(&mut self, block: usize, word: usize) -> &mut u32 {
        let vectors = self.layout.quant_words() / 4;
        &mut self.quants[((block * vectors + word / 4) * GROUP_ROWS + self.lane) * 4 + word % 4]
    }

    /// Word `word` of a unit of side words.
    fn side(&mut self, unit: usize, word: usize) -> &mut u32 {
        let (_, words) = self.layout.side_units();
        &mut self.side[(unit * words + word) * GROUP_ROWS + self.lane]
    }

    fn bytes(&mut self, block: usize, bytes: &[u8]) {
        for (word, four) in bytes.chunks(4).enumerate() {
            let mut whole = [0; 4];
            whole[..four.len()].copy_from_slice(four);
            *self.quant(block, word) = u32::from_le_bytes(whole);
        }
    }

    fn floats(&mut self, row: &[u8]) {
        let block_bytes = self.layout.quant_words() * 4;
        for (block, bytes) in row.chunks(block_bytes).enumerate() {
            self.bytes(block, bytes);
        }
    }

    fn blocks(&mut self, row: &[u8]) {
        let dtype = self.layout.dtype;
        for (block, raw) in row.chunks_exact(dtype.block_bytes()).enumerate() {
            let half = |at: usize| u32::from(u16::from_le_bytes([raw[at], raw[at + 1]]));
            let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
            let (pair, shift) = (block / 2, 16 * (block % 2));
            let quants = match dtype {
                DType::Q4_1 => {
                    *self.side(block, 0) = word(0);
                    4
                }
                DType::Q5_0 => {
                    *self.side(pair, block % 2) = fifth_bits(|i| raw[2 + i / 8] >> (i % 8) & 1);
                    *self.side(pair, 2) |= half(0) << shift;
                    6
                }
                DType::Q5_1 => {
                    *self.side(block, 0) = fifth_bits(|i| raw[4 + i / 8] >> (i % 8) & 1);
                    *self.side(block, 1) = word(0);
                    8
                }
                _ => {
                    *self.side(pair, 0) |= half(0) << shift;
                    2
                }
            };
            self.bytes(block, &raw[quants..]);
        }
    }

    fn superblocks(&mut self, row: &[u8]) {
        for (unit, raw) in row.chunks_exact(self.layout.dtype.block_bytes()).enumerate() {
            let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
            let first = unit * SUPERBLOCK;
            if self.layout.dtype == DType::Q6K {
                let value = |e: usize| q6_k(raw, e);
                *self.side(unit, 0) = u32::from(u16::from_le_bytes([raw[208], raw[209]]));
                for w in 0..4 {
                    *self.side(unit, 1 + w) = word(192 + 4 * w);
                }
                for block in 0..SUPERBLOCK {
                    self.nibbles(first + block, |e| value(block * BLOCK_COLS + e));
                    for w in 0..2 {
                        *self.side(unit, 5 + 2 * block + w) =
                            bits(16, |n| u32::from(value(block * BLOCK_COLS + 16 * w + n) >> 4) << (8 * (n % 4) + 2 * (n / 4)));
                    }
                }
                continue;
            }
            for w in 0..4 {
                *self.side(unit, w) = word(4 * w);
            }
            let quants = if self.layout.dtype == DType::Q5K { &raw[48..] } else { &raw[16..] };
            for block in 0..SUPERBLOCK {
                let shift = 4 * (block % 2);
                self.nibbles(first + block, |e| quants[BLOCK_COLS * (block / 2) + e] >> shift & 15);
                if self.layout.dtype == DType::Q5K {
                    *self.side(unit, 4 + block) = fifth_bits(|e| raw[16 + e] >> block & 1);
                }
            }
        }
    }

    /// A block's low four bits: byte b holds element b and, in its upper half, element b + 16.
    fn nibbles(&mut self, block: usize, value: impl Fn(usize) -> u8) {
        let packed: [u8; 16] = std::array::from_fn(|b| value(b) & 15 | (value(b + 16) & 15) << 4);
        self.bytes(block, &packed);
    }
}

/// Bit 8 i + j is the fifth bit of element 4 j + i, so that a shift and a mask give four of them in place.
fn fifth_bits(bit: impl Fn(usize) -> u8) -> u32 {
    bits(32, |e| u32::from(bit(e)) << (8 * (e % 4) + e / 4))
}

fn bits(elements: usize, bit: impl Fn(usize) -> u32) -> u32 {
    (0..elements).map(bit).fold(0, |all, one| all | one)
}

/// The unsigned 6-bit value of an element of a Q6_K superblock (ggml's order: 128 elements share 64 + 32 bytes).
fn q6_k(raw: &[u8], element: usize) -> u8 {
    let (half, e) = (element / 128, element % 128);
    let (quarter, l) = (e / 32, e % 32);
    let low = raw[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
    let high = raw[128 + 32 * half + l] >> (2 * quarter) & 3;
    low | high << 4
}

#[cfg(test)]
mod tests;
