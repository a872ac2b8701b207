//! One file per shader of the same name: its `Params`, its bindings and its dispatch size. A kernel knows neither a model
//! nor a layer number.

mod activations;
mod add_bias;
mod argmax;
mod attention;
mod choice;
mod combine;
mod copy_memory;
mod embed;
mod gated;
mod kv_type;
mod matmul;
mod matrix;
mod merge_attention;
mod moe_group;
mod multiply_add;
mod prompt_attention;
mod residual;
mod rms_norm;
mod rope_append;
mod router;
mod sample;
mod swiglu;
#[cfg(test)]
mod tests;

pub(crate) use activations::{Activations, Norm, activation_words};
pub(crate) use add_bias::add_bias;
pub(crate) use argmax::argmax;
pub(crate) use attention::{
    AttentionShape, AttentionSlices, MAX_HEAD_DIM, Projected, attention, can_make_bytes, most_keys, span_words,
};
pub use choice::KernelChoice;
pub(crate) use choice::{Matmul, Matvec};
pub(crate) use combine::combine;
pub(crate) use copy_memory::copy_memory;
pub(crate) use embed::embed;
pub(crate) use gated::{Chosen, can_gate, gated};
pub use kv_type::KvType;
pub(crate) use matmul::{Output, Pairs, Tiles, expert_matmul, matmul};
pub(crate) use matrix::{Array, BINDING_ALIGNMENT, Matrix, Part, is_quantized};
pub(crate) use moe_group::{GroupSlices, MAX_EXPERTS, max_tiles, moe_group};
pub(crate) use multiply_add::multiply_add;
pub(crate) use prompt_attention::{has_four_rows, prompt_attention};
pub(crate) use residual::{can_sum, residual};
pub(crate) use rms_norm::{Normed, rms_norm};
pub(crate) use rope_append::{FINE_POSITIONS, RopeShape, RopeSlices, Rotate, rope_append};
pub(crate) use router::{RouterInput, RouterScore, RouterShape, can_route, router};
pub(crate) use sample::{DRAW_WORDS, Draw, MOST_RECENT, SampleSlices, sample};
pub(crate) use swiglu::swiglu;

/// Declares a kernel's uniform: four-byte fields in the order of the shader's `Params`.
macro_rules! params {
    ($($field:ident: $type:ty),* $(,)?) => {
        #[repr(C)]
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        pub(super) struct Params { $(pub(super) $field: $type),* }

        /// Names and types of the uniform's fields, which a test holds against the shader.
        #[cfg(test)]
        pub(super) const PARAMS: &[(&str, &str)] = &[$((stringify!($field), stringify!($type))),*];

        impl Params {
            fn bytes(&self) -> Vec<u8> {
                bytemuck::bytes_of(self).to_vec()
            }
        }
    };
}
use params;

/// x and z of a dispatch of this many workgroups in a row, which are spread over planes where a dimension holds fewer: WebGPU
/// guarantees 65,535. The shader counts `workgroup.z * size.x + workgroup.x` and stops behind the last.
fn in_planes(workgroups: usize) -> (u32, u32) {
    let planes = workgroups.div_ceil(65_535).max(1);
    (u32_of(workgroups.div_ceil(planes)), u32_of(planes))
}

fn u32_of(value: usize) -> u32 {
    // Sizes were checked against the device's limits when the buffers were made; none reaches 2^32.
    u32::try_from(value).unwrap_or(u32::MAX)
}
