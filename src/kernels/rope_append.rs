//! Rotary position embedding (Su et al., 2021, arXiv:2104.09864), q/k normalisation, attention temperature, and the KV
//! cache's new entries.

use super::{KvType, params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! {
    heads: u32, kv_heads: u32, head_dim: u32, stride: u32, context: u32, rotate: u32, coarse_rows: u32,
    eps: f32, floor_scale: f32, temperature: f32,
}

/// Single steps in the rotation table, which the coarse rows count in.
pub(crate) const FINE_POSITIONS: usize = 256;

/// Sizes and switches of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RopeShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// A multiple of 4, of 32 for a cache of bytes.
    pub(crate) head_dim: usize,
    /// Row length of the stacked projections.
    pub(crate) stride: usize,
    /// Positions in the cache.
    pub(crate) context: usize,
    /// Element pairs that turn together: none, neighbours, or (i, i + head_dim / 2).
    pub(crate) rotate: Rotate,
    /// Divide q and k by the root of their mean square plus this.
    pub(crate) normalize: Option<f32>,
    /// Scale q by log(1 + floor((position + 1) / floor_scale)) * scale + 1: (floor_scale, scale).
    pub(crate) temperature: Option<(f32, f32)>,
}

/// The order of rotation pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotate {
    None,
    Adjacent,
    Halves,
}

/// Slices: `qkv` [tokens, stride], `table` [coarse rows + FINE_POSITIONS, head_dim / 2, 2], `step`, `q` [tokens, heads,
/// head_dim], and the layer's two caches.
pub(crate) struct RopeSlices<'a> {
    pub(crate) qkv: &'a Slice,
    pub(crate) table: &'a Slice,
    pub(crate) step: &'a Slice,
    pub(crate) q: &'a Slice,
    pub(crate) k_cache: &'a Slice,
    pub(crate) v_cache: &'a Slice,
    /// What the caches hold.
    pub(crate) kv: KvType,
}

impl Params {
    pub(super) fn new(shape: &RopeShape, table: &Slice) -> Self {
        let (floor_scale, temperature) = shape.temperature.unwrap_or((1.0, 0.0));
        let table_rows = table.size() as usize / (shape.head_dim * 4);
        Self {
            heads: u32_of(shape.heads),
            kv_heads: u32_of(shape.kv_heads),
            head_dim: u32_of(shape.head_dim),
            stride: u32_of(shape.stride),
            context: u32_of(shape.context),
            rotate: match shape.rotate {
                Rotate::None => 0,
                Rotate::Adjacent => 1,
                Rotate::Halves => 2,
            },
            coarse_rows: u32_of(table_rows.saturating_sub(FINE_POSITIONS)),
            eps: shape.normalize.unwrap_or(0.0),
            floor_scale,
            temperature,
        }
    }
}

pub(crate) fn rope_append(r: &mut Recorder, shape: &RopeShape, s: &RopeSlices<'_>, tokens: usize) {
    let params = Params::new(shape, s.table);
    let bindings = [s.qkv, s.table, s.step, s.q, s.k_cache, s.v_cache];
    r.dispatch(Dispatch {
        shader: shader(s.kv, shape.normalize.is_some()),
        params: params.bytes(),
        bindings: (1..).zip(bindings.map(Slice::clone)).collect(),
        groups: [u32_of(shape.heads + 2 * shape.kv_heads), u32_of(tokens), 1],
        weight_bytes: 0,
    });
}

/// `normalized`: q and k are. That needs a barrier, so others do without.
pub(super) fn shader(kv: KvType, normalized: bool) -> Shader {
    kv.variant(Shader::new("rope_append")).with_if(normalized, "normalized")
}
