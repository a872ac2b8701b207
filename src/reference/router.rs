/// How a chosen expert's weight follows from the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    Sigmoid,
    /// Softmax over the chosen ones.
    SoftmaxChosen,
    /// Softmax over all of them.
    SoftmaxAll,
}

/// Ids and weights [tokens, k] of the k highest logits of each row, highest first, lowest index first among equals.
pub(crate) fn router(logits: &[f32], experts: usize, k: usize, score: Score) -> (Vec<u32>, Vec<f32>) {
    let mut ids = Vec::new();
    let mut weights = Vec::new();
    for row in logits.chunks_exact(experts) {
        let mut order: Vec<usize> = (0..experts).collect();
        // A stable sort: equals stay in the order of their indices.
        order.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).expect("no NaN"));
        let exp = |e: usize| f64::from(row[e] - row[order[0]]).exp();
        let total: f64 = match score {
            Score::Sigmoid => 1.0,
            Score::SoftmaxChosen => order[..k].iter().map(|&e| exp(e)).sum(),
            Score::SoftmaxAll => order.iter().map(|&e| exp(e)).sum(),
        };
        for &e in &order[..k] {
            ids.push(e as u32);
            weights.push(match score {
                Score::Sigmoid => 1.0 / (1.0 + (-f64::from(row[e])).exp()),
                Score::SoftmaxChosen | Score::SoftmaxAll => exp(e) / total,
            } as f32);
        }
    }
    (ids, weights)
}
