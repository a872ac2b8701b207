//! `gated`, `residual`, and products of rows whose norm is not divided by yet: what one token's layers consist of.

use super::blocks::{BLOCK_WORDS, Row, from_bytes, half_steps};
use super::harness::{Random, as_floats, close, floats, gpu, padded, poisoned, run, words};
use super::weights::{matrix, odd_columns, random_weights, values};
use crate::gpu::Recorder;
use crate::kernels::{
    Activations, Chosen, KernelChoice, Matvec, Norm, Output, activation_words, gated, is_quantized, matmul, residual,
};
use crate::packing::Layout;
use crate::reference;
use crate::weights::DType;

const EPS: f32 = 1e-5;

fn kernels(dtype: DType) -> impl Iterator<Item = Matvec> {
    Matvec::on(gpu().caps()).filter(move |kernel| is_quantized(dtype) || !kernel.bytes())
}

/// What rounding can do to each row of a product: proportional to the sum of the products' magnitudes, a weight counting as
/// the largest of its block.
fn rounding(dtype: DType, w: &[f32], x: &[f32]) -> Vec<f32> {
    let block = dtype.block_len().max(32).min(x.len());
    let coarse = |row: &[f32]| -> Vec<f32> {
        row.chunks(block).flat_map(|b| vec![b.iter().fold(0.0f32, |m, w| m.max(w.abs())); b.len()]).collect()
    };
    let w: Vec<f32> = w.chunks_exact(x.len()).flat_map(coarse).collect();
    let x: Vec<f32> = x.iter().map(|x| x.abs()).collect();
    reference::matmul(&w, &x, x.len()).into_iter().map(|sum| 6e-6 * sum).collect()
}

/// Rows that a kernel wrote as `bytes` or as floats, against what they should be up to `bound`.
fn compare(made: &[u32], bytes: bool, expected: &[f32], bound: &[f32]) -> Result<(), String> {
    if !bytes {
        return close(&as_floats(&made[..expected.len()]), expected, |i| bound[i]);
    }
    let (values, _) = from_bytes(&made[..expected.len() / 32 * BLOCK_WORDS])?;
    let steps = half_steps(expected);
    let worst = |i: usize| bound[i / 32 * 32..][..32].iter().fold(0.0f32, |most, b| most.max(*b));
    close(&values, expected, |i| steps[i] + 2.0 * worst(i) + 1e-37)
}

#[test]
fn a_product_divides_where_the_norm_did_not() {
    for dtype in DType::ALL {
        for (rows, cols) in [(33, odd_columns(dtype)[0]), (130, odd_columns(dtype)[1])] {
            let mut random = Random(rows as u64);
            let layout = Layout::new(dtype, rows, cols);
            let raw = random_weights(dtype, rows * cols, &mut random);
            let (x, weight) = (random.floats(cols, 7.0), random.floats(cols, 2.0));
            for matvec in kernels(dtype) {
                let row = Row::undivided(&x, &weight, EPS, matvec.bytes());
                let expected = reference::matmul(&values(dtype, &raw), &row.values, cols);
                let bound = rounding(dtype, &values(dtype, &raw), &row.values);
                let y = poisoned(rows);
                let mut recorder = Recorder::default();
                let out = Output { y: y.clone(), stride: rows, offset: 0, accumulate: false };
                let choice = KernelChoice { matvec, ..KernelChoice::PLAIN };
                matmul(&mut recorder, choice, &matrix(layout, &raw, &[]), &row.activations, 1, &out);
                let [y] = run(recorder, [&y]);
                let check = close(&as_floats(&y), &expected, |i| bound[i] + 3e-6 * expected[i].abs());
                check.unwrap_or_else(|e| panic!("{dtype} {matvec:?} {rows} x {cols}: {e}"));
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    dtype: DType,
    rows: usize,
    cols: usize,
    /// Experts in the stack and chosen ones.
    experts: Option<(usize, usize)>,
    score_input: bool,
    divided: bool,
    bytes: bool,
    kernel: Matvec,
}

impl Gate {
    /// The kernel against the twin, whose epsilon may be another.
    fn compare(self, twin_eps: f32, cuts: &[usize]) -> Result<(), String> {
        let Self { dtype, rows, cols, experts, score_input, divided, bytes, kernel } = self;
        let (stack, k) = experts.unwrap_or((1, 1));
        let mut random = Random((rows * cols) as u64);
        let raw = random_weights(dtype, stack * 2 * rows * cols, &mut random);
        let w = values(dtype, &raw);
        let (x, weight, scores) = (random.floats(cols, 0.01), random.floats(cols, 2.0), random.floats(k, 1.0));
        let ids: Vec<u32> = (0..k).map(|rank| ((3 + 7 * rank) % stack) as u32).collect();
        let row = |eps| match divided {
            true => Row::ready(&x, cols, kernel.bytes()),
            false => Row::undivided(&x, &weight, eps, kernel.bytes()),
        };
        let stride = rows.next_multiple_of(32);
        let (mut expected, mut bound) = (Vec::new(), Vec::new());
        for (&id, &score) in ids.iter().zip(&scores) {
            let w = &w[id as usize * 2 * rows * cols..][..2 * rows * cols];
            let x = row(twin_eps).values;
            let (before, after) = match experts {
                None => (1.0, 1.0),
                Some(_) if score_input => (score, 1.0),
                Some(_) => (1.0, score),
            };
            let y = reference::gated(w, &x, before, after);
            let sums = reference::matmul(w, &x, cols);
            let errors: Vec<f32> =
                rounding(dtype, w, &x).iter().zip(&sums).map(|(e, s)| (e + 4e-6 * s.abs()) * before.abs()).collect();
            let one = |i: usize| {
                // The slope of silu is at most 1.1, and its value at most the gate.
                let (gate, up) = (sums[i] * before, sums[rows + i] * before);
                (1.1 * errors[i] * up.abs() + gate.abs() * errors[rows + i]) * after.abs() + 1e-5 * y[i].abs() + 1e-7
            };
            bound.extend(padded(&(0..rows).map(one).collect::<Vec<_>>(), rows, stride));
            expected.extend(padded(&y, rows, stride));
        }
        let (slots, scores) = (words(&ids), floats(&scores));
        let chosen = experts.map(|_| Chosen { slots: &slots, scores: &scores, score_input, count: k });
        let y = poisoned(k * stride);
        let w = matrix(Layout::new(dtype, 2 * rows, cols), &raw, cuts);
        let mut recorder = Recorder::default();
        gated(&mut recorder, kernel, &w, &row(EPS).activations, chosen, (&y, bytes));
        let [y] = run(recorder, [&y]);
        compare(&y, bytes, &expected, &bound)
    }

    fn check_all(self, cuts: &[usize]) {
        for kernel in kernels(self.dtype) {
            for bytes in [false, true] {
                let case = Self { kernel, bytes, ..self };
                case.compare(EPS, cuts).unwrap_or_else(|e| panic!("{case:?}: {e}"));
            }
        }
    }
}

const GATE: Gate = Gate {
    dtype: DType::Q4_1,
    rows: 96,
    cols: 96,
    experts: None,
    score_input: false,
    divided: false,
    bytes: false,
    kernel: Matvec::Rows,
};

#[test]
fn gate_and_up_of_every_format() {
    for dtype in DType::ALL {
        let [a, b, _] = odd_columns(dtype);
        Gate { dtype, cols: a, rows: 160, ..GATE }.check_all(&[]);
        Gate { dtype, cols: b, rows: 32, divided: true, ..GATE }.check_all(&[]);
        Gate { dtype, cols: a, rows: 64, experts: Some((5, 2)), score_input: true, ..GATE }.check_all(&[]);
    }
}

#[test]
fn gate_and_up_of_experts_in_several_buffers() {
    // 96 rows of gate and 96 of up are 6 groups: parts of 1, 2 and 2 experts.
    for score_input in [false, true] {
        Gate { experts: Some((5, 3)), score_input, ..GATE }.check_all(&[6, 18]);
    }
}

#[test]
fn another_epsilon_is_noticed() {
    assert!(GATE.compare(1e-4, &[]).is_err());
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    dtype: DType,
    rows: usize,
    cols: usize,
    experts: Option<(usize, usize)>,
    bytes: bool,
    kernel: Matvec,
}

impl Sum {
    /// The kernel against the twin, to whose first product `wrong` is added.
    fn compare(self, cuts: &[usize], wrong: f32) -> Result<(), String> {
        let Self { dtype, rows, cols, experts, bytes, kernel } = self;
        let (stack, k) = experts.unwrap_or((1, 1));
        let mut random = Random((rows * cols) as u64);
        let raw = random_weights(dtype, stack * rows * cols, &mut random);
        let w = values(dtype, &raw);
        let (x, weight) = (random.floats(rows, 3.0), random.floats(rows, 2.0));
        let ids: Vec<u32> = (0..k).map(|rank| ((3 + 7 * rank) % stack) as u32).collect();
        let y = Row::ready(&random.floats(k * cols, 1.0), cols, kernel.bytes());
        let of = |rank: usize| &w[ids[rank] as usize * rows * cols..][..rows * cols];
        let products: Vec<_> = (0..k).map(|rank| (of(rank), &y.values[rank * cols..][..cols])).collect();
        let (mut sum, mut h) = reference::residual(&x, &products, &weight);
        sum[0] += wrong;
        h[0] += wrong;
        let mut bound = vec![0.0; rows];
        for (w, y) in &products {
            bound.iter_mut().zip(rounding(dtype, w, y)).for_each(|(bound, e)| *bound += e);
        }
        bound.iter_mut().zip(&sum).for_each(|(bound, sum)| *bound += 1e-6 * sum.abs());

        let stride = rows.next_multiple_of(32);
        let stream = floats(&padded(&x, rows, stride));
        let made = Activations { rows: poisoned(activation_words(1, rows)), bytes, undivided: None };
        let norm = Norm { weight: floats(&padded(&weight, rows, stride)), cols: rows, eps: EPS };
        let slots = words(&ids);
        let w = matrix(Layout::new(dtype, rows, cols), &raw, cuts);
        let mut recorder = Recorder::default();
        residual(&mut recorder, kernel, &w, &y.activations, experts.map(|_| (&slots, k)), &stream, &norm, &made);
        let [stream, made] = run(recorder, [&stream, &made.rows]);
        close(&as_floats(&stream), &padded(&sum, rows, stride), |i| bound.get(i).copied().unwrap_or(0.0))?;
        let h_bound: Vec<f32> = bound.iter().zip(&weight).map(|(b, w)| b * w.abs() + 1e-6).collect();
        compare(&made, bytes, &padded(&h, rows, stride), &padded(&h_bound, rows, stride))?;
        let squares: Vec<f32> = sum.chunks(32).map(|block| block.iter().map(|x| x * x).sum()).collect();
        let found = if bytes {
            from_bytes(&made[..stride / 32 * BLOCK_WORDS])?.1
        } else {
            as_floats(&made[stride..]).chunks(4).map(|v| v[0]).collect()
        };
        let error =
            |b: usize| (b * 32..rows.min(b * 32 + 32)).map(|i| 2.0 * sum[i].abs() * bound[i] + bound[i] * bound[i]).sum::<f32>();
        close(&found, &squares, |b| error(b) + 1e-5 * squares[b])
    }

    fn check_all(self, cuts: &[usize]) {
        for kernel in kernels(self.dtype) {
            // Bytes are for quantised readers, whose rows are whole blocks.
            for bytes in [false, true].into_iter().filter(|bytes| !bytes || self.rows.is_multiple_of(32)) {
                let case = Self { kernel, bytes, ..self };
                case.compare(cuts, 0.0).unwrap_or_else(|e| panic!("{case:?}: {e}"));
            }
        }
    }
}

const SUM: Sum = Sum { dtype: DType::Q4_1, rows: 160, cols: 96, experts: None, bytes: false, kernel: Matvec::Rows };

#[test]
fn the_residual_of_every_format() {
    for dtype in DType::ALL {
        let [a, b, _] = odd_columns(dtype);
        Sum { dtype, cols: a, ..SUM }.check_all(&[]);
        Sum { dtype, cols: b, rows: 33, ..SUM }.check_all(&[]);
        Sum { dtype, cols: a, experts: Some((5, 2)), ..SUM }.check_all(&[]);
    }
}

#[test]
fn the_residual_in_several_buffers() {
    Sum { ..SUM }.check_all(&[1, 3]);
    // The chosen expert's five groups lie in two parts.
    Sum { experts: Some((5, 1)), ..SUM }.check_all(&[7, 17]);
}

#[test]
fn a_wrong_sum_is_noticed() {
    assert!(SUM.compare(&[], 0.0).is_ok());
    assert!(SUM.compare(&[], 0.1).is_err());
}
