/// silu(gate) * up for rows [2, cols] of gate and up; with scores, of gate and up times the row's score.
pub(crate) fn swiglu(gate_up: &[f32], scores: Option<&[f32]>, cols: usize) -> Vec<f32> {
    gate_up
        .chunks_exact(2 * cols)
        .enumerate()
        .flat_map(|(row, gate_up)| {
            let score = scores.map_or(1.0, |s| f64::from(s[row]));
            let (gate, up) = gate_up.split_at(cols);
            gate.iter().zip(up).map(move |(&gate, &up)| {
                let (gate, up) = (score * f64::from(gate), score * f64::from(up));
                (gate / (1.0 + (-gate).exp()) * up) as f32
            })
        })
        .collect()
}
