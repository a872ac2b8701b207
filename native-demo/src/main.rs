//! `moxel`: language models on any GPU, from the command line.

mod answer;
mod args;
mod bench;
mod chart;
mod commands;
mod demo_model;
mod interactive;
mod kept;
mod kept_pipelines;
mod known_kernels;
mod location;
mod model;
mod output;
mod progress;
mod size;
mod startup;
mod synth;
mod trace_file;
mod virtual_model;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    startup::begin();
    let Cli { common, command } = Cli::parse();
    let result = match command {
        Command::Adapters { json } => commands::adapters::run(&common, json),
        Command::Inspect { model, json, verify } => commands::inspect::run(&common, &model, json, verify),
        Command::Generate(args) => commands::generate::run(&common, args),
        Command::Chat(args) => commands::chat::run(&common, args),
        Command::Logits(args) => commands::logits::run(&common, &args),
        Command::Pack(args) => commands::pack::run(&common, &args),
        Command::Bench(args) => bench::run(&common, &args),
        Command::Tune(args) => commands::tune::run(&common, &args),
        Command::DemoModel(args) => commands::demo_model::run(&args),
        Command::Synth(args) => commands::synth::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as `head` does.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
