//! Choosing kernels on the adapter at hand: each candidate is checked against numbers that were computed on the CPU, and the right
//! ones are timed at the model's own format and sizes.

mod attention;
mod bench;
mod check;
mod checks;
mod subject;
mod sync;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

use crate::engine::{EngineOptions, Precision};
use crate::gpu::Gpu;
use crate::kernels::{KernelChoice, Matmul, Matvec, has_four_rows, is_quantized};
use crate::model_files::ModelFiles;
use crate::{Error, Result};
use bench::Bench;
use checks::Checks;
use subject::Subject;
pub use subject::TuningKey;
pub(crate) use sync::sync_costs;

/// Tokens of the product of many tokens.
const TOKENS: usize = 64;

/// How often a candidate that may win is timed.
const ROUNDS: usize = 2;

/// How much faster products of bytes must be to be chosen: they cost accuracy (SmolLM2-135M: a mean KL divergence of 5e-3
/// from the reference instead of 1e-6).
const BYTES_GAIN: f64 = 1.2;

/// How much faster separate kernels must be to be chosen over fused ones. Both round differently, so that a device which is nearly
/// indifferent should choose alike each time.
const SEPARATE_GAIN: f64 = 1.1;
/// How much faster rows in four lanes must be than in eight. The drivers that gain from them need half the time; elsewhere a
/// measurement beside other work may see what is not there.
const QUADS_GAIN: f64 = 1.1;
/// How much faster attention with four rows in a lane must be than with one, for the same reason: it needs half the time or less.
const FOUR_ROWS_GAIN: f64 = 1.2;

/// How an engine comes to those of its kernels of which there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tuning {
    /// The candidates are checked and timed on the adapter when the model is loaded, which takes about a second.
    #[default]
    Measure,
    /// The kernels that run well on slow and on small adapters, unmeasured.
    Plain,
    /// Kernels that were chosen before for the same [`TuningKey`], as [`Engine::kernel_choice`](crate::Engine::kernel_choice) or
    /// [`tune`] told.
    Known(KernelChoice),
}

/// What came of measuring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TuningReport {
    /// The choice.
    pub kernels: KernelChoice,
    /// What was tried, in order; empty for a small model, for which nothing is measured.
    pub candidates: Vec<Candidate>,
}

/// A kernel that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// What it was to do.
    pub work: String,
    /// The kernel.
    pub kernel: String,
    /// Its time, or a part of it where it was soon clear that it is far from the fastest; `None` where it was dropped.
    pub milliseconds: Option<f64>,
    /// Why it may not be used.
    pub dropped: Option<String>,
    /// Whether it is in the choice. The fastest is, but that rounding activations to bytes, and keeping kernels apart that may be one,
    /// must be clearly faster.
    pub chosen: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// One token's product.
    One,
    /// One token's product and the activation behind it, half of the rows being a gate: the part of a layer whose kernels may be
    /// one.
    Gate,
    /// A product of several tokens.
    Many,
    /// Attention of several tokens.
    Attention,
}

impl Work {
    fn multiplies_bytes(self, choice: KernelChoice) -> bool {
        match self {
            Self::One | Self::Gate => choice.matvec.bytes(),
            Self::Many => choice.matmul.bytes(),
            Self::Attention => false,
        }
    }

    /// By what a time is multiplied before it is compared.
    fn handicap(self, choice: KernelChoice) -> f64 {
        match self {
            Self::Gate if choice.fused => 1.0,
            Self::Gate => SEPARATE_GAIN,
            Self::Attention if choice.four_rows => FOUR_ROWS_GAIN,
            Self::One if choice.matvec == Matvec::QuadsBytes => BYTES_GAIN * QUADS_GAIN,
            Self::Many if choice.matmul == Matmul::QuadsBytes => BYTES_GAIN * QUADS_GAIN,
            _ if self.multiplies_bytes(choice) => BYTES_GAIN,
            _ => 1.0,
        }
    }

    fn name(self) -> String {
        match self {
            Self::One => "product of one token".into(),
            Self::Gate => "product and activation of one token".into(),
            Self::Many => format!("product of {TOKENS} tokens"),
            Self::Attention => "attention of a prompt".into(),
        }
    }

    fn kernel(self, choice: KernelChoice) -> String {
        match self {
            Self::One => choice.matvec.to_string(),
            Self::Gate if choice.fused => "one kernel".into(),
            Self::Gate => "two kernels".into(),
            Self::Many => choice.matmul.to_string(),
            Self::Attention => choice.attention_name().into(),
        }
    }
}

/// Checks and times the kernels that may compute a model on a device, which needs none of its weights. `Exact` only allows those
/// with f32 activations.
///
/// # Errors
/// The device fails, or computes wrong numbers with every kernel.
pub async fn tune(gpu: &Gpu, files: &ModelFiles, precision: Precision) -> Result<TuningReport> {
    let Some(subject) = Subject::of(files)? else {
        return Ok(TuningReport { kernels: KernelChoice::PLAIN, candidates: Vec::new() });
    };
    // The cache that there is unless asked for otherwise.
    let kv = EngineOptions { precision, ..EngineOptions::default() }.kv_type();
    let checks = Checks::new(gpu, subject, files, kv)?;
    choose(&checks, precision == Precision::Fast && is_quantized(subject.dtype)).await.map_err(|error| match error {
        Error::Adapter(why) => Error::Adapter(format!("{} ({}): {why}", gpu.description().name, gpu.description().driver)),
        other => other,
    })
}

/// Bytes of weights per second that one token's product reads with these kernels while nothing else runs, at the model's own
/// format and sizes: what the products of a whole token can be compared with. `None` for a small model, of which nothing is measured.
///
/// # Errors
/// The device fails.
pub async fn product_rate(gpu: &Gpu, files: &ModelFiles, kernels: KernelChoice) -> Result<Option<f64>> {
    let Some(subject) = Subject::of(files)? else { return Ok(None) };
    let bench = Bench::new(gpu, subject, None, kernels).await?;
    let time = bench.time(kernels, Work::One, Duration::MAX).await?;
    Ok(Some(bench.weight_bytes() as f64 / time.as_secs_f64()))
}

/// The kernels of an engine.
pub(crate) async fn kernels(gpu: &Gpu, files: &ModelFiles, tuning: Tuning, precision: Precision) -> Result<KernelChoice> {
    match tuning {
        Tuning::Measure => Ok(tune(gpu, files, precision).await?.kernels),
        Tuning::Plain => Ok(KernelChoice::PLAIN),
        Tuning::Known(choice) if precision == Precision::Exact && choice.rounds_activations() => Err(Error::Request(format!(
            "the kernels \"{choice}\" round activations to bytes or to 16-bit floats, which exact precision rules out; choose others"
        ))),
        Tuning::Known(choice) => match choice.lacks(gpu.caps()) {
            Some(lacking) => Err(Error::Request(format!(
                "the kernels \"{choice}\" need {lacking}, which {} has not; choose others",
                gpu.description().name
            ))),
            None => Ok(choice),
        },
    }
}

/// The fastest of the right kernels; `rounding` allows those that round activations.
async fn choose(checks: &Checks<'_>, rounding: bool) -> Result<TuningReport> {
    let matvecs = Matvec::on(checks.main.gpu.caps()).filter(|kernel| rounding || !kernel.bytes());

    let plain = KernelChoice::PLAIN;
    let one = Trial::new(checks, Work::One, matvecs.map(|matvec| KernelChoice { matvec, ..plain }).collect()).await?;
    let bench = Bench::new(checks.main.gpu, checks.main.subject, Some(&checks.attention), one.first_right()?).await?;
    let (kernels, mut candidates) = one.fastest(checks, &bench).await?;
    let gate = Trial::new(checks, Work::Gate, [true, false].map(|fused| KernelChoice { fused, ..kernels }).into()).await?;
    let (kernels, tried) = gate.fastest(checks, &bench).await?;
    candidates.extend(tried);
    let matmuls =
        Matmul::on(checks.main.gpu.caps()).filter(|&kernel| (rounding || !kernel.rounds()) && may_win(kernel, kernels.matvec));
    let many = Trial::new(checks, Work::Many, matmuls.map(|matmul| KernelChoice { matmul, ..kernels }).collect()).await?;
    let (kernels, tried) = many.fastest(checks, &bench).await?;
    candidates.extend(tried);
    let rows = [false, true].into_iter().filter(|four_rows| !four_rows || has_four_rows(checks.main.subject.heads.size));
    let attention = rows.map(|four_rows| KernelChoice { four_rows, ..kernels }).collect();
    let (kernels, tried) = Trial::new(checks, Work::Attention, attention).await?.fastest(checks, &bench).await?;
    candidates.extend(tried);
    Ok(TuningReport { kernels, candidates })
}

/// Whether a kernel for many tokens is worth compiling, which may take a second, where this one won for one token: four lanes are
/// for drivers to which both are the same.
fn may_win(many: Matmul, one: Matvec) -> bool {
    many != Matmul::QuadsBytes || one == Matvec::QuadsBytes
}

/// Choices that may do a work, and why some must not.
struct Trial {
    work: Work,
    choices: Vec<KernelChoice>,
    faults: Vec<Option<String>>,
}

impl Trial {
    /// With what checking them on the main format finds.
    async fn new(checks: &Checks<'_>, work: Work, choices: Vec<KernelChoice>) -> Result<Self> {
        let mut faults = Vec::new();
        for &choice in &choices {
            faults.push(checks.fault(work, choice).await?);
        }
        Ok(Self { work, choices, faults })
    }

    /// Those that are right so far, by number.
    fn right(&self) -> impl Iterator<Item = usize> {
        (0..self.choices.len()).filter(|&i| self.faults[i].is_none())
    }

    fn first_right(&self) -> Result<KernelChoice> {
        self.right().next().map(|i| self.choices[i]).ok_or_else(|| self.none_is_right())
    }

    fn none_is_right(&self) -> Error {
        let why = |(choice, fault): (&KernelChoice, &Option<String>)| {
            format!("{}: {}", self.work.kernel(*choice), fault.as_deref().unwrap_or_default())
        };
        let why: Vec<_> = self.choices.iter().zip(&self.faults).map(why).collect();
        Error::Adapter(format!("every kernel for the {} computes wrong numbers ({})", self.work.name(), why.join("; ")))
    }

    /// The fastest one that is right for all that the model multiplies, and what became of each.
    async fn fastest(mut self, checks: &Checks<'_>, bench: &Bench<'_>) -> Result<(KernelChoice, Vec<Candidate>)> {
        let times = self.times(bench).await?;
        let weighed = |&i: &usize| times[i].as_secs_f64() * self.work.handicap(self.choices[i]);
        let mut order: Vec<usize> = self.right().collect();
        order.sort_by(|a, b| weighed(a).total_cmp(&weighed(b)));
        let mut won = None;
        for i in order {
            self.faults[i] = checks.fault_elsewhere(self.work, self.choices[i]).await?;
            if self.faults[i].is_none() {
                won = Some(i);
                break;
            }
        }
        let Some(won) = won else { return Err(self.none_is_right()) };
        let candidate = |i: usize| Candidate {
            work: self.work.name(),
            kernel: self.work.kernel(self.choices[i]),
            milliseconds: self.faults[i].is_none().then(|| 1e3 * times[i].as_secs_f64()),
            dropped: self.faults[i].clone(),
            chosen: won == i,
        };
        Ok((self.choices[won], (0..self.choices.len()).map(candidate).collect()))
    }

    async fn times(&self, bench: &Bench<'_>) -> Result<Vec<Duration>> {
        // In rounds, because something else may take the processor for a while.
        let mut times = vec![Duration::MAX; self.choices.len()];
        for _ in 0..ROUNDS {
            for i in self.right() {
                let least = times.iter().min().copied().unwrap_or(Duration::MAX);
                if times[i] == Duration::MAX || times[i] / 2 <= least {
                    times[i] = times[i].min(bench.time(self.choices[i], self.work, least).await?);
                }
            }
        }
        Ok(times)
    }
}
