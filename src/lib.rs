//! Moxel runs language models, above all sparse Mixture-of-Experts ones, on any GPU through WebGPU.
#![deny(missing_docs)]

pub mod config;
mod error;
pub mod weights;

pub use error::{Error, Result};
pub use gpu::{AdapterDescription, AdapterSelector, Caps, Gpu, GpuOptions, adapters};
