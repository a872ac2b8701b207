//! A CPU twin of every kernel: the plainest Rust that says what the kernel computes, written from the mathematics and not
//! from the shaders. It shares nothing with the rest of the crate, so that a mistake has to be made twice to go unseen.
//!
//! Values go in and out as f32, as on the GPU; in between they are f64. A twin panics on sizes that do not fit together:
//! its callers are tests.

mod add_bias;
mod argmax;
mod attention;
mod combine;
mod copy_memory;
mod embed;
mod gated;
mod matmul;
mod moe_group;
mod multiply_add;
mod quantize;
mod residual;
mod rms_norm;
mod rope_append;
mod router;
mod sample;
mod swiglu;

pub(crate) use add_bias::add_bias;
pub(crate) use argmax::argmax;
pub(crate) use attention::{Attention, attention};
pub(crate) use combine::combine;
pub(crate) use copy_memory::copy_memory;
pub(crate) use embed::embed;
pub(crate) use gated::gated;
pub(crate) use matmul::matmul;
pub(crate) use moe_group::{NONE, moe_group};
pub(crate) use multiply_add::multiply_add;
pub(crate) use quantize::{Quantized, quantize};
pub(crate) use residual::residual;
pub(crate) use rms_norm::rms_norm;
pub(crate) use rope_append::{Order, Rope, rope_append};
pub(crate) use router::{Score, router};
pub(crate) use sample::{Sampling, sample};
pub(crate) use swiglu::swiglu;
