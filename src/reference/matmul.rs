/// y [tokens, rows] = x [tokens, cols] times the transpose of w [rows, cols].
pub(crate) fn matmul(w: &[f32], x: &[f32], cols: usize) -> Vec<f32> {
    assert!(w.len().is_multiple_of(cols) && x.len().is_multiple_of(cols));
    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() as f32;
    x.chunks_exact(cols).flat_map(|x| w.chunks_exact(cols).map(move |w| dot(w, x))).collect()
}
