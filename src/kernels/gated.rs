//! Gate, up and the activation of a feed-forward layer in one, for one token.

use super::matrix::Matrix;
use super::{Activations, Matvec, in_planes, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};
use crate::packing::GROUP_ROWS;
use crate::weights::DType;

params! {
    groups: u32, blocks: u32, first_group: u32, end_group: u32, to_bytes: u32, scores: u32, norm_cols: u32, norm_eps: f32,
}

/// A token's chosen experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'a> {
    /// [k]: matrices of the stack.
    pub(crate) slots: &'a Slice,
    /// [k].
    pub(crate) scores: &'a Slice,
    /// The score multiplies the expert's input instead of its output.
    pub(crate) score_input: bool,
    pub(crate) count: usize,
}

/// Whether the kernel can compute with `w`, gate over up: both are whole groups, and parts are cut between matrices.
pub(crate) fn can_gate(w: &Matrix) -> bool {
    let groups = w.layout.groups();
    w.layout.rows.is_multiple_of(2 * GROUP_ROWS) && w.parts.iter().all(|part| part.first_group.is_multiple_of(groups))
}

/// y = silu(gate) up of x: [rows / 2], or [k, rows / 2] with `chosen`, as `bytes` or as floats.
pub(crate) fn gated(
    r: &mut Recorder,
    kernel: Matvec,
    w: &Matrix,
    x: &Activations,
    chosen: Option<Chosen<'_>>,
    (y, bytes): (&Slice, bool),
) {
    let (norm_cols, norm_eps) = x.norm_params();
    let groups = w.layout.groups() / 2;
    let pairs = chosen.map_or(1, |c| c.count);
    for part in &w.parts {
        let mut bindings = part.bindings();
        bindings.extend([(3, x.rows.clone()), (4, y.clone())]);
        bindings.extend(chosen.iter().flat_map(|c| [(6, c.slots.clone()), (7, c.scores.clone())]));
        let (workgroups, planes) = in_planes(groups);
        r.dispatch(Dispatch {
            shader: shader(kernel, w.layout.dtype, x.bytes, chosen.is_some()),
            params: Params {
                groups: u32_of(groups),
                blocks: u32_of(w.layout.blocks()),
                first_group: u32_of(part.first_group),
                end_group: u32_of(part.end_group),
                to_bytes: u32::from(bytes),
                scores: u32::from(chosen.is_some_and(|c| c.score_input)),
                norm_cols,
                norm_eps,
            }
            .bytes(),
            bindings,
            groups: [workgroups, u32_of(pairs), planes],
            weight_bytes: if part.first_group == 0 { w.bytes_of_one() * pairs as u64 } else { 0 },
        });
    }
}

pub(super) fn shader(kernel: Matvec, dtype: DType, bytes: bool, experts: bool) -> Shader {
    kernel.variant(Shader::new("gated"), dtype, bytes).with_if(experts, "experts")
}
