//! `moxel bench`: speed of prompt processing (pp) and of generation (tg), measured as llama-bench does.

use std::time::Instant;

use indicatif::ProgressBar;
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{Engine, EngineOptions, Precision, Session};
use serde::Serialize;

use crate::args::{BenchArgs, Common, Table, usage_error};
use crate::{model, output};

/// One test's result.
#[derive(Serialize)]
struct Row {
    model: String,
    model_size: u64,
    model_n_params: u64,
    backend: String,
    adapter: String,
    /// The matrix kernels that were chosen by measuring.
    kernels: String,
    /// `pp` or `tg` and the number of tokens.
    test: String,
    tokens_per_second: f64,
    stddev: f64,
    /// Tokens per second of each run.
    samples: Vec<f64>,
}

pub fn run(common: &Common, args: &BenchArgs) -> anyhow::Result<()> {
    if args.prompt == 0 && args.generate == 0 {
        usage_error("-p 0 and -n 0 leave nothing to measure");
    }
    let longest = args.prompt.max(args.generate);
    let options = EngineOptions { context: Some(common.context.unwrap_or(longest)), ..model::options(common, Precision::Fast) };
    let engine = model::load_with(common, &args.model, &options)?.engine;
    let mut session = engine.session()?;
    let tokens = some_tokens(longest, engine.info().vocab);
    let mut rows = Vec::new();
    for (test, count) in [("pp", args.prompt), ("tg", args.generate)] {
        if count > 0 {
            let chunk = if test == "pp" { count } else { 1 };
            let samples = measure(&mut session, &tokens[..count], chunk, args.repetitions, &format!("{test}{count}"))?;
            rows.push(Row::new(&engine, format!("{test}{count}"), samples));
        }
    }
    match args.output {
        Table::Json => output::show_json(&rows),
        Table::Md => Ok(output::show(&markdown(&rows))?),
        Table::Csv => Ok(output::show(&csv(&rows))?),
    }
}

/// Token ids spread over the vocabulary: what they say does not matter for the speed, the rows that they touch might.
fn some_tokens(count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 7919 + 1) % vocab) as u32).collect()
}

/// Tokens per second of every run but the first, which compiles pipelines and fills caches.
///
/// The tokens are fixed, given `chunk` at a time; each time the next one is computed as in a real generation.
fn measure(session: &mut Session, tokens: &[u32], chunk: usize, runs: u32, test: &str) -> moxel::Result<Vec<f64>> {
    let mut sampler = Sampler::new(SamplingOptions::default())?;
    let bar = ProgressBar::new(u64::from(runs) + 1).with_message(test.to_owned());
    let mut samples = Vec::new();
    for run in 0..=runs {
        session.rewind(0);
        let begin = Instant::now();
        for part in tokens.chunks(chunk) {
            pollster::block_on(session.next(part, &mut sampler))?;
        }
        if run > 0 {
            samples.push(tokens.len() as f64 / begin.elapsed().as_secs_f64());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(samples)
}

impl Row {
    fn new(engine: &Engine, test: String, samples: Vec<f64>) -> Self {
        let (info, adapter) = (engine.info(), engine.gpu().description());
        let widest = info.formats.iter().max_by_key(|(_, elements)| **elements).map(|(name, _)| name.as_str());
        let (tokens_per_second, stddev) = mean_and_deviation(&samples);
        Self {
            model: format!("{} {}", info.architecture, widest.unwrap_or_default()),
            model_size: info.weight_bytes,
            model_n_params: info.parameters,
            backend: adapter.backend.clone(),
            adapter: adapter.name.clone(),
            kernels: engine.kernels(),
            test,
            tokens_per_second,
            stddev,
            samples,
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

fn markdown(rows: &[Row]) -> String {
    let mut table =
        String::from("| model | size | params | backend | adapter | test | tokens/s |\n|---|---:|---:|---|---|---:|---:|\n");
    for row in rows {
        table += &format!(
            "| {} | {} | {} | {} | {} | {} | {:.2} ± {:.2} |\n",
            row.model,
            output::bytes(row.model_size),
            output::count(row.model_n_params),
            row.backend,
            row.adapter,
            row.test,
            row.tokens_per_second,
            row.stddev
        );
    }
    table
}

fn csv(rows: &[Row]) -> String {
    let mut table = String::from("model,model_size,model_n_params,backend,adapter,test,tokens_per_second,stddev\n");
    for row in rows {
        table += &format!(
            "{},{},{},{},{},{},{:.3},{:.3}\n",
            quoted(&row.model),
            row.model_size,
            row.model_n_params,
            quoted(&row.backend),
            quoted(&row.adapter),
            row.test,
            row.tokens_per_second,
            row.stddev
        );
    }
    table
}

/// A text field: adapters' names may have commas.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[3.0]), (3.0, 0.0));
        let (mean, deviation) = mean_and_deviation(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(mean, 2.5);
        assert!((deviation - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn fields_are_quoted() {
        assert_eq!(quoted("llvmpipe (LLVM 19, \"256\" bits)"), "\"llvmpipe (LLVM 19, \"\"256\"\" bits)\"");
    }

    #[test]
    fn tokens_lie_in_the_vocabulary() {
        assert!(some_tokens(1000, 97).iter().all(|&id| id < 97));
    }
}
