//! Matrix products: `matvec` or `matvec_quads` for one token (or its chosen experts); `matmul`, `matmul_quads`, `matmul_tiled` or
//! `matmul_matrix_units` for many.

use super::choice::quads_groups;
use super::matrix::Matrix;
use super::{Activations, KernelChoice, Matmul, Matvec, in_planes, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};
use crate::packing::GROUP_ROWS;
use crate::weights::DType;

params! {
    rows: u32, blocks: u32, y_stride: u32, y_offset: u32, accumulate: u32,
    first_group: u32, end_group: u32, sharing: u32, tokens: u32, norm_cols: u32, norm_eps: f32,
    groups: u32,
}

/// Where a product goes.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// [rows, stride] f32.
    pub(crate) y: Slice,
    pub(crate) stride: usize,
    /// First element written in a row.
    pub(crate) offset: usize,
    /// Add to what is there.
    pub(crate) accumulate: bool,
}

/// The (token, rank) pairs of an expert product.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    pub(crate) count: usize,
    /// Pairs that share a row of the activations: k on the way into the experts, 1 on the way out.
    pub(crate) sharing: usize,
    /// [pairs] chosen expert ids.
    pub(crate) chosen: Slice,
    /// For more than one token.
    pub(crate) tiles: Option<Tiles>,
}

/// Tiles made by `moe_group`.
#[derive(Clone, Debug)]
pub(crate) struct Tiles {
    /// [count]: slots.
    pub(crate) expert: Slice,
    /// [count, width].
    pub(crate) pairs: Slice,
    pub(crate) count: usize,
    /// As the chosen kernel wants it, see [`Matmul::expert_tile`].
    pub(crate) width: usize,
}

/// y[token] (+)= W x[token] for `tokens` rows of x.
pub(crate) fn matmul(r: &mut Recorder, choice: KernelChoice, w: &Matrix, x: &Activations, tokens: usize, out: &Output) {
    let groups = w.layout.groups();
    for part in &w.parts {
        // A single matrix: the part is a matrix of its own, that writes its rows.
        let (first_row, end_row) = part.rows();
        let rows = end_row.min(w.layout.rows) - first_row;
        let mut params = params(w, x, out, rows, tokens, 1);
        params.y_offset += u32_of(first_row);
        params.end_group = u32_of(part.end_group - part.first_group);
        let call = Call { choice, w, x, out, params, weight_bytes: part.bytes(), experts: None };
        call.record(r, part.bindings(), part.end_group - part.first_group, tokens);
    }
    debug_assert_eq!(w.parts.last().map(|p| p.end_group), Some(groups), "not a single matrix");
}

/// y[pair] = W[expert of the pair] x[pair / sharing], for exactly the chosen experts: one dispatch for each buffer that
/// the experts are spread over.
pub(crate) fn expert_matmul(r: &mut Recorder, choice: KernelChoice, w: &Matrix, x: &Activations, pairs: &Pairs, out: &Output) {
    for part in &w.parts {
        let mut params = params(w, x, out, w.layout.rows, pairs.count, pairs.sharing);
        params.first_group = u32_of(part.first_group);
        params.end_group = u32_of(part.end_group);
        // What the chosen experts read, counted once and not for each buffer they may lie in.
        let weight_bytes = if part.first_group == 0 { w.bytes_of_one() * pairs.count as u64 } else { 0 };
        let call = Call { choice, w, x, out, params, weight_bytes, experts: Some(pairs) };
        call.record(r, part.bindings(), w.layout.groups(), pairs.count);
    }
}

fn params(w: &Matrix, x: &Activations, out: &Output, rows: usize, tokens: usize, sharing: usize) -> Params {
    let (norm_cols, norm_eps) = x.norm_params();
    Params {
        rows: u32_of(rows),
        blocks: u32_of(w.layout.blocks()),
        y_stride: u32_of(out.stride),
        y_offset: u32_of(out.offset),
        accumulate: u32::from(out.accumulate),
        first_group: 0,
        end_group: 0,
        sharing: u32_of(sharing),
        tokens: u32_of(tokens),
        norm_cols,
        norm_eps,
        groups: 1,
    }
}

struct Call<'a> {
    choice: KernelChoice,
    w: &'a Matrix,
    x: &'a Activations,
    out: &'a Output,
    params: Params,
    weight_bytes: u64,
    experts: Option<&'a Pairs>,
}

impl Call<'_> {
    fn record(mut self, r: &mut Recorder, mut bindings: Vec<(u32, Slice)>, groups: usize, rows: usize) {
        let tiles = self.experts.and_then(|pairs| pairs.tiles.as_ref());
        let many = tiles.is_some() || (self.experts.is_none() && rows > 1);
        let KernelChoice { matvec, matmul, .. } = self.choice;
        let dtype = self.w.layout.dtype;
        let bytes = self.x.bytes;
        debug_assert!(!many || self.x.undivided.is_none(), "products of many tokens do not divide");
        let shader = if many {
            matmul_shader(matmul, dtype, bytes, tiles.map(|tiles| tiles.width))
        } else {
            matvec_shader(matvec, dtype, bytes, self.experts.is_some())
        };
        bindings.extend([(3, self.x.rows.clone()), (4, self.out.y.clone())]);
        let y_groups = match (self.experts, tiles) {
            (_, Some(tiles)) => {
                bindings.extend([(6, tiles.expert.clone()), (7, tiles.pairs.clone())]);
                tiles.count
            }
            (Some(pairs), None) => {
                bindings.push((6, pairs.chosen.clone()));
                rows
            }
            (None, None) if many => rows.div_ceil(matmul.tile(bytes)),
            (None, None) => rows,
        };
        let of_workgroup = match many {
            true if matmul.in_quads(bytes) => quads_groups(groups, y_groups),
            true => matmul.groups(),
            false if matvec.in_quads(bytes) => quads_groups(groups, y_groups),
            false => 1,
        };
        self.params.groups = u32_of(of_workgroup);
        let (x_groups, planes) = in_planes(groups.div_ceil(of_workgroup));
        r.dispatch(Dispatch {
            shader,
            params: self.params.bytes(),
            bindings,
            groups: [x_groups, u32_of(y_groups), planes],
            weight_bytes: self.weight_bytes,
        });
    }
}

/// The shader for one token; `bytes` are signed bytes as activations.
pub(super) fn matvec_shader(kernel: Matvec, dtype: DType, bytes: bool, experts: bool) -> Shader {
    let source = if kernel.in_quads(bytes) { "matvec_quads" } else { "matvec" };
    kernel.variant(Shader::new(source), dtype, bytes).with_if(experts, "experts")
}

/// The shader for many tokens, or for tiles of so many (token, rank) pairs.
pub(super) fn matmul_shader(kernel: Matmul, dtype: DType, bytes: bool, pairs: Option<usize>) -> Shader {
    let few = pairs.is_some_and(|pairs| kernel.has_small_tiles(pairs));
    kernel.shader(dtype, bytes).with_if(pairs.is_some(), "experts").with_if(few, "few")
}

/// Lanes of a workgroup hold the rows of one group.
const _: () = assert!(GROUP_ROWS == 32);
