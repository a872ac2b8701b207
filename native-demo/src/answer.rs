//! Running one generation: its text, ids, times and the work that it took.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::Instant;

use console::style;
use moxel::{Counters, Engine, ExpertStats, FinishReason, Generation};
use serde::Serialize;

use crate::args::ReportArgs;
use crate::output::{self, milliseconds};
use crate::startup::{Loading, StartUp};
use crate::waiting::Waiting;

/// Runs a generation to its end: prints its text as it is made, then the figures that `report` asks for; or all of it as JSON.
/// `alone` says that it is the first thing that the process does with the model: then what led to its first token is told too.
pub fn give(
    engine: &Engine,
    generation: Generation<'_>,
    (loading, alone): (&Loading, bool),
    report: &ReportArgs,
    seed: Option<u64>,
) -> anyhow::Result<()> {
    Answer::run(engine, generation, (loading, alone), !report.json)?.report(report, seed)
}

/// A finished generation, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Answer {
    text: String,
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    completion_tokens: usize,
    finish_reason: Option<FinishReason>,
    /// The matrix kernels that computed it.
    kernels: String,
    timings: Timings,
    /// What led to the first token, where there was one and nothing else before.
    #[serde(skip_serializing_if = "Option::is_none")]
    startup: Option<StartUp>,
    stats: Option<Stats>,
}

/// Times in milliseconds and speeds. The first token is part of the prompt's time: it comes with the prompt's last one.
#[derive(Debug, Serialize)]
struct Timings {
    load_ms: f64,
    prompt_ms: f64,
    prompt_per_second: f64,
    predicted_ms: f64,
    predicted_per_second: Option<f64>,
}

/// Work for each token after the first.
#[derive(Debug, Serialize)]
struct Stats {
    dispatches_per_token: f64,
    submits_per_token: f64,
    readbacks_per_token: f64,
    weight_bytes_per_token: f64,
    /// Of the whole run, in a mixture of experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<ExpertStats>,
}

impl Answer {
    fn run(
        engine: &Engine,
        mut generation: Generation<'_>,
        (loading, alone): (&Loading, bool),
        show: bool,
    ) -> anyhow::Result<Self> {
        let waiting = Waiting::new(engine);
        let at_terminal = io::stdout().is_terminal();
        let begin = Instant::now();
        let (mut text, mut token_ids) = (String::new(), Vec::new());
        // Time and work up to the first token.
        let (mut first, mut startup) = (None, None);
        while let Some(token) = waiting.during(|| generation.next()) {
            let token = token?;
            if first.is_none() {
                first = Some((begin.elapsed(), generation.counters()));
                startup = alone.then(|| StartUp::now(loading, engine));
            }
            if show {
                output::show(&token.text)?;
                if at_terminal {
                    waiting.wrote(&token.text);
                }
            }
            text.push_str(&token.text);
            token_ids.push(token.id);
        }
        let rest = generation.take_rest();
        if show {
            output::show(&rest)?;
        }
        text.push_str(&rest);
        let (prompt_time, after_first) = first.unwrap_or_else(|| (begin.elapsed(), generation.counters()));
        let later_tokens = token_ids.len().saturating_sub(1);
        let later_time = begin.elapsed() - prompt_time;
        Ok(Self {
            timings: Timings {
                load_ms: milliseconds(loading.all),
                prompt_ms: milliseconds(prompt_time),
                prompt_per_second: generation.prompt_tokens() as f64 / prompt_time.as_secs_f64(),
                predicted_ms: milliseconds(later_time),
                predicted_per_second: (later_tokens > 0).then(|| later_tokens as f64 / later_time.as_secs_f64()),
            },
            stats: Stats::new(after_first, generation.counters(), later_tokens, engine.expert_stats()),
            text,
            prompt_tokens: generation.prompt_tokens(),
            completion_tokens: token_ids.len(),
            token_ids,
            finish_reason: generation.finish_reason(),
            kernels: engine.kernels(),
            startup,
        })
    }

    /// Prints what `--json` and `--stats` ask for once the text is out.
    fn report(&self, report: &ReportArgs, seed: Option<u64>) -> anyhow::Result<()> {
        if report.json {
            #[derive(Serialize)]
            struct Report<'a> {
                #[serde(flatten)]
                answer: &'a Answer,
                seed: Option<u64>,
            }
            return output::show_json(&Report { answer: self, seed });
        }
        output::show("\n")?;
        eprintln!("{}", style(&self.timings_line()).for_stderr().dim());
        if report.stats {
            eprintln!("{}", style(&self.kernels).for_stderr().dim());
            if let Some(startup) = &self.startup {
                eprintln!("{}", style(startup).for_stderr().dim());
            }
            match &self.stats {
                Some(stats) => eprintln!("{}", style(stats).for_stderr().dim()),
                None => eprintln!("{}", style("per generated token: too few tokens to tell").for_stderr().dim()),
            }
        }
        Ok(())
    }

    fn timings_line(&self) -> String {
        let t = &self.timings;
        let mut line = format!(
            "load {:.2} s | prompt {} tokens, {:.1} tokens/s | generated {} tokens",
            t.load_ms / 1e3,
            self.prompt_tokens,
            t.prompt_per_second,
            self.completion_tokens
        );
        if let Some(speed) = t.predicted_per_second {
            line += &format!(", {speed:.1} tokens/s");
        }
        if let Some(experts) = self.stats.as_ref().and_then(|stats| stats.experts.as_ref()) {
            line += &format!(" | {} of {} experts on the GPU", experts.slots, experts.experts);
            if experts.slots < experts.experts {
                line += &format!(
                    ", {:.0} % hits, {} loaded per token",
                    100.0 * experts.hit_rate,
                    output::bytes(experts.demand_bytes_per_token as u64)
                );
            }
        }
        if let Some(peak) = output::peak_memory() {
            line += &format!(" | peak memory {}", output::bytes(peak));
        }
        line
    }
}

impl Stats {
    /// The difference of two readings for each of `tokens`.
    fn new(before: Counters, after: Counters, tokens: usize, experts: Option<ExpertStats>) -> Option<Self> {
        let each = |before: u64, after: u64| (after - before) as f64 / tokens as f64;
        (tokens > 0).then(|| Self {
            dispatches_per_token: each(before.dispatches, after.dispatches),
            submits_per_token: each(before.submits, after.submits),
            readbacks_per_token: each(before.readbacks, after.readbacks),
            weight_bytes_per_token: each(before.weight_bytes, after.weight_bytes),
            experts,
        })
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "per generated token: {:.0} dispatches, {:.2} submits, {:.2} readbacks, {} of weights",
            self.dispatches_per_token,
            self.submits_per_token,
            self.readbacks_per_token,
            output::bytes(self.weight_bytes_per_token as u64)
        )?;
        let Some(e) = self.experts.as_ref().filter(|e| e.slots < e.experts) else { return Ok(()) };
        write!(
            f,
            "\nexperts: {} hits, {} misses; per token {:.2} stalled layers, {:.2} synchronisations, {} on demand; \
             ahead {} useful, {} wasted; stood still {:.0} ms ({:.0} reading, {:.0} uploading, {:.0} on the way to the GPU and back, \
             {:.0} submitting again); prompt: {} of {} loaded, {}",
            e.hits,
            e.misses,
            e.stalled_layers_per_token,
            e.syncs_per_token,
            output::bytes(e.demand_bytes_per_token as u64),
            output::bytes(e.speculative_useful_bytes),
            output::bytes(e.speculative_wasted_bytes),
            e.stall_ms.total(),
            e.stall_ms.read,
            e.stall_ms.upload,
            e.stall_ms.round_trip,
            e.stall_ms.resubmit,
            e.prefill.loads,
            e.prefill.experts,
            output::bytes(e.prefill.bytes),
        )
    }
}
