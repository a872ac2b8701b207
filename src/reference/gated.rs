use super::{matmul, swiglu};

/// silu(gate) * up for one row x, gate over up in `w`, [2 rows, cols]: both times `input_score`, the result times `output_score`.
pub(crate) fn gated(w: &[f32], x: &[f32], input_score: f32, output_score: f32) -> Vec<f32> {
    let gate_up = matmul(w, x, x.len());
    let rows = gate_up.len() / 2;
    let y = swiglu(&gate_up, Some(&[input_score]), rows);
    y.into_iter().map(|y| y * output_score).collect()
}
