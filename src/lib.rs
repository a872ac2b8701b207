//! Moxel runs language models, above all sparse Mixture-of-Experts ones, on any GPU through WebGPU.
#![deny(missing_docs)]

mod chat;
pub mod chat_template;
mod config;
mod dims;
mod engine;
mod error;
mod generate;
mod gpu;
mod kernels;
mod kv_cache;
mod layers;
mod models;
mod packing;
#[cfg(test)]
mod reference;
mod rope;
pub mod sampler;
mod session;
pub mod tokenizer;
mod tuning;
pub mod weights;

pub use chat::Chat;
pub use engine::{Engine, EngineOptions, LoadProgress, Precision};
pub use error::{Error, Result};
pub use generate::{CancelToken, FinishReason, GenerateOptions, Generation, Token};
pub use gpu::{AdapterDescription, AdapterSelector, Caps, Gpu, GpuOptions, adapters};
pub use models::ModelInfo;
pub use session::{Counters, Logits, Routing, Session};
