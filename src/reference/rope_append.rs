/// Which two elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// None: the layer has no positions.
    None,
    /// (0, 1), (2, 3), ...: the complex numbers of Llama 4 and of GGUF.
    Adjacent,
    /// (0, n), (1, n + 1), ... with n half the head: the files of Hugging Face.
    Halves,
}

/// What happens to the projections of a token.
#[derive(Clone)]
pub(crate) struct Rope {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) order: Order,
    /// Angle per position of each of the head_dim / 2 pairs.
    pub(crate) frequencies: Vec<f64>,
    /// Divide q and k by sqrt(mean(x^2) + this), head by head, after the rotation.
    pub(crate) normalize: Option<f32>,
    /// (floor_scale, scale): q times log1p(floor((position + 1) / floor_scale)) * scale + 1.
    pub(crate) temperature: Option<(f32, f32)>,
}

/// [tokens, heads, head_dim] each.
pub(crate) struct Rotated {
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

/// Splits `qkv` [tokens, (heads + 2 kv_heads) head_dim] and rotates, normalises and scales its parts.
pub(crate) fn rope_append(shape: &Rope, qkv: &[f32], position: usize) -> Rotated {
    let dim = shape.head_dim;
    let mut out = Rotated { q: Vec::new(), k: Vec::new(), v: Vec::new() };
    for (i, head) in qkv.chunks_exact(dim).enumerate() {
        let all = shape.heads + 2 * shape.kv_heads;
        let (token, head_number) = (i / all, i % all);
        let at = position + token;
        if head_number >= shape.heads + shape.kv_heads {
            out.v.extend_from_slice(head);
            continue;
        }
        let mut head: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
        for pair in 0..dim / 2 {
            let (a, b) = match shape.order {
                Order::None => break,
                Order::Adjacent => (2 * pair, 2 * pair + 1),
                Order::Halves => (pair, pair + dim / 2),
            };
            let (sin, cos) = (at as f64 * shape.frequencies[pair]).sin_cos();
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
        }
        if let Some(eps) = shape.normalize {
            let mean = head.iter().map(|x| x * x).sum::<f64>() / dim as f64;
            head.iter_mut().for_each(|x| *x /= (mean + f64::from(eps)).sqrt());
        }
        if head_number >= shape.heads {
            out.k.extend(head.iter().map(|&x| x as f32));
            continue;
        }
        if let Some((floor_scale, scale)) = shape.temperature {
            let steps = ((at + 1) as f64 / f64::from(floor_scale)).floor();
            head.iter_mut().for_each(|x| *x *= steps.ln_1p() * f64::from(scale) + 1.0);
        }
        out.q.extend(head.iter().map(|&x| x as f32));
    }
    out
}
