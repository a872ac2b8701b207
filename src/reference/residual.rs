use super::{combine, matmul};

/// One row `x` plus the products of matrices with their own rows, (w, y) in order; and that times the norm's `weight`.
pub(crate) fn residual(x: &[f32], products: &[(&[f32], &[f32])], weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let parts: Vec<f32> = products.iter().flat_map(|(w, y)| matmul(w, y, y.len())).collect();
    let x = combine(x, &parts, None, x.len(), products.len());
    let h = x.iter().zip(weight).map(|(x, w)| x * w).collect();
    (x, h)
}
