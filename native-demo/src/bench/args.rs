//! Options of `moxel bench`, named as llama-bench names them.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use super::plan::Test;
use super::shapes::Shape;
use super::subject::Subject;

/// Numbers of tokens, no larger than those of any model's context.
fn tokens() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(0..=1 << 24)
}

#[derive(Args)]
pub struct BenchArgs {
    /// Hugging Face directories or GGUF files, or the URLs of such
    #[arg(required_unless_present = "shape", value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// Measure random weights in 4 bits with the sizes of these models, as many of their layers as the adapter has room for;
    /// mixtures of experts are computed as llama4, whose shared expert is one of those that a token chooses
    #[arg(long, value_enum, value_name = "NAME,NAME", value_delimiter = ',')]
    pub shape: Vec<Shape>,
    /// Layers of a shape at most, but one period of its pattern at least
    #[arg(long, value_name = "N", requires = "shape", value_parser = clap::value_parser!(u32).range(1..))]
    pub layers: Option<u32>,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(short = 'p', value_name = "N,N", value_delimiter = ',', default_value = "512", value_parser = tokens())]
    pub prompt: Vec<usize>,
    /// Tokens to generate; 0 leaves the test out
    #[arg(short = 'n', value_name = "N,N", value_delimiter = ',', default_value = "128", value_parser = tokens())]
    pub generate: Vec<usize>,
    /// Tokens that are in the context already when a test begins; each test is done at each of these depths
    #[arg(short = 'd', value_name = "N,N", value_delimiter = ',', default_value = "0", value_parser = tokens())]
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
    /// Keep the rows as `-o json` writes them, also after each model, in case a later one does not end well
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Say what each kernel takes in a step of each test, in a run of its own, where the adapter has timestamps
    #[arg(long)]
    pub profile: bool,
    /// Put the ratio to an earlier run beside each test: what `-o json` or `--save` wrote then
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
    /// A web page with charts that needs no other file
    Html,
}

impl BenchArgs {
    /// Whose speed is measured.
    pub fn subjects(&self) -> Vec<Subject> {
        let files = self.models.iter().map(|path| Subject::File(path.clone()));
        let layers = self.layers.map(|layers| layers as usize);
        files.chain(self.shape.iter().map(|&shape| Subject::Shape { shape, layers })).collect()
    }

    /// What is to be measured, in the order of the table.
    pub fn tests(&self) -> Vec<Test> {
        let at = |depth| {
            let prompts = self.prompt.iter().map(move |&count| Test::prompt(count, depth));
            prompts.chain(self.generate.iter().map(move |&count| Test::generation(count, depth)))
        };
        self.depth.iter().flat_map(|&depth| at(depth)).filter(|test| test.count > 0).collect()
    }
}
