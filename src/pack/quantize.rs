//! Floats to the formats that models are packed in.
//!
//! Blocks are laid out as in ggml (`ggml-common.h`). Scales are rounded to f16 before the integers are chosen, so that what
//! is chosen fits the scale that is stored.

use half::f16;

use crate::weights::DType;

/// Elements of a block of every format here.
const BLOCK: usize = 32;

/// How many scales are tried for a block of Q4_1 beside the one that spans its values, and how far apart they are in steps
/// of the integers. As in llama.cpp's `make_qkx2_quants` for K-quants: the best scale may clip the outermost values.
const TRIED: u32 = 20;
const FIRST_TRIED: f32 = -1.0;
const STEP: f32 = 0.1;

/// A block that its format cannot hold: a value is not finite, or too large for an f16.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotRepresentable;

/// Appends `values` in `dtype`, one of F16, Q8_0 and Q4_1, of which they are whole blocks.
pub(super) fn quantize(values: &[f32], dtype: DType, out: &mut Vec<u8>) -> Result<(), NotRepresentable> {
    match dtype {
        DType::F16 => {
            for &value in values {
                let half = finite(value)?;
                out.extend(half.to_le_bytes());
            }
        }
        DType::Q8_0 => {
            for block in values.as_chunks().0 {
                q8_0(block, out)?;
            }
        }
        DType::Q4_1 => {
            for block in values.as_chunks().0 {
                q4_1(block, out)?;
            }
        }
        _ => return Err(NotRepresentable),
    }
    Ok(())
}

/// The nearest f16 if there is one.
fn finite(value: f32) -> Result<f16, NotRepresentable> {
    let half = f16::from_f32(value);
    if half.is_finite() { Ok(half) } else { Err(NotRepresentable) }
}

/// The nearest integer from 0 to 15, as a float. Adding 2^23 leaves no fraction, in a way that vectorises.
fn nibble(value: f32) -> f32 {
    const NO_FRACTION: f32 = 8_388_608.0;
    value.clamp(0.0, 15.0) + NO_FRACTION - NO_FRACTION
}

fn q8_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<(), NotRepresentable> {
    let largest = block.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    if block.iter().any(|value| value.is_nan()) {
        return Err(NotRepresentable);
    }
    let scale = finite(largest / 127.0)?;
    let inverse = inverse(scale.to_f32());
    out.extend(scale.to_le_bytes());
    out.extend(block.map(|value| (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8));
    Ok(())
}

/// 1 / `scale`, or 0 for a block of zeros.
fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// Scale and minimum of a block of Q4_1, as f16 can hold them.
#[derive(Clone, Copy)]
struct Line {
    scale: f16,
    min: f16,
}

/// Values with their weights in the error that is minimised.
struct Weighted<'a> {
    values: &'a [f32; BLOCK],
    weights: [f32; BLOCK],
    /// Sums of the weights and of the weighted values.
    sum: f32,
    sum_values: f32,
}

fn q4_1(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<(), NotRepresentable> {
    let line = best_line(block)?;
    let inverse = inverse(line.scale.to_f32());
    let ints = block.map(|value| nibble((value - line.min.to_f32()) * inverse) as u8);
    out.extend(line.scale.to_le_bytes());
    out.extend(line.min.to_le_bytes());
    out.extend((0..BLOCK / 2).map(|i| ints[i] | ints[i + BLOCK / 2] << 4));
    Ok(())
}

/// The line through integers 0 to 15 that has the least weighted square error: for each of a few scales the values are
/// rounded, and the line is fitted to what they were rounded to.
fn best_line(block: &[f32; BLOCK]) -> Result<Line, NotRepresentable> {
    let (least, most) = block.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &v| (least.min(v), most.max(v)));
    if block.iter().any(|value| value.is_nan()) {
        return Err(NotRepresentable);
    }
    let mut best = Line { scale: finite((most - least) / 15.0)?, min: finite(least)? };
    if best.scale == f16::ZERO {
        return Ok(best);
    }
    let weighted = Weighted::new(block);
    let ints_of = |line: Line| block.map(|value| nibble((value - line.min.to_f32()) * inverse(line.scale.to_f32())));
    let mut least_error = weighted.error(&ints_of(best), best);
    for tried in 0..=TRIED {
        let inverse = (15.0 + FIRST_TRIED + STEP * tried as f32) / (most - least);
        let ints = block.map(|value| nibble((value - least) * inverse));
        let Some(line) = weighted.fit(&ints) else { continue };
        let error = weighted.error(&ints, line);
        if error < least_error {
            (best, least_error) = (line, error);
        }
    }
    Ok(best)
}

impl<'a> Weighted<'a> {
    /// Large values count more, as they do in the products that the weights are for.
    fn new(values: &'a [f32; BLOCK]) -> Self {
        let typical = (sum(&values.map(|value| value * value)) / BLOCK as f32).sqrt();
        let weights = values.map(|value| typical + value.abs());
        let products: [f32; BLOCK] = std::array::from_fn(|i| weights[i] * values[i]);
        Self { values, weights, sum: sum(&weights), sum_values: sum(&products) }
    }

    /// The line with the least error for these integers; `None` where they are all the same.
    fn fit(&self, ints: &[f32; BLOCK]) -> Option<Line> {
        let weighted: [f32; BLOCK] = std::array::from_fn(|i| self.weights[i] * ints[i]);
        let sum_ints = sum(&weighted);
        let sum_squares = sum(&std::array::from_fn(|i| weighted[i] * ints[i]));
        let sum_products = sum(&std::array::from_fn(|i| weighted[i] * self.values[i]));
        let determinant = self.sum * sum_squares - sum_ints * sum_ints;
        let scale = f16::from_f32((self.sum * sum_products - self.sum_values * sum_ints) / determinant);
        let min = f16::from_f32((sum_squares * self.sum_values - sum_ints * sum_products) / determinant);
        (scale.is_finite() && scale > f16::ZERO && min.is_finite()).then_some(Line { scale, min })
    }

    fn error(&self, ints: &[f32; BLOCK], line: Line) -> f32 {
        let (scale, min) = (line.scale.to_f32(), line.min.to_f32());
        sum(&std::array::from_fn(|i| {
            let difference = ints[i] * scale + min - self.values[i];
            self.weights[i] * difference * difference
        }))
    }
}

/// The sum, in eight strands that vectorise.
fn sum(values: &[f32; BLOCK]) -> f32 {
    let strands = values
        .as_chunks()
        .0
        .iter()
        .fold([0.0; 8], |strands: [f32; 8], eight: &[f32; 8]| std::array::from_fn(|i| strands[i] + eight[i]));
    strands.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::decode;

    /// Numbers between -1 and 1, dense around zero as weights are.
    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        (0..count).map(|_| uniform() * uniform() * uniform()).collect()
    }

    fn there_and_back(values: &[f32], dtype: DType) -> Vec<f32> {
        let mut bytes = Vec::new();
        quantize(values, dtype, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, dtype.bytes_for(values.len() as u64).unwrap());
        decode(dtype, &bytes)
    }

    fn spread(block: &[f32]) -> (f32, f32) {
        block.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &v| (least.min(v), most.max(v)))
    }

    #[test]
    fn eight_bits_are_within_half_a_step() {
        let values = values(64 * BLOCK, 1);
        let back = there_and_back(&values, DType::Q8_0);
        for (block, back) in values.chunks(BLOCK).zip(back.chunks(BLOCK)) {
            let largest = block.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            // Rounding the scale to f16 moves the largest value by up to 127 / 2048 of a step.
            let bound = largest / 127.0 * (0.5 + 0.07);
            for (value, back) in block.iter().zip(back) {
                assert!((value - back).abs() <= bound, "{value} became {back}");
            }
        }
    }

    /// The search may clip, so the bound is on the weighted square error: never above that of the line that spans the values.
    #[test]
    fn four_bits_are_better_than_the_span() {
        let values = values(256 * BLOCK, 2);
        let back = there_and_back(&values, DType::Q4_1);
        let (mut ours, mut spanned) = (0.0, 0.0);
        for (block, back) in values.as_chunks::<BLOCK>().0.iter().zip(back.chunks(BLOCK)) {
            let (least, most) = spread(block);
            let line = Line { scale: f16::from_f32((most - least) / 15.0), min: f16::from_f32(least) };
            let ints = block.map(|v| nibble((v - line.min.to_f32()) / line.scale.to_f32()));
            let weighted = Weighted::new(block);
            let own: f32 = (0..BLOCK).map(|i| weighted.weights[i] * (back[i] - block[i]).powi(2)).sum();
            let span = weighted.error(&ints, line);
            assert!(own <= span * 1.0001, "{own} for {span}");
            // No value is further off than the span's step, of which clipping costs a part.
            let bound = (most - least) / 15.0 * 1.5;
            assert!(block.iter().zip(back).all(|(a, b)| (a - b).abs() <= bound));
            (ours, spanned) = (ours + own, spanned + span);
        }
        assert!(ours < 0.9 * spanned, "searching gained too little: {ours} for {spanned}");
    }

    #[test]
    fn halves_are_the_nearest() {
        let values = values(1000, 3);
        for (value, back) in values.iter().zip(there_and_back(&values, DType::F16)) {
            assert_eq!(f16::from_f32(*value).to_f32(), back);
        }
    }

    #[test]
    fn blocks_without_spread_survive() {
        for value in [0.0, 1.0, -0.37, 1e-9] {
            for dtype in [DType::Q8_0, DType::Q4_1] {
                for back in there_and_back(&[value; BLOCK], dtype) {
                    assert!((back - value).abs() <= value.abs() * 0.005 + 1e-8, "{dtype}: {value} became {back}");
                }
            }
        }
        let mut single = [0.0; BLOCK];
        single[17] = -2.5;
        for dtype in [DType::Q8_0, DType::Q4_1] {
            for (back, value) in there_and_back(&single, dtype).iter().zip(single) {
                assert!((back - value).abs() <= 0.002, "{dtype}: {value} became {back}");
            }
        }
    }

    #[test]
    fn what_cannot_be_represented_is_an_error() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            for at in [0, 31] {
                for dtype in [DType::F16, DType::Q8_0, DType::Q4_1] {
                    let mut block = [0.5; BLOCK];
                    block[at] = wrong;
                    assert_eq!(quantize(&block, dtype, &mut Vec::new()), Err(NotRepresentable), "{dtype}: {wrong}");
                }
            }
        }
        assert_eq!(quantize(&[0.0; BLOCK], DType::Q4_0, &mut Vec::new()), Err(NotRepresentable));
    }
}
