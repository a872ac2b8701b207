//! Whether a kernel computes right numbers on the adapter at hand: a small matrix of random weights in the model's format, with what
//! the CPU makes of it in f64.

use std::collections::BTreeSet;

use half::{bf16, f16};

use super::Work;
use super::subject::Subject;
use crate::gpu::{Gpu, Recorder, Slice};
use crate::kernels::{
    Activations, Array, KernelChoice, Matrix, Matvec, Norm, Output, Pairs, Tiles, activation_words, expert_matmul, gated, matmul,
    residual,
};
use crate::packing::{BLOCK_COLS, GROUP_ROWS, Layout};
use crate::weights::{DType, decode};
use crate::{Error, Result};

/// Rows of whole groups, gate over up: several workgroups of every kernel.
const WHOLE_ROWS: usize = 10 * GROUP_ROWS;
/// Rows of the matrix: the last group is not full.
const ROWS: usize = WHOLE_ROWS + 5;
/// Tokens: a tile of any kernel, and a part of one.
const TOKENS: usize = 67;
/// Those whose results are looked at: in every square of eight of a tile, at all places of a square, and in another tile.
const COMPARED: [usize; 9] = [0, 3, 4, 13, 22, 33, 47, 63, 66];
/// A place of a tile that no pair has, as `moe_group` writes it.
const NOBODY: u32 = u32::MAX;
/// How far sums may be off, as a part of the largest sum that the row's largest weight allows: f32 sums of thousands of terms.
const ROUNDING: f64 = 2e-5;
/// How many times that where weights are rounded to 16-bit floats: half a unit in the last of eleven bits.
const HALVES_ROUNDING: f64 = 25.0;

pub(super) struct Check<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) subject: Subject,
    /// [ROWS, columns].
    matrix: Matrix,
    /// Its first WHOLE_ROWS.
    whole: Matrix,
    /// [TOKENS, columns] activations. They are integers times a power of two in each block, so that they are the same as bytes.
    pub(super) floats: Slice,
    pub(super) bytes: Slice,
    /// [COMPARED, ROWS] products.
    products: Vec<Number>,
}

/// A value, and how far from it rounding may lead.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub(super) value: f64,
    pub(super) slack: f64,
}

impl<'a> Check<'a> {
    /// Another seed gives other numbers.
    pub(super) fn new(gpu: &'a Gpu, subject: Subject, seed: u64) -> Result<Self> {
        let layout = Layout::new(subject.dtype, ROWS, subject.cols);
        let mut random = Random(seed);
        let raw = random.weights(subject.dtype, ROWS * layout.cols);
        let x: Vec<[f32; BLOCK_COLS]> = (0..TOKENS * layout.blocks()).map(|i| random.block(i, layout)).collect();
        let matrix = Matrix::allocate(gpu, "check", layout, 1)?;
        for (group, rows) in raw.chunks(GROUP_ROWS * raw.len() / ROWS).enumerate() {
            let (mut quants, mut side) = (vec![0; layout.group_quants()], vec![0; layout.group_side()]);
            layout.pack_group(rows, &mut quants, &mut side);
            for (array, words) in [(Array::Quants, &quants), (Array::Side, &side)] {
                matrix.write(gpu, array, 4 * (group * words.len()) as u64, bytemuck::cast_slice(words));
            }
        }
        let mut whole = matrix.clone();
        whole.layout = Layout::new(subject.dtype, WHOLE_ROWS, subject.cols);
        whole.parts.iter_mut().for_each(|part| part.end_group = part.end_group.min(whole.layout.groups()));
        whole.parts.retain(|part| part.first_group < part.end_group);
        let floats = gpu.upload("check", bytemuck::cast_slice(x.as_flattened()))?.whole();
        let bytes: Vec<u32> = x.iter().flat_map(as_bytes).collect();
        let bytes = gpu.upload("check", bytemuck::cast_slice(&bytes))?.whole();
        let weights = decode(subject.dtype, &raw);
        let token = |t: &usize| x[t * layout.blocks()..][..layout.blocks()].as_flattened();
        let products =
            COMPARED.iter().flat_map(|t| weights.chunks_exact(layout.cols).map(|row| product(row, token(t)))).collect();
        Ok(Self { gpu, subject, matrix, whole, floats, bytes, products })
    }

    /// Why a kernel must not do this work, with activations as it prefers them; `None` where it is right.
    pub(super) async fn fault(&self, work: Work, choice: KernelChoice) -> Result<Option<String>> {
        self.fault_with(work, choice, work.multiplies_bytes(choice)).await
    }

    /// The same with activations as bytes or as floats, which a kernel for bytes multiplies in some layers.
    pub(super) async fn fault_with(&self, work: Work, choice: KernelChoice, bytes: bool) -> Result<Option<String>> {
        let found = match work {
            Work::One => self.product(choice, 1, bytes).await,
            Work::Many => self.product(choice, TOKENS, bytes).await,
            Work::Gate if choice.fused => self.fused(choice.matvec, bytes).await,
            // The same product as `One`, and kernels to which there is no alternative.
            Work::Gate => Ok(None),
            // No product.
            Work::Attention => Ok(None),
        };
        or_fault(found)
    }

    /// The same of a product of several tokens by the kernels for experts, in tiles of either size.
    pub(super) async fn fault_in_tiles(&self, choice: KernelChoice, bytes: bool) -> Result<Option<String>> {
        for width in BTreeSet::from([0, usize::MAX].map(|pairs| choice.matmul.expert_tile(pairs, 1))) {
            if let Some(fault) = or_fault(self.expert_product(choice, bytes, width).await)? {
                return Ok(Some(format!("in tiles of {width}: {fault}")));
            }
        }
        Ok(None)
    }

    async fn product(&self, choice: KernelChoice, tokens: usize, bytes: bool) -> Result<Option<String>> {
        // A row of y ends with an element that is nobody's.
        let stride = ROWS + 1;
        let y = self.poisoned(tokens * stride)?;
        let mut r = Recorder::default();
        let out = Output { y: y.clone(), stride, offset: 0, accumulate: false };
        matmul(&mut r, choice, &self.matrix, &self.activations(bytes), tokens, &out);
        self.fault_of_product(r, &y, tokens, choice).await
    }

    /// The product of an expert that all tokens chose.
    async fn expert_product(&self, choice: KernelChoice, bytes: bool, width: usize) -> Result<Option<String>> {
        let upload = |words: &[u32]| Ok::<_, Error>(self.gpu.upload("check", bytemuck::cast_slice(words))?.whole());
        let count = TOKENS.div_ceil(width);
        let places = (0..count * width).map(|pair| if pair < TOKENS { pair as u32 } else { NOBODY });
        let pairs = upload(&places.collect::<Vec<_>>())?;
        let tiles = Some(Tiles { expert: upload(&vec![0; count])?, pairs, count, width });
        let pairs = Pairs { count: TOKENS, sharing: 1, chosen: upload(&[0; TOKENS])?, tiles };
        let stride = ROWS + 1;
        let y = self.poisoned(TOKENS * stride)?;
        let mut r = Recorder::default();
        let out = Output { y: y.clone(), stride, offset: 0, accumulate: false };
        expert_matmul(&mut r, choice, &self.matrix, &self.activations(bytes), &pairs, &out);
        self.fault_of_product(r, &y, TOKENS, choice).await
    }

    /// What is wrong with the rows of y, [tokens, ROWS + 1], after what was recorded.
    async fn fault_of_product(&self, r: Recorder, y: &Slice, tokens: usize, choice: KernelChoice) -> Result<Option<String>> {
        let stride = ROWS + 1;
        let y = result_of(self.gpu, r, y).await?;
        if y.chunks_exact(stride).any(|row| row[ROWS].to_bits() != u32::MAX) {
            return Ok(Some("a product writes behind its last row".into()));
        }
        let got = COMPARED.iter().filter(|&&t| t < tokens).flat_map(|t| &y[t * stride..][..ROWS]);
        let looser = if tokens > 1 && choice.matmul.halves() { HALVES_ROUNDING } else { 1.0 };
        Ok(difference("product", got, self.products.iter().map(|product| product.looser(looser))))
    }

    /// The kernels that do what follows a product: `gated` and `residual`.
    async fn fused(&self, matvec: Matvec, bytes: bool) -> Result<Option<String>> {
        let x = self.activations(bytes);
        let products = &self.products[..ROWS];
        let inner = self.poisoned(WHOLE_ROWS / 2)?;
        let mut r = Recorder::default();
        gated(&mut r, matvec, &self.whole, &x, None, (&inner, false));
        let inner = result_of(self.gpu, r, &inner).await?;
        let (gate, up) = products[..WHOLE_ROWS].split_at(WHOLE_ROWS / 2);
        if let Some(fault) = difference("gated product", &inner, gate.iter().zip(up).map(|(gate, up)| gate.silu().times(*up))) {
            return Ok(Some(fault));
        }
        let padded = ROWS.next_multiple_of(BLOCK_COLS);
        let before: Vec<f32> = (0..padded).map(|i| if i < ROWS { (i % 7) as f32 - 3.0 } else { 0.0 }).collect();
        let weight: Vec<f32> = (0..padded).map(|i| if i < ROWS { 0.5 + (i % 3) as f32 } else { 0.0 }).collect();
        let stream = self.gpu.upload("check", bytemuck::cast_slice(&before))?.whole();
        let norm = Norm { weight: self.gpu.upload("check", bytemuck::cast_slice(&weight))?.whole(), cols: ROWS, eps: 0.0 };
        let h = Activations { rows: self.poisoned(activation_words(1, ROWS))?, bytes: false, undivided: None };
        let mut r = Recorder::default();
        residual(&mut r, matvec, &self.matrix, &x, None, &stream, &norm, &h);
        let after: Vec<Number> = products.iter().zip(&before).map(|(product, &before)| product.plus(before)).collect();
        let h = result_of(self.gpu, r, &h.rows).await?;
        let weighted = after.iter().zip(&weight).map(|(x, &weight)| x.times(Number { value: weight.into(), slack: 0.0 }));
        let zeros = std::iter::repeat_n(Number::ZERO, padded - ROWS);
        // Behind h: in four words each, the sums of squares of its blocks.
        let squares = after.chunks(BLOCK_COLS).map(|block| block.iter().fold(Number::ZERO, |sum, x| sum.and(x.times(*x))));
        let fault = difference("residual", &h[..padded], weighted.chain(zeros));
        Ok(fault.or_else(|| difference("sum of squares", h[padded..].iter().step_by(4), squares)))
    }

    fn activations(&self, bytes: bool) -> Activations {
        Activations { rows: if bytes { &self.bytes } else { &self.floats }.clone(), bytes, undivided: None }
    }

    /// A buffer of NaNs, which are no right result.
    fn poisoned(&self, words: usize) -> Result<Slice> {
        Ok(self.gpu.upload("check", &vec![0xff; 4 * words])?.whole().words(0, words))
    }
}

/// What a buffer holds after what was recorded.
pub(super) async fn result_of(gpu: &Gpu, mut r: Recorder, result: &Slice) -> Result<Vec<f32>> {
    let staging = gpu.staging(result.size())?;
    r.copy(result.clone(), staging.slice(0, result.size()));
    let recording = r.finish();
    gpu.tried(|| gpu.run(&[gpu.prepare(&recording)?.whole()])).await?;
    let bytes = gpu.read(&staging, result.size()).await?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// What the driver does not compile, or ends with an error, another kernel may do.
pub(super) fn or_fault(found: Result<Option<String>>) -> Result<Option<String>> {
    match found {
        Err(Error::Gpu(why)) => Ok(Some(why)),
        found => found,
    }
}

/// The first element that is off, in words.
pub(super) fn difference<'b>(
    what: &str,
    got: impl IntoIterator<Item = &'b f32>,
    expected: impl Iterator<Item = Number>,
) -> Option<String> {
    let mut pairs = got.into_iter().zip(expected).enumerate();
    // A NaN is within no bound.
    let (at, (got, expected)) = pairs.find(|(_, (got, expected))| !expected.allows(**got))?;
    Some(format!("element {at} of a {what} is {got}, not {}", expected.value as f32))
}

fn product(row: &[f32], x: &[f32]) -> Number {
    let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let terms = || row.iter().zip(x).map(|(&w, &x)| (f64::from(w), f64::from(x)));
    Number {
        value: terms().map(|(w, x)| w * x).sum(),
        slack: ROUNDING * f64::from(largest) * terms().map(|(_, x)| x.abs()).sum::<f64>(),
    }
}

impl Number {
    const ZERO: Self = Self { value: 0.0, slack: 0.0 };

    fn allows(self, got: f32) -> bool {
        (f64::from(got) - self.value).abs() <= self.slack + ROUNDING * self.value.abs()
    }

    fn looser(self, times: f64) -> Self {
        Self { slack: times * self.slack, ..self }
    }

    fn plus(self, other: f32) -> Self {
        Self { value: self.value + f64::from(other), slack: self.slack + ROUNDING * f64::from(other.abs()) }
    }

    fn and(self, other: Self) -> Self {
        Self { value: self.value + other.value, slack: self.slack + other.slack }
    }

    fn times(self, other: Self) -> Self {
        let slack = self.slack * other.value.abs() + other.slack * (self.value.abs() + self.slack);
        Self { value: self.value * other.value, slack }
    }

    /// x / (1 + e^-x), whose slope is below 1.1.
    fn silu(self) -> Self {
        Self { value: self.value / (1.0 + (-self.value).exp()), slack: 1.1 * self.slack }
    }
}

/// A block of activations as `shaders/shared/blocks.wgsl` has it.
fn as_bytes(x: &[f32; BLOCK_COLS]) -> [u32; 12] {
    let scale = x.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
    let quant = |i: usize| (x[i] / scale) as i8;
    let mut words = [scale.to_bits(), x.iter().sum::<f32>().to_bits(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (word, at) in words[4..].iter_mut().zip((0..BLOCK_COLS).step_by(4)) {
        *word = u32::from_le_bytes([0, 1, 2, 3].map(|i| quant(at + i).to_le_bytes()[0]));
    }
    words
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// An integer from -127 to 127.
    pub(super) fn small(&mut self) -> f32 {
        (self.next() % 255) as f32 - 127.0
    }

    /// Stored values: random floats, or random bits with small scales.
    fn weights(&mut self, dtype: DType, len: usize) -> Vec<u8> {
        let scales: &[usize] = match dtype {
            DType::F32 => return (0..len).flat_map(|_| (self.small() / 127.0).to_le_bytes()).collect(),
            DType::F16 => return (0..len).flat_map(|_| f16::from_f32(self.small() / 127.0).to_le_bytes()).collect(),
            DType::BF16 => return (0..len).flat_map(|_| bf16::from_f32(self.small() / 127.0).to_le_bytes()).collect(),
            DType::Q8_0 | DType::Q4_0 | DType::Q5_0 => &[0],
            DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
            DType::Q6K => &[208],
        };
        let bytes = len / dtype.block_len() * dtype.block_bytes();
        let mut raw: Vec<u8> = (0..bytes).map(|_| self.next().to_le_bytes()[7]).collect();
        for block in raw.chunks_exact_mut(dtype.block_bytes()) {
            for &at in scales {
                block[at..at + 2].copy_from_slice(&f16::from_f32(self.small() / 1270.0).to_le_bytes());
            }
        }
        raw
    }

    /// Block `index` of the activations: integers of which one is 127, small enough for moderate products; zeros behind the row.
    fn block(&mut self, index: usize, layout: Layout) -> [f32; BLOCK_COLS] {
        let block = index % layout.blocks();
        let step = [1.0 / 2048.0, 1.0 / 4096.0, 1.0 / 8192.0][block % 3];
        let mut values: [f32; BLOCK_COLS] = std::array::from_fn(|_| step * self.small());
        values[0] = step * 127.0;
        values[(layout.cols - block * BLOCK_COLS).min(BLOCK_COLS)..].fill(0.0);
        values
    }
}
