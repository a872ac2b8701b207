//! What a benchmark says: a row for each test, or for what could not be measured.

use moxel::{AdapterDescription, Engine, Roofline};
use serde::Serialize;

use super::measure::Measured;
use super::plan::Kind;
use super::profile::Profile;

/// A row of the result.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Row {
    Measured(Box<TestRow>),
    Failed(Failure),
}

/// One test's result. Scripts rely on the names; those of llama-bench are the same where they mean the same.
#[derive(Serialize)]
pub struct TestRow {
    /// Architecture and format, or what was made of a shape.
    pub model: String,
    pub model_size: u64,
    pub model_n_params: u64,
    pub backend: String,
    pub adapter: String,
    /// `pp` or `tg`, the number of tokens, and the depth if there is one.
    pub test: String,
    pub tokens_per_second: f64,
    pub stddev: f64,
    /// Tokens per second of each run.
    pub samples: Vec<f64>,
    /// The path or URL of the model, or the name of a shape.
    pub model_filename: String,
    pub n_prompt: usize,
    pub n_gen: usize,
    pub n_depth: usize,
    /// Positions that the session had room for: those of the longest test of the run.
    pub n_ctx: usize,
    /// `exact` or `fast`.
    pub precision: String,
    /// What the KV cache holds: `f32`, `f16` or `q8`.
    pub kv: &'static str,
    /// Routed experts on the GPU, where a model has any.
    pub experts: Option<String>,
    /// The matrix kernels that were chosen by measuring.
    pub kernels: String,
    pub dispatches_per_token: f64,
    pub submits_per_token: f64,
    pub readbacks_per_token: f64,
    pub weight_bytes_per_token: f64,
    /// Of generation: weights read per second, as a share of the bytes that a copy reads and writes in that time.
    pub bandwidth_share: Option<f64>,
    /// Of prompts: operations per second for multiplying by the layers' weights, as a share of the f32 ones that the adapter reaches.
    pub arithmetic_share: Option<f64>,
    #[serde(flatten)]
    pub roofline: Roofline,
    pub driver: String,
    pub driver_info: String,
    pub tier: String,
    /// Moxel's.
    pub version: &'static str,
    /// When the benchmark began, in UTC.
    pub date: String,
    #[serde(flatten)]
    pub earlier: Option<Earlier>,
    #[serde(flatten)]
    pub profile: Option<Profile>,
}

/// The same test in an earlier run.
#[derive(Clone, Copy, Serialize)]
pub struct Earlier {
    pub earlier_tokens_per_second: f64,
    /// How many times as fast it is now.
    pub ratio: f64,
}

/// What could not be measured, and why.
#[derive(Serialize)]
pub struct Failure {
    pub model_filename: String,
    pub backend: String,
    pub adapter: String,
    pub driver: String,
    pub driver_info: String,
    pub tier: String,
    pub version: &'static str,
    pub date: String,
    pub error: String,
}

/// What the rows of one benchmark have in common.
pub struct Circumstances {
    pub precision: moxel::Precision,
    pub date: String,
}

/// Moxel's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Row {
    pub fn measured(
        engine: &Engine,
        (model, filename): (&str, &str),
        measured: Measured,
        roofline: Roofline,
        with: &Circumstances,
    ) -> Self {
        let (info, adapter) = (engine.info(), engine.gpu().description());
        let (tokens_per_second, stddev) = mean_and_deviation(&measured.samples);
        let (test, work, tokens) = (measured.test, measured.work, measured.tokens() as f64);
        let per_token = |count: u64| count as f64 / tokens;
        let [n_prompt, n_gen] = [Kind::Prompt, Kind::Generation].map(|kind| if test.kind == kind { test.count } else { 0 });
        let is = |kind| (test.kind == kind).then_some(tokens_per_second);
        let bandwidth = |speed| per_token(work.weight_bytes) * speed / roofline.copy_bytes_per_second;
        let arithmetic = |speed| 2.0 * info.layer_parameters as f64 * speed / roofline.f32_operations_per_second;
        Self::Measured(Box::new(TestRow {
            model: model.to_owned(),
            model_size: info.weight_bytes,
            model_n_params: info.parameters,
            backend: adapter.backend.clone(),
            adapter: adapter.name.clone(),
            test: test.to_string(),
            tokens_per_second,
            stddev,
            samples: measured.samples,
            model_filename: filename.to_owned(),
            n_prompt,
            n_gen,
            n_depth: test.depth,
            n_ctx: engine.context(),
            precision: format!("{:?}", with.precision).to_lowercase(),
            kv: engine.kv_type().name(),
            experts: engine.expert_plan().map(ToString::to_string),
            kernels: engine.kernels(),
            dispatches_per_token: per_token(work.dispatches),
            submits_per_token: per_token(work.submits),
            readbacks_per_token: per_token(work.readbacks),
            weight_bytes_per_token: per_token(work.weight_bytes),
            bandwidth_share: is(Kind::Generation).map(bandwidth),
            arithmetic_share: is(Kind::Prompt).map(arithmetic),
            roofline,
            driver: adapter.driver.clone(),
            driver_info: adapter.driver_info.clone(),
            tier: adapter.tier.clone(),
            version: VERSION,
            date: with.date.clone(),
            earlier: None,
            profile: measured.profile,
        }))
    }

    pub fn failed(adapter: &AdapterDescription, filename: &str, error: &anyhow::Error, with: &Circumstances) -> Self {
        Self::Failed(Failure {
            model_filename: filename.to_owned(),
            backend: adapter.backend.clone(),
            adapter: adapter.name.clone(),
            driver: adapter.driver.clone(),
            driver_info: adapter.driver_info.clone(),
            tier: adapter.tier.clone(),
            version: VERSION,
            date: with.date.clone(),
            error: format!("{error:#}"),
        })
    }
}

impl Row {
    /// The test's result, if there is one.
    pub fn test(&self) -> Option<&TestRow> {
        match self {
            Self::Measured(row) => Some(row),
            Self::Failed(_) => None,
        }
    }
}

impl TestRow {
    pub fn kind(&self) -> Kind {
        if self.n_gen > 0 { Kind::Generation } else { Kind::Prompt }
    }

    /// How near it comes to what the adapter reaches, in words.
    pub fn share(&self) -> String {
        match (self.bandwidth_share, self.arithmetic_share) {
            (Some(share), _) => format!("{:.1} % of copy", 100.0 * share),
            (None, Some(share)) => format!("{:.1} % of f32", 100.0 * share),
            (None, None) => String::new(),
        }
    }
}

/// The mean and the standard deviation of a sample; the latter is 0 for a single value.
fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if samples.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::mean_and_deviation;

    #[test]
    fn deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[3.0]), (3.0, 0.0));
        let (mean, deviation) = mean_and_deviation(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(mean, 2.5);
        assert!((deviation - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
