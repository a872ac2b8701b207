//! Options of `moxel bench`, named as llama-bench names them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::plan::Test;

#[derive(Args)]
pub struct BenchArgs {
    /// Hugging Face directories or GGUF files, or the URLs of such
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(short = 'p', value_name = "N,N", value_delimiter = ',', default_value = "512")]
    pub prompt: Vec<usize>,
    /// Tokens to generate; 0 leaves the test out
    #[arg(short = 'n', value_name = "N,N", value_delimiter = ',', default_value = "128")]
    pub generate: Vec<usize>,
    /// Tokens that are in the context already when a test begins; each test is done at each of these depths
    #[arg(short = 'd', value_name = "N,N", value_delimiter = ',', default_value = "0")]
    pub depth: Vec<usize>,
    /// Runs of each test, after one that does not count
    #[arg(short = 'r', value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub repetitions: u32,
    /// The form of the result
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Md)]
    pub output: Form,
    /// Measure on each adapter in turn
    #[arg(long, conflicts_with = "adapter")]
    pub all_adapters: bool,
    /// Put the ratio to an earlier run beside each test: what `-o json` wrote then
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// A Markdown table
    Md,
    /// A list of objects with test, tokens_per_second, stddev, adapter, backend, ...
    Json,
    /// Comma-separated values with a header line
    Csv,
}

impl BenchArgs {
    /// What is to be measured, in the order of the table.
    pub fn tests(&self) -> Vec<Test> {
        let at = |depth| {
            let prompts = self.prompt.iter().map(move |&count| Test::prompt(count, depth));
            prompts.chain(self.generate.iter().map(move |&count| Test::generation(count, depth)))
        };
        self.depth.iter().flat_map(|&depth| at(depth)).filter(|test| test.count > 0).collect()
    }
}
