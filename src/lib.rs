//! Moxel runs language models, above all sparse Mixture-of-Experts ones, on any GPU through WebGPU.
#![deny(missing_docs)]

mod error;

pub use error::{Error, Result};
