//! Layers: calls of kernels in the right order. No layer knows a tensor's name or which model it is part of.

mod attention;
mod linear;
mod mlp;
mod moe;
mod pass;
mod scratch;

pub(crate) use attention::Attention;
pub(crate) use linear::Linear;
pub(crate) use mlp::Mlp;
pub(crate) use moe::Moe;
pub(crate) use pass::{Pass, Reader};
pub(crate) use scratch::{RoutingLayout, Scratch};
