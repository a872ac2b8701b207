/// Rows `tokens` of `table` [_, cols].
pub(crate) fn embed(table: &[f32], cols: usize, tokens: &[u32]) -> Vec<f32> {
    tokens.iter().flat_map(|&t| &table[t as usize * cols..][..cols]).copied().collect()
}
