//! Where the time goes from the process's start to the first token.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use moxel::Engine;
use serde::Serialize;

use crate::output::milliseconds;

static BEGIN: OnceLock<Instant> = OnceLock::new();

/// Marks the start of the process.
pub fn begin() {
    BEGIN.get_or_init(Instant::now);
}

/// The time since then.
pub fn elapsed() -> Duration {
    BEGIN.get_or_init(Instant::now).elapsed()
}

/// Milliseconds of the parts, in their order, as `--json` prints them.
#[derive(Clone, Debug, Serialize)]
pub struct StartUp {
    /// Opening the files: headers, configuration, tokenizer, chat template.
    files_ms: f64,
    /// Opening the adapter, at the same time.
    adapter_ms: f64,
    /// Choosing matrix kernels; next to nothing where the choice was known.
    tuning_ms: f64,
    /// Reading and uploading the weights.
    weights_ms: f64,
    /// From there to the first token: a session's buffers, the prompt.
    first_token_ms: f64,
    /// All of it, with what is between the parts.
    total_ms: f64,
    /// Pipelines that were compiled in these times, and how long they were waited for.
    pipelines: usize,
    pipelines_ms: f64,
}

/// What loading a model took.
#[derive(Clone, Copy)]
pub struct Loading {
    pub files: Duration,
    pub adapter: Duration,
    pub all: Duration,
    /// The age of the process when it was done.
    pub done_at: Duration,
}

impl StartUp {
    /// Now that the first token is there.
    pub fn now(loading: &Loading, engine: &Engine) -> Self {
        let (total, load, work) = (elapsed(), engine.load_times(), engine.gpu().pipeline_work());
        Self {
            files_ms: milliseconds(loading.files),
            adapter_ms: milliseconds(loading.adapter),
            tuning_ms: milliseconds(load.tuning),
            weights_ms: milliseconds(load.weights),
            first_token_ms: milliseconds(total - loading.done_at),
            total_ms: milliseconds(total),
            pipelines: work.count,
            pipelines_ms: milliseconds(work.time),
        }
    }
}

impl fmt::Display for StartUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "first token {:.0} ms after the start: files {:.0} beside adapter {:.0}, choosing kernels {:.0}, weights {:.0}, \
             session and prompt {:.0}; of these {:.0} waiting for pipelines ({} were compiled)",
            self.total_ms,
            self.files_ms,
            self.adapter_ms,
            self.tuning_ms,
            self.weights_ms,
            self.first_token_ms,
            self.pipelines_ms,
            self.pipelines
        )
    }
}
