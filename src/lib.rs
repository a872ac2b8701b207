//! Moxel runs language models, above all sparse Mixture-of-Experts ones, on any GPU through WebGPU: with its own kernels in
//! WGSL, natively on Vulkan, Metal and DirectX 12 by way of `wgpu`.
//!
//! ```no_run
//! use moxel::{Chat, Engine, EngineOptions, GenerateOptions, Gpu, GpuOptions};
//!
//! # fn main() -> moxel::Result<()> {
//! let gpu = Gpu::open(&GpuOptions::default())?;
//! let engine = Engine::load_path(&gpu, "model.gguf".as_ref(), &EngineOptions::default(), &mut |_| {})?;
//! let mut chat = Chat::new(&engine, None)?;
//! for token in chat.say("What is the capital of France?", GenerateOptions::default())? {
//!     print!("{}", token?.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # From the top
//!
//! - A [`Gpu`] is a device: opened by Moxel, or an application's own ([`Gpu::from_wgpu`]). [`adapters`] lists what there is.
//! - An [`Engine`] is a model on a device, loaded from a Hugging Face directory, a GGUF file or any
//!   [`weights::WeightSource`], such as one that [`weights::open`] finds behind a URL. It is immutable; clones share it.
//!   [`ModelFiles`] is what of it needs no GPU, from which engines can be made again.
//! - A [`Session`] is one timeline of tokens with its KV cache: [`prefill`](Session::prefill), [`next`](Session::next),
//!   [`rewind`](Session::rewind), [`logits`](Session::logits). Sessions of an engine are independent.
//! - A [`Generation`] continues a text: a stream of [`Token`]s, natively also an iterator, that stops where the model or
//!   [`GenerateOptions`] say, or when its [`CancelToken`] is used.
//! - A [`Chat`] is a conversation through the model's chat template; only what is new of it is computed.
//! - [`pack()`] rewrites a checkpoint so that every expert is one contiguous record (native only).
//!
//! Underneath, [`tokenizer`], [`chat_template`] and [`sampler`] turn text into ids, conversations into prompts and logits into
//! tokens, and [`weights`] reads checkpoints. They can be used alone; [`ModelInfo`] says what a checkpoint holds without
//! loading it.
//!
//! # Traces
//!
//! [`Engine::start_trace`] and [`Engine::take_trace`] record which experts each token chooses. [`replay`] tells what streaming
//! would have cost on such a [`Trace`] at any budget, by the very code that decides in an engine, and what LRU and the best
//! possible eviction would have: without a GPU, in milliseconds. A trace is a text file of JSON lines, described at [`Trace`].
//!
//! # Models larger than the GPU
//!
//! [`ExpertOptions`] bound the GPU memory that routed experts may take; the others are read when a token chooses them, and
//! the output is the same to the last bit. [`Engine::expert_plan`] says how many have a place, [`Engine::expert_stats`] what
//! streaming has cost, [`Engine::fetching`] what a token is waiting for, [`Engine::resident_experts`] who is there, and
//! [`Engine::start_trace`] records what was chosen, for [`replay`](fn@replay). None of them waits for a token that is computed.
//!
//! ```no_run
//! use moxel::{Engine, EngineOptions, ExpertBudget, ExpertOptions, Gpu, GpuOptions};
//!
//! # fn main() -> moxel::Result<()> {
//! let gpu = Gpu::open(&GpuOptions::default())?;
//! let experts = ExpertOptions { budget: ExpertBudget::Percent(50.0), ..ExpertOptions::default() };
//! let options = EngineOptions { experts, ..EngineOptions::default() };
//! let engine = Engine::load_path(&gpu, "models/demo-moe".as_ref(), &options, &mut |_| {})?;
//! println!("{}", engine.expert_plan().expect("a mixture of experts"));
//! // ... talk with it, and then:
//! let stats = engine.expert_stats().expect("a mixture of experts");
//! println!("{:.0} % hits, {} bytes per token", 100.0 * stats.hit_rate, stats.demand_bytes_per_token);
//! # Ok(())
//! # }
//! ```
//!
//! Experts come from wherever the model does. [`weights::WeightSource`] is two functions, the size of a file and a range of its
//! bytes; `examples/own_source.rs` has one of its own. A source hands out futures, several of which are waited for at once: one
//! that blocks makes the others wait. Sessions of an engine share its experts; a token of one holds them until it is computed.
//!
//! # Which kernels run
//!
//! What is fast differs from adapter to adapter, and drivers have bugs. Loading a model that is not tiny therefore checks the
//! kernels for matrix products in its main format against numbers computed on the CPU, and takes the fastest of those that are
//! right. [`EngineOptions::tuning`] says otherwise, or hands in what was chosen before: a [`KernelChoice`] can be serialised, a
//! [`TuningKey`] says what it holds for, and [`tune`] measures without loading a model.
//!
//! # Waiting
//!
//! Whatever waits for a file or the GPU is an `async` function that needs no particular executor. [`Gpu::open`],
//! [`Engine::load_path`] and iterating over a [`Generation`] wait in place; they exist natively only. Dropping a future is
//! allowed at any time, and dropping a session or the last clone of an engine frees its GPU memory. A model that is dropped while it is
//! loaded, or just after, waits for the pipelines that the driver is compiling.
//!
//! # Errors
//!
//! There is one [`Error`]. Its text is one sentence that names the file, tensor, key or buffer at fault. Nothing that a file,
//! the network or a driver says makes the library panic.
//!
//! # What it needs
//!
//! WebGPU's default limits and none of its optional features; what an adapter can do beyond them is found out at run time.
//! There are no Cargo features.
#![deny(missing_docs)]

mod chat;
pub mod chat_template;
mod config;
mod dims;
mod engine;
mod error;
mod experts;
mod generate;
mod gpu;
mod kernels;
mod kv_cache;
mod layers;
mod model_files;
mod models;
// Writes files, which the browser does not have.
#[cfg(any(unix, windows))]
mod pack;
mod packing;
#[cfg(test)]
mod reference;
mod repack;
mod roofline;
mod rope;
pub mod sampler;
mod session;
pub mod tokenizer;
mod tuning;
pub mod weights;

pub use chat::Chat;
pub use engine::{Engine, EngineOptions, LoadPhase, LoadProgress, LoadTimes, Precision};
pub use error::{Error, Result};
pub use experts::{
    EvictionPolicy, ExpertBudget, ExpertOptions, ExpertPlan, ExpertStats, Fetching, LayerStats, PrefillStats, StallTime, SyncMode,
};
pub use experts::{ReplayPolicy, ReplayResult, Trace, TraceLayer, TraceToken, replay};
pub use generate::{CancelToken, FinishReason, GenerateOptions, Generation, Token};
pub use gpu::{AdapterDescription, AdapterSelector, Caps, Gpu, GpuOptions, PipelineWork, adapters};
pub use kernels::{KernelChoice, KvType};
pub use model_files::ModelFiles;
pub use models::{ModelInfo, expert_plan};
#[cfg(any(unix, windows))]
pub use pack::{PackOptions, PackProgress, PackSummary, PackWeights, pack};
pub use roofline::Roofline;
pub use session::{Continuation, Counters, KernelTime, Logits, Routing, Session};
pub use tuning::{Candidate, Tuning, TuningKey, TuningReport, product_rate, tune};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
