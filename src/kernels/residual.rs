//! What is added to the residual stream, with the norm behind it, for one token.

use super::matrix::Matrix;
use super::{Activations, Matvec, Norm, in_planes, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};
use crate::weights::DType;

params! {
    rows: u32, blocks: u32, first_row: u32, x_blocks: u32, first_group: u32, end_group: u32, ranks: u32, to_bytes: u32,
}

/// Whether the kernel can add up what `chosen` of a layer's `experts` give, which lie in the stack `w`: no part may wait for
/// another. Decided as if all of them were on the GPU, because sums of another kernel round differently and the budget must not
/// be seen in the output.
pub(crate) fn can_sum(w: &Matrix, chosen: usize, experts: usize) -> bool {
    chosen == 1 || experts * w.layout.groups() <= w.most_groups
}

/// x += W y, or with `chosen` experts (slots [k], k) the sum of their products with their own rows of y; h becomes x times the
/// norm's weight, for products that divide by its root mean square.
#[expect(clippy::too_many_arguments, reason = "a kernel's operands and sizes")]
pub(crate) fn residual(
    r: &mut Recorder,
    kernel: Matvec,
    w: &Matrix,
    y: &Activations,
    chosen: Option<(&Slice, usize)>,
    x: &Slice,
    norm: &Norm,
    h: &Activations,
) {
    for part in &w.parts {
        // A part of a single matrix is a matrix of its own, that adds its rows.
        let (first_row, end_row) = if chosen.is_some() { (0, w.layout.rows) } else { part.rows() };
        let before = if chosen.is_some() { 0 } else { part.first_group };
        let rows = end_row.min(w.layout.rows) - first_row;
        let groups = rows.div_ceil(32);
        let ranks = chosen.map_or(1, |(_, count)| count);
        let mut bindings = part.bindings();
        bindings.extend([(3, y.rows.clone()), (4, x.clone()), (5, norm.weight.clone()), (6, h.rows.clone())]);
        bindings.extend(chosen.map(|(slots, _)| (7, slots.clone())));
        let (workgroups, planes) = in_planes(groups);
        r.dispatch(Dispatch {
            shader: shader(kernel, w.layout.dtype, y.bytes, chosen.is_some()),
            params: Params {
                rows: u32_of(rows),
                blocks: u32_of(w.layout.blocks()),
                first_row: u32_of(first_row),
                x_blocks: u32_of(norm.cols.div_ceil(32)),
                first_group: u32_of(part.first_group - before),
                end_group: u32_of(part.end_group - before),
                ranks: u32_of(ranks),
                to_bytes: u32::from(h.bytes),
            }
            .bytes(),
            bindings,
            groups: [workgroups, 1, planes],
            weight_bytes: match chosen {
                None => part.bytes(),
                Some(_) if part.first_group == 0 => w.bytes_of_one() * ranks as u64,
                Some(_) => 0,
            },
        });
    }
}

pub(super) fn shader(kernel: Matvec, dtype: DType, bytes: bool, experts: bool) -> Shader {
    kernel.variant(Shader::new("residual"), dtype, bytes).with_if(experts, "experts")
}
