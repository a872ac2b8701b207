/// The index of the highest value, the lowest index among equals.
pub(crate) fn argmax(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}
