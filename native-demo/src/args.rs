//! The command line's grammar. Names, defaults and JSON keys are relied on by scripts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use moxel::sampler::SamplingOptions;
use moxel::{
    AdapterSelector, CancelToken, EvictionPolicy, ExpertBudget, ExpertOptions, GenerateOptions, KvType, PackWeights, SyncMode,
};

use crate::bench::BenchArgs;

/// Runs language models on any GPU through WebGPU: dense ones and mixtures of experts.
#[derive(Parser)]
#[command(name = "moxel", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const COMMON: &str = "Common options";
const WEB: &str = "Models behind a URL";

/// Options that every command takes.
#[derive(Args)]
pub struct Common {
    /// Run on this adapter: its index in `moxel adapters`, or a part of its name [default: the fastest kind present]
    #[arg(long, global = true, help_heading = COMMON, value_name = "NAME_OR_INDEX")]
    pub adapter: Option<String>,
    /// Tokens that a session can hold [default: what the model was trained for, at most 4096]
    #[arg(long, global = true, help_heading = COMMON, value_name = "N")]
    pub context: Option<usize>,
    /// How exactly to compute [default: fast; for `logits` exact]
    #[arg(long, global = true, help_heading = COMMON, value_enum)]
    pub precision: Option<Precision>,
    /// What the KV cache holds [default: f32 for exact precision, f16 for fast]
    #[arg(long, global = true, help_heading = COMMON, value_enum)]
    pub kv: Option<Kv>,
    /// Take matrix kernels that run well anywhere instead of the fastest, which are found out by measuring at the first run
    #[arg(long, global = true, help_heading = COMMON)]
    pub no_tune: bool,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub experts: ExpertArgs,
}

/// Where to keep what comes from the web.
#[derive(Args)]
pub struct CacheArgs {
    /// Keep what was fetched or measured in this folder [default: moxel in the user's folder for caches]
    #[arg(long = "cache", global = true, help_heading = WEB, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Bytes to keep at most, such as 500MB or 20GB; what was not used for longest goes first
    #[arg(long = "cache-size", global = true, help_heading = WEB, value_name = "SIZE", default_value = "20GB", value_parser = crate::size::parse)]
    pub size: u64,
    /// Keep nothing, and fetch and measure everything anew
    #[arg(long, global = true, help_heading = WEB, conflicts_with = "folder")]
    pub no_cache: bool,
}

const EXPERTS: &str = "Options for mixtures of experts (none changes the output)";

/// How experts are kept on the GPU.
#[derive(Args)]
pub struct ExpertArgs {
    /// GPU memory for routed experts: a share like 50%, a size like 2GB, or auto (all, or what the adapter has room for)
    #[arg(long, global = true, help_heading = EXPERTS, value_name = "BUDGET", default_value = "auto")]
    pub expert_budget: ExpertBudget,
    /// Which expert leaves when another one needs its place
    #[arg(long, global = true, help_heading = EXPERTS, value_enum, default_value_t = Policy::Score)]
    pub policy: Policy,
    /// Load experts ahead that are likely to be chosen
    #[arg(long, global = true, help_heading = EXPERTS, value_enum, default_value_t = Switch::On)]
    pub prefetch: Switch,
    /// How far the GPU runs ahead of the CPU while experts may be missing
    #[arg(long, global = true, help_heading = EXPERTS, value_enum, default_value_t = Sync::Auto)]
    pub sync: Sync,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Policy {
    /// The least recently used one
    Lru,
    /// The one that is least likely to be needed soon
    Score,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Sync {
    /// As measured on the adapter
    Auto,
    /// A whole token
    Token,
    /// Four MoE layers
    Segment,
    /// One MoE layer
    Layer,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Kv {
    /// Floats of 32 bits
    F32,
    /// Floats of 16 bits
    F16,
    /// Bytes with a scale for every 32: heads must be of a multiple of 32 dimensions
    Q8,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F32 => Self::F32,
            Kv::F16 => Self::F16,
            Kv::Q8 => Self::Q8,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Precision {
    /// f32 activations, and an f32 KV cache unless --kv says otherwise
    Exact,
    /// What the adapter does fastest within a small error
    Fast,
}

#[derive(Subcommand)]
pub enum Command {
    /// List the adapters with backend, driver, tier and limits; status 1 if there is none
    Adapters {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
    },
    /// Show what a model is made of and what it needs, without loading it
    Inspect {
        /// A Hugging Face directory or a GGUF file, or the URL of one
        model: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Read a packed model whole and compare it with the hashes that were taken when it was packed
        #[arg(long)]
        verify: bool,
    },
    /// Continue a text
    Generate(GenerateArgs),
    /// Talk with a model through its chat template
    Chat(ChatArgs),
    /// Write the logits after every token, and the routing of every MoE layer, to a safetensors file
    Logits(LogitsArgs),
    /// Rewrite a model so that every expert is one contiguous record, quantising it if asked to
    Pack(PackArgs),
    /// Measure the speed of prompt processing and of generation, and compare it
    Bench(BenchArgs),
    /// Check and time the matrix kernels on the adapter, and keep the choice for the next runs
    Tune(TuneArgs),
    /// Make the demo model, a mixture of experts carved from SmolLM2-135M-Instruct, as a packed model in 4 bits
    DemoModel(DemoModelArgs),
    /// Make a mixture of experts of any size with random weights, as a packed model, to measure streaming with
    Synth(SynthArgs),
    /// Say what streaming experts would have cost on recorded traces, by policy and budget; needs no GPU
    Replay(ReplayArgs),
}

#[derive(Args)]
pub struct GenerateArgs {
    /// A Hugging Face directory or a GGUF file, or the URL of one
    pub model: PathBuf,
    /// The text to continue
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: String,
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub max_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f32,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Args)]
pub struct ChatArgs {
    /// A Hugging Face directory or a GGUF file, or the URL of one
    pub model: PathBuf,
    /// Instructions for the model
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Say this and end after the answer; without it, talk
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Tokens of an answer at most
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.7, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Sample from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true)]
    pub top_p: f32,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// What `generate` and `chat` say about themselves besides the text.
#[derive(Args)]
pub struct ReportArgs {
    /// Print one JSON object instead of the text (of `chat` only with --message)
    #[arg(long)]
    pub json: bool,
    /// Say how many dispatches, submits, readbacks and bytes of weights a generated token took
    #[arg(long)]
    pub stats: bool,
    /// Write which experts every token chose, for `moxel replay`
    #[arg(long, value_name = "FILE")]
    pub record_trace: Option<PathBuf>,
}

/// Sampling options with the same defaults in `generate` and `chat`.
#[derive(Args)]
pub struct SamplingArgs {
    /// Sample from the K likeliest tokens; 0 is no limit
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Sample from tokens at least this many times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    pub min_p: f32,
    /// Make the latest 64 tokens less likely by this factor; 1 is no penalty
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    pub repeat_penalty: f32,
    /// Where the random numbers start; the same seed gives the same text [default: a different one each time]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// End the text before this string; may be given several times
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub stop: Vec<String>,
}

#[derive(Args)]
pub struct LogitsArgs {
    /// A Hugging Face directory or a GGUF file, or the URL of one
    pub model: PathBuf,
    #[command(flatten)]
    pub tokens: TokenArgs,
    /// The file to write: `logits` F32 [T, vocab]; for MoE layer n `router.n.ids` I32 and `router.n.weights` F32 [T, k]
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct TokenArgs {
    /// Token ids
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    pub tokens: Option<Vec<u32>>,
    /// A text file with token ids between commas or white space
    #[arg(long, value_name = "F")]
    pub tokens_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct PackArgs {
    /// A Hugging Face directory or a GGUF file, or the URL of one
    pub model: PathBuf,
    /// The directory to make
    pub out: PathBuf,
    /// What happens to weights in float formats
    #[arg(long, value_enum, default_value_t = Weights::Keep)]
    pub weights: Weights,
    /// Bytes that a file has at most, such as 500MB or 2GB
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = crate::size::parse)]
    pub shard_size: u64,
    /// Replace OUT if it is a packed model
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Weights {
    /// Leave them as they are
    Keep,
    /// Experts and feed-forward layers in 4 bits; embedding, head, attention and shared experts in 8
    Q4,
    /// Large matrices in 8 bits
    Q8,
    /// Large matrices in 16-bit floats
    F16,
}

impl From<Weights> for PackWeights {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::Keep => Self::Keep,
            Weights::Q4 => Self::Q4,
            Weights::Q8 => Self::Q8,
            Weights::F16 => Self::F16,
        }
    }
}

#[derive(Args)]
pub struct TuneArgs {
    /// A Hugging Face directory or a GGUF file, or the URL of one
    pub model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct DemoModelArgs {
    /// SmolLM2-135M-Instruct in Q4_1, as native-demo/get-model.sh fetches it
    #[arg(long, value_name = "FILE", default_value = "models/SmolLM2-135M-Instruct.Q4_1.gguf")]
    pub gguf: PathBuf,
    /// The folder to write
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct SynthArgs {
    /// The folder to write
    pub out: PathBuf,
    /// Layers, each with experts
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub layers: u32,
    /// Routed experts in a layer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub experts: u32,
    /// Experts chosen for a token
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,
    /// Millions of bytes that an expert takes at least, in 4 bits
    #[arg(long, value_name = "MB", default_value_t = 8.0)]
    pub expert_mb: f64,
    /// Width of the residual stream, a multiple of 256
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    pub hidden: u32,
    /// Where the random numbers start; the same seed gives the same model
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Args)]
pub struct ReplayArgs {
    /// Traces that `--record-trace` wrote; the figures are of all of them together
    #[arg(required = true, value_name = "FILE")]
    pub traces: Vec<PathBuf>,
    /// Shares of all experts that have a place on the GPU
    #[arg(long, value_name = "10,25,50%", value_delimiter = ',', default_value = "25,37.5,50,75%", value_parser = share)]
    pub budget: Vec<f64>,
    /// Print a list of objects
    #[arg(long)]
    pub json: bool,
    /// Draw hit rates over budgets
    #[arg(long, value_name = "OUT.svg")]
    pub svg: Option<PathBuf>,
}

/// A percentage with or without its sign.
fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    match number.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 100.0 => Ok(share),
        _ => Err("give percentages above 0 and up to 100".into()),
    }
}

impl Common {
    /// The adapter to run on.
    pub fn selector(&self) -> AdapterSelector {
        self.adapter.as_deref().map_or(AdapterSelector::Best, AdapterSelector::from)
    }

    /// The precision asked for, or the command's own.
    pub fn precision_or(&self, default: moxel::Precision) -> moxel::Precision {
        match self.precision {
            None => default,
            Some(Precision::Exact) => moxel::Precision::Exact,
            Some(Precision::Fast) => moxel::Precision::Fast,
        }
    }
}

impl ExpertArgs {
    /// The library's options.
    pub fn options(&self) -> ExpertOptions {
        ExpertOptions {
            budget: self.expert_budget,
            policy: match self.policy {
                Policy::Lru => EvictionPolicy::Lru,
                Policy::Score => EvictionPolicy::Score,
            },
            prefetch: self.prefetch == Switch::On,
            sync: match self.sync {
                Sync::Auto => SyncMode::Auto,
                Sync::Token => SyncMode::Token,
                Sync::Segment => SyncMode::Segment,
                Sync::Layer => SyncMode::Layer,
            },
        }
    }
}

impl GenerateArgs {
    /// The library's options; ends the program where they make no sense.
    pub fn options(&self) -> GenerateOptions {
        self.sampling.options(self.max_tokens, self.temperature, self.top_p)
    }
}

impl ChatArgs {
    /// The library's options; ends the program where they make no sense.
    pub fn options(&self) -> GenerateOptions {
        self.sampling.options(self.max_tokens, self.temperature, self.top_p)
    }
}

impl SamplingArgs {
    fn options(&self, max_tokens: usize, temperature: f32, top_p: f32) -> GenerateOptions {
        let sampling = SamplingOptions {
            temperature,
            top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: Some(self.seed.unwrap_or_else(random_seed)),
            ..SamplingOptions::default()
        };
        if let Err(error) = sampling.validate() {
            usage_error(error);
        }
        if self.stop.iter().any(String::is_empty) {
            usage_error("--stop must not be empty");
        }
        GenerateOptions { max_tokens: Some(max_tokens), sampling, stop: self.stop.clone(), cancel: CancelToken::default() }
    }
}

/// Ends the program as clap does where options contradict each other.
pub fn usage_error(message: impl std::fmt::Display) -> ! {
    Cli::command().error(clap::error::ErrorKind::ValueValidation, message).exit()
}

/// 32 bits from the randomness that the standard library draws for its hash maps: short enough to be typed again.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}
