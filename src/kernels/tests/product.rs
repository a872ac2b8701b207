//! `matvec` and `matmul`: every format, f32 and byte activations, each shape, single matrices and stacks of experts.

use super::blocks::Row;
use super::harness::{POISON, Random, as_floats, close, floats, gpu, poisoned, rows, run, words};
use super::weights::{matrix, odd_columns, random_weights, values};
use crate::gpu::Recorder;
use crate::kernels::{
    Activations, KernelChoice, Matmul, Matvec, Output, Pairs, Tiles, expert_matmul, is_quantized, matmul, max_tiles,
};
use crate::packing::Layout;
use crate::reference::{self, NONE};
use crate::weights::DType;

/// One product. [`plain`] and [`routed`] make the ordinary ones.
#[derive(Clone, Debug)]
struct Product {
    layout: Layout,
    choice: KernelChoice,
    tokens: usize,
    /// Experts in the stack and chosen for a token.
    experts: Option<(usize, usize)>,
    /// A token's chosen experts share its row of x (the way in), or have one each (the way out).
    shared_input: bool,
    /// Groups at which the weights are cut into parts.
    cuts: Vec<usize>,
    /// First element written in a row of y, and elements behind the last.
    offset: usize,
    behind: usize,
    accumulate: bool,
}

fn plain(dtype: DType, rows: usize, cols: usize, tokens: usize) -> Product {
    Product {
        layout: Layout::new(dtype, rows, cols),
        choice: KernelChoice::PLAIN,
        tokens,
        experts: None,
        shared_input: true,
        cuts: vec![],
        offset: 0,
        behind: 0,
        accumulate: false,
    }
}

fn routed(dtype: DType, rows: usize, cols: usize, tokens: usize, experts: usize, k: usize) -> Product {
    Product { experts: Some((experts, k)), ..plain(dtype, rows, cols, tokens) }
}

/// Every kernel that multiplies weights of a format by this many tokens.
fn kernels(dtype: DType, tokens: usize) -> Vec<KernelChoice> {
    let plain = KernelChoice::PLAIN;
    let all: Vec<_> = if tokens == 1 {
        Matvec::on(gpu().caps()).map(|matvec| KernelChoice { matvec, ..plain }).collect()
    } else {
        Matmul::on(gpu().caps()).map(|matmul| KernelChoice { matmul, ..plain }).collect()
    };
    all.into_iter().filter(|c| is_quantized(dtype) || !(c.matvec.bytes() || c.matmul.bytes())).collect()
}

impl Product {
    /// Activations as bytes.
    fn i8(&self) -> bool {
        if self.tokens == 1 { self.choice.matvec.bytes() } else { self.choice.matmul.bytes() }
    }

    fn halves(&self) -> bool {
        self.tokens > 1 && self.choice.matmul.halves()
    }

    /// Random operands.
    fn compare(&self) -> Result<(), String> {
        let mut random = Random(self.layout.rows as u64 * 1000 + self.tokens as u64);
        let stack = self.experts.map_or(1, |(n, _)| n);
        let raw = random_weights(self.layout.dtype, stack * self.layout.rows * self.layout.cols, &mut random);
        self.compare_with(&raw, &values(self.layout.dtype, &raw), |random| random.float())
    }

    /// The kernel on the stored weights `raw` against the twin on the values `w`, both with activations made by `x`.
    fn compare_with(&self, raw: &[u8], w: &[f32], x: impl Fn(&mut Random) -> f32) -> Result<(), String> {
        let Layout { rows: height, cols, .. } = self.layout;
        let mut random = Random(cols as u64);
        let k = self.experts.map_or(1, |(_, k)| k);
        let pairs = self.tokens * k;
        let sharing = if self.shared_input { k } else { 1 };
        let x: Vec<f32> = (0..pairs / sharing * cols).map(|_| x(&mut random)).collect();
        let ids: Vec<u32> = self.experts.map_or(vec![0; pairs], |(n, k)| chosen(n, k, self.tokens, &mut random));

        let Row { activations, values: x } = Row::ready(&x, cols, self.i8());
        let size = height * cols;
        let twin = |w: &[f32], x: &[f32]| -> Vec<f32> {
            let one = |(pair, &id): (usize, &u32)| {
                reference::matmul(&w[id as usize * size..][..size], &x[pair / sharing * cols..][..cols], cols)
            };
            ids.iter().enumerate().flat_map(one).collect()
        };
        let mut expected = twin(w, &x);
        // What rounding can do: proportional to the sum of the products' magnitudes. The decoder's own terms (scale * quant
        // and minimum) can be larger than the weight, but not than the largest of its block.
        let block = self.layout.dtype.block_len().max(32).min(cols);
        let coarse = |row: &[f32]| -> Vec<f32> {
            row.chunks(block).flat_map(|b| vec![b.iter().fold(0.0f32, |m, w| m.max(w.abs())); b.len()]).collect()
        };
        let magnitude: Vec<f32> = w.chunks_exact(cols).flat_map(coarse).collect();
        let magnitude = twin(&magnitude, &x.iter().map(|x| x.abs()).collect::<Vec<_>>());

        let stride = self.offset + height + self.behind;
        let before = random.floats(pairs * stride, 1.0);
        let y = if self.accumulate { floats(&before) } else { poisoned(pairs * stride) };
        let mut recorder = Recorder::default();
        self.record(
            &mut recorder,
            raw,
            &activations,
            &ids,
            &Output { y: y.clone(), stride, offset: self.offset, accumulate: self.accumulate },
        );
        let [mut y] = run(recorder, [&y]);
        if self.accumulate {
            for (i, y) in y.iter_mut().enumerate() {
                if (self.offset..self.offset + height).contains(&(i % stride)) {
                    expected[i / stride * height + i % stride - self.offset] += before[i];
                } else if *y == before[i].to_bits() {
                    *y = POISON;
                }
            }
        }
        let y = rows(&y, stride, self.offset, height)?;
        // With 16-bit floats: eleven bits of each weight and activation; what is below their normal numbers may be lost.
        let (relative, least) = if self.halves() { (2e-3, 1e-4) } else { (4e-6, f32::MIN_POSITIVE) };
        close(&y, &expected, |i| relative * magnitude[i] + 2e-7 * expected[i].abs() + least)
    }

    fn record(&self, recorder: &mut Recorder, raw: &[u8], x: &Activations, ids: &[u32], out: &Output) {
        let w = matrix(self.layout, raw, &self.cuts);
        let Some((experts, k)) = self.experts else {
            return matmul(recorder, self.choice, &w, x, self.tokens, out);
        };
        let tiles = (self.tokens > 1).then(|| {
            let width = self.choice.matmul.expert_tile(ids.len(), experts);
            let tiles = reference::moe_group(ids, experts as u32, width);
            let count = max_tiles(ids.len(), experts, width);
            let mut tile_expert: Vec<u32> = tiles.iter().map(|t| t.0).collect();
            let mut tile_pairs: Vec<u32> = tiles.into_iter().flat_map(|t| t.1).collect();
            tile_expert.resize(count, NONE);
            tile_pairs.resize(count * width, POISON);
            Tiles { expert: words(&tile_expert), pairs: words(&tile_pairs), count, width }
        });
        let sharing = if self.shared_input { k } else { 1 };
        let pairs = Pairs { count: ids.len(), sharing, chosen: words(ids), tiles };
        expert_matmul(recorder, self.choice, &w, x, &pairs, out);
    }

    /// The product by every kernel that can compute it.
    fn check_all(&self) {
        for choice in kernels(self.layout.dtype, self.tokens) {
            let product = Self { choice, ..self.clone() };
            product.compare().unwrap_or_else(|e| panic!("{product:?}: {e}"));
        }
    }
}

/// Different experts for each token: 7 has no divisor in common with the stacks' sizes.
fn chosen(experts: usize, k: usize, tokens: usize, random: &mut Random) -> Vec<u32> {
    let one = |first: usize| (0..k).map(move |rank| ((first + 7 * rank) % experts) as u32);
    (0..tokens).flat_map(|_| one(random.below(experts))).collect()
}

fn for_all_formats(check: impl Fn(DType, [usize; 3])) {
    for dtype in DType::ALL {
        check(dtype, odd_columns(dtype));
    }
}

#[test]
fn one_token() {
    for_all_formats(|dtype, [a, b, c]| {
        for rows in [1, 5, 33, 643] {
            plain(dtype, rows, a, 1).check_all();
        }
        plain(dtype, 33, b, 1).check_all();
        plain(dtype, 130, c, 1).check_all();
    });
}

#[test]
fn many_tokens() {
    for_all_formats(|dtype, [a, b, c]| {
        plain(dtype, 33, a, 3).check_all();
        plain(dtype, 129, b, 4).check_all();
        plain(dtype, 5, c, 5).check_all();
        plain(dtype, 160, a, 75).check_all();
        plain(dtype, 1, b, 3).check_all();
        plain(dtype, 643, a, 65).check_all();
    });
}

#[test]
fn chosen_experts_of_one_token() {
    for_all_formats(|dtype, [a, b, c]| {
        routed(dtype, 40, a, 1, 5, 1).check_all();
        routed(dtype, 33, b, 1, 24, 8).check_all();
        Product { shared_input: false, ..routed(dtype, 5, c, 1, 5, 2) }.check_all();
    });
    routed(DType::Q4_0, 32, 96, 1, 128, 8).check_all();
}

#[test]
fn chosen_experts_of_many_tokens() {
    for_all_formats(|dtype, [a, b, c]| {
        routed(dtype, 40, a, 3, 5, 1).check_all();
        routed(dtype, 33, b, 4, 24, 8).check_all();
        Product { shared_input: false, ..routed(dtype, 5, c, 5, 5, 2) }.check_all();
        // More than tiles of few tokens.
        routed(dtype, 33, b, 67, 1, 1).check_all();
    });
    routed(DType::Q8_0, 32, 96, 75, 128, 8).check_all();
    // One expert that fills several tiles.
    routed(DType::Q4K, 33, 256, 75, 1, 1).check_all();
    Product { shared_input: false, ..routed(DType::BF16, 70, 96, 75, 5, 1) }.check_all();
}

#[test]
fn weights_in_several_buffers() {
    for_all_formats(|dtype, [a, ..]| {
        for tokens in [1, 5] {
            // 150 rows are 5 groups: parts of 1, 2 and 2.
            Product { cuts: vec![1, 3], ..plain(dtype, 150, a, tokens) }.check_all();
            // 5 experts of 3 groups, cut in the middle of the second, after the third, and in the last.
            Product { cuts: vec![4, 9, 14], ..routed(dtype, 70, a, tokens, 5, 2) }.check_all();
        }
    });
}

#[test]
fn within_a_larger_row_and_on_top_of_what_is_there() {
    for tokens in [1, 3] {
        for dtype in [DType::F16, DType::Q4_1, DType::Q6K] {
            let cols = odd_columns(dtype)[1];
            let product = Product { offset: 7, behind: 10, ..plain(dtype, 70, cols, tokens) };
            product.check_all();
            Product { accumulate: true, ..product.clone() }.check_all();
            Product { accumulate: true, cuts: vec![2], ..product }.check_all();
            let product = Product { offset: 3, behind: 2, ..routed(dtype, 70, cols, tokens, 5, 2) };
            product.check_all();
            Product { accumulate: true, cuts: vec![4], ..product }.check_all();
        }
    }
}

/// A product of two 16-bit floats that is none itself.
#[test]
fn halves_do_not_overflow() {
    for choice in kernels(DType::F32, 5).into_iter().filter(|choice| choice.matmul.halves()) {
        let product = Product { choice, ..plain(DType::F32, 40, 64, 5) };
        let w = vec![4.0f32; 40 * 64];
        let x = |random: &mut Random| random.float().signum() * 20_000.0;
        product.compare_with(bytemuck::cast_slice(&w), &w, x).unwrap();
    }
}

#[test]
fn extreme_blocks() {
    let golden = include_bytes!("../../../tests/golden/formats.safetensors");
    let golden = safetensors::SafeTensors::deserialize(golden).unwrap();
    for dtype in DType::ALL.into_iter().filter(|&d| d != DType::F32) {
        let raw = golden.tensor(&format!("{dtype}.raw")).unwrap().data();
        let w: Vec<f32> = bytemuck::pod_collect_to_vec(golden.tensor(&format!("{dtype}.f32")).unwrap().data());
        for tokens in [1, 5] {
            for choice in kernels(dtype, tokens) {
                let product = Product { choice, ..plain(dtype, 24, 512, tokens) };
                // These weights are larger than 16-bit floats, which no model's are.
                if product.halves() {
                    continue;
                }
                product.compare_with(raw, &w, |random| random.float()).unwrap_or_else(|e| panic!("{product:?}: {e}"));
            }
        }
    }
}

/// All bits of the weights are set, or none; activations are as large as they get, of one sign or of both.
#[test]
fn the_largest_bytes() {
    let one = |_: &mut Random| 1.0;
    let either = |random: &mut Random| random.float().signum();
    for_all_formats(|dtype, [cols, ..]| {
        for quants in [0x00, 0xff] {
            let mut raw = random_weights(dtype, 33 * cols, &mut Random(4));
            // All but scales in f16.
            let filled = match dtype {
                DType::Q6K => 0..208,
                DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => 2..dtype.block_bytes(),
                _ => 4..dtype.block_bytes(),
            };
            for block in raw.chunks_exact_mut(dtype.block_bytes()).filter(|_| is_quantized(dtype)) {
                block[filled.clone()].fill(quants);
            }
            let w = values(dtype, &raw);
            for tokens in [1, 3] {
                for choice in kernels(dtype, tokens) {
                    let product = Product { choice, ..plain(dtype, 33, cols, tokens) };
                    product.compare_with(&raw, &w, one).unwrap_or_else(|e| panic!("{product:?}: {e}"));
                    product.compare_with(&raw, &w, either).unwrap_or_else(|e| panic!("{product:?}: {e}"));
                }
            }
        }
    });
}

/// 2.2 million rows are more than 65,535 workgroups of 32.
#[test]
fn more_rows_than_workgroups_in_a_dimension() {
    let layout = Layout::new(DType::Q4_0, 2_200_000, 32);
    let mut random = Random(1);
    let pattern = random_weights(DType::Q4_0, 1009 * 32, &mut random);
    let raw: Vec<u8> = pattern.iter().copied().cycle().take(layout.rows * 18).collect();
    let w = matrix(layout, &raw, &[]);
    let x = random.floats(32, 1.0);
    let expected = reference::matmul(&values(DType::Q4_0, &pattern), &x, 32);
    for choice in kernels(DType::F32, 1) {
        let y = poisoned(layout.rows);
        let out = Output { y: y.clone(), stride: layout.rows, offset: 0, accumulate: false };
        let mut recorder = Recorder::default();
        matmul(&mut recorder, choice, &w, &Row::ready(&x, 32, false).activations, 1, &out);
        let [y] = run(recorder, [&y]);
        for (n, rows) in as_floats(&y).chunks(1009).enumerate() {
            close(rows, &expected[..rows.len()], |_| 1e-4).unwrap_or_else(|e| panic!("{choice:?}, rows {}..: {e}", n * 1009));
        }
    }
}

#[test]
fn one_wrong_quant_is_noticed() {
    for product in [plain(DType::Q4_1, 33, 96, 1), routed(DType::Q6K, 5, 256, 3, 5, 1)] {
        let dtype = product.layout.dtype;
        let stack = product.experts.map_or(1, |(n, _)| n);
        let mut raw = random_weights(dtype, stack * product.layout.rows * product.layout.cols, &mut Random(3));
        let w = values(dtype, &raw);
        product.compare_with(&raw, &w, |random| random.float()).unwrap();
        // In every expert, because not all are chosen.
        for block in raw.chunks_exact_mut(dtype.block_bytes()) {
            block[7] ^= 8;
        }
        assert!(product.compare_with(&raw, &w, |random| random.float()).is_err(), "{product:?}");
    }
}
