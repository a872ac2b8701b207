/// Sizes of attention.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Positions that the caches have room for.
    pub(crate) context: usize,
    /// Query i sees key j only if i / chunk == j / chunk; 0: no such limit.
    pub(crate) chunk: usize,
    pub(crate) scale: f32,
}

/// softmax(scale q K^T) V for every query head, a group of query heads sharing a KV head. `q` is [tokens, heads, head_dim],
/// the first token at `position`; the caches are [kv_heads, context, head_dim]; the result is like `q`.
pub(crate) fn attention(shape: &Attention, q: &[f32], k: &[f32], v: &[f32], position: usize) -> Vec<f32> {
    let dim = shape.head_dim;
    let row = |cache: &[f32], kv_head: usize, key: usize| -> Vec<f64> {
        let at = (kv_head * shape.context + key) * dim;
        cache[at..at + dim].iter().map(|&x| f64::from(x)).collect()
    };
    let mut out = Vec::with_capacity(q.len());
    for (i, query) in q.chunks_exact(dim).enumerate() {
        let (token, head) = (i / shape.heads, i % shape.heads);
        let kv_head = head * shape.kv_heads / shape.heads;
        let at = position + token;
        let visible: Vec<usize> = (0..=at).filter(|key| shape.chunk == 0 || key / shape.chunk == at / shape.chunk).collect();
        let scores: Vec<f64> = visible
            .iter()
            .map(|&key| {
                let dot: f64 = query.iter().zip(row(k, kv_head, key)).map(|(&q, k)| f64::from(q) * k).sum();
                dot * f64::from(shape.scale)
            })
            .collect();
        let highest = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = vec![0.0; dim];
        for (&key, weight) in visible.iter().zip(&weights) {
            for (sum, v) in sum.iter_mut().zip(row(v, kv_head, key)) {
                *sum += weight / total * v;
            }
        }
        out.extend(sum.iter().map(|&x| x as f32));
    }
    out
}
