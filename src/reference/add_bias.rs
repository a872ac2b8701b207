/// `y` [rows, bias.len()] plus `bias`, row by row.
pub(crate) fn add_bias(y: &[f32], bias: &[f32]) -> Vec<f32> {
    y.iter().enumerate().map(|(i, y)| y + bias[i % bias.len()]).collect()
}
