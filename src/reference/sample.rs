/// How a token is chosen: temperature, top-k (0: no limit), top-p, min-p, penalty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampling {
    pub(crate) temperature: f32,
    pub(crate) top_k: usize,
    pub(crate) top_p: f32,
    pub(crate) min_p: f32,
    pub(crate) penalty: f32,
}

/// Every token that the draw may give, in the order of the draw, with the end of its part of the line from 0 to 1; `recent` tokens
/// are penalised. The second value is how near a decision was that ended the line: the nucleus' last token to its share, or a
/// token to the least probability.
pub(crate) fn sample(logits: &[f32], recent: &[u32], sampling: &Sampling) -> (Vec<(u32, f64)>, f64) {
    let Sampling { temperature, top_k, top_p, min_p, penalty } = *sampling;
    let mut tokens: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&logit| f64::from(logit))).collect();
    for (id, logit) in &mut tokens {
        if recent.contains(id) {
            *logit = if *logit > 0.0 { *logit / f64::from(penalty) } else { *logit * f64::from(penalty) };
        }
    }
    let best = tokens.iter().fold(f64::NEG_INFINITY, |best, (_, logit)| best.max(*logit));
    if temperature == 0.0 {
        let first = tokens.iter().find(|(_, logit)| *logit == best).expect("a token");
        return (vec![(first.0, 1.0)], 1.0);
    }
    let mut near = 1.0_f64;
    if top_k > 0 || top_p < 1.0 {
        // A stable sort: equals stay in the order of their ids.
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    if top_k > 0 {
        tokens.truncate(top_k);
    }
    if top_p < 1.0 {
        let total: f64 = tokens.iter().map(|(_, logit)| (logit - best).exp()).sum();
        let mut reached = 0.0;
        let mut kept = tokens.len();
        for (i, (_, logit)) in tokens.iter().enumerate() {
            reached += (logit - best).exp() / total;
            near = near.min((reached - f64::from(top_p)).abs());
            if reached >= f64::from(top_p) {
                kept = i + 1;
                break;
            }
        }
        tokens.truncate(kept);
    }
    tokens.retain(|(_, logit)| {
        let probability = (logit - best).exp();
        near = near.min((probability - f64::from(min_p)).abs() / probability.max(1e-30));
        probability >= f64::from(min_p)
    });
    let weights: Vec<f64> = tokens.iter().map(|(_, logit)| ((logit - best) / f64::from(temperature)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut end = 0.0;
    let line = tokens.iter().zip(weights).map(|((id, _), weight)| {
        end += weight / total;
        (*id, end)
    });
    (line.collect(), near)
}
