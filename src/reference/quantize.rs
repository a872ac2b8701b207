/// A block of 32 activations as bytes: value = scale * byte.
pub(crate) struct Quantized {
    pub(crate) bytes: [i8; 32],
    pub(crate) scale: f32,
}

impl Quantized {
    /// The values that the bytes stand for.
    pub(crate) fn values(&self) -> [f32; 32] {
        self.bytes.map(|q| self.scale * f32::from(q))
    }

    /// The sum of the values.
    pub(crate) fn sum(&self) -> f32 {
        self.scale * self.bytes.iter().map(|&q| f32::from(q)).sum::<f32>()
    }
}

/// Symmetric rounding of blocks of 32 to -127..=127, ties to even.
pub(crate) fn quantize(x: &[f32]) -> Vec<Quantized> {
    let one = |x: &[f32]| {
        let scale = x.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
        let byte = |i: usize| if scale == 0.0 { 0 } else { (x[i] / scale).round_ties_even() as i8 };
        Quantized { bytes: std::array::from_fn(byte), scale }
    };
    assert!(x.len().is_multiple_of(32));
    x.chunks_exact(32).map(one).collect()
}
