//! Adding the chosen experts' outputs to the residual.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { cols: u32, stride: u32, chosen: u32 }

/// x[t] += sum over ranks of (weights[t, rank] *) parts[t, rank], summed in rank order; rows are `cols` padded to 32 long.
pub(crate) fn combine(
    r: &mut Recorder,
    parts: &Slice,
    weights: Option<&Slice>,
    x: &Slice,
    cols: usize,
    chosen: usize,
    tokens: usize,
) {
    let mut bindings = vec![(1, parts.clone()), (2, x.clone())];
    bindings.extend(weights.map(|w| (3, w.clone())));
    r.dispatch(Dispatch {
        shader: shader(weights.is_some()),
        params: Params { cols: u32_of(cols), stride: u32_of(cols.next_multiple_of(32)), chosen: u32_of(chosen) }.bytes(),
        bindings,
        groups: [u32_of(cols.div_ceil(64)), u32_of(tokens), 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader(weighted: bool) -> Shader {
    Shader::new("combine").with_if(weighted, "weighted")
}
