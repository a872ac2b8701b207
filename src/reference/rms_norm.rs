/// x / sqrt(mean(x^2) + eps) * weight for every row of `weight.len()` columns.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    x.chunks_exact(weight.len())
        .flat_map(|row| {
            let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / row.len() as f64;
            let factor = 1.0 / (mean + f64::from(eps)).sqrt();
            row.iter().zip(weight).map(move |(&x, &w)| (f64::from(x) * factor * f64::from(w)) as f32)
        })
        .collect()
}
