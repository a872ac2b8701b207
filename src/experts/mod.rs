//! Routed experts on the GPU: which ones have a place there, and how the others come.
//!
//! [`record`] is an expert as bytes, [`index`] where the checkpoint has it, [`plan`] how many fit, [`pools`] their memory on
//! the GPU, [`slots`] who is where, [`usage`] who should leave, [`foresight`] who will be asked for, [`speculation`] whether that
//! is worth believing, [`residency`] decides by these, [`ledger`] keeps the books of it, which anybody may read at any time, and
//! [`cache`] brings what was decided. None of them knows a session; `session` asks the cache for what a token chose. [`trace`] is what tokens chose, in a file, and [`replay`] decides by it without a GPU.

mod cache;
mod foresight;
mod index;
mod ledger;
mod options;
mod plan;
mod pools;
mod record;
mod replay;
mod residency;
mod slots;
mod speculation;
mod stats;
mod trace;
mod usage;

pub(crate) use cache::{Experts, SyncCosts, Why};
pub(crate) use index::ExpertLayer;
pub(crate) use ledger::Course;
pub use options::{EvictionPolicy, ExpertBudget, ExpertOptions, SyncMode};
pub use plan::ExpertPlan;
pub(crate) use plan::allocate;
pub(crate) use pools::{ABSENT, Pools};
#[cfg(any(unix, windows))]
pub(crate) use record::Record;
pub use replay::{ReplayPolicy, ReplayResult, replay};
pub(crate) use slots::ExpertId;
pub use stats::{ExpertStats, Fetching, LayerStats, PrefillStats, StallTime};
pub use trace::{Trace, TraceLayer, TraceToken};
