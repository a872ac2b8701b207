/// `x` [tokens, cols] plus, for each token, the sum of its `chosen` parts [tokens, chosen, cols], each times its weight.
pub(crate) fn combine(x: &[f32], parts: &[f32], weights: Option<&[f32]>, cols: usize, chosen: usize) -> Vec<f32> {
    let one = |i: usize| {
        let (token, col) = (i / cols, i % cols);
        let parts = (token * chosen..(token + 1) * chosen)
            .map(|pair| f64::from(parts[pair * cols + col]) * weights.map_or(1.0, |w| f64::from(w[pair])));
        (f64::from(x[i]) + parts.sum::<f64>()) as f32
    };
    (0..x.len()).map(one).collect()
}
