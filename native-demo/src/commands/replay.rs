//! `moxel replay`: how well experts would have been cached on recorded traces.

use std::fs;
use std::path::Path;

use anyhow::Context;
use moxel::{ExpertBudget, ReplayPolicy, ReplayResult, Trace};
use serde::Serialize;

use crate::args::ReplayArgs;
use crate::chart::{self, Line};
use crate::{output, trace_file};

/// What is compared, with its name in the table.
const POLICIES: [(ReplayPolicy, &str); 4] = [
    (ReplayPolicy::Lru, "LRU"),
    (ReplayPolicy::Score, "score"),
    (ReplayPolicy::ScoreAhead, "score, ahead"),
    (ReplayPolicy::Belady, "Belady"),
];

/// A policy at a budget, as `--json` prints it.
#[derive(Serialize)]
struct Row {
    budget_percent: f64,
    policy: ReplayPolicy,
    #[serde(skip)]
    name: &'static str,
    #[serde(flatten)]
    result: ReplayResult,
    hit_rate: f64,
    /// Of the way from LRU to Belady.
    gap_closed: Option<f64>,
    stalled_layers_per_token: f64,
    loads_per_token: f64,
    /// Wasted loads for each useful one.
    waste: Option<f64>,
}

pub fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let traces = args.traces.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for &percent in &args.budget {
        rows.extend(compare(&traces, percent)?);
    }
    if let Some(file) = &args.svg {
        trace_file::replace(file, &draw(&rows)?)?;
    }
    if args.json { output::show_json(&rows) } else { Ok(output::show(&table(&rows))?) }
}

fn read(file: &Path) -> anyhow::Result<Trace> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Trace::parse(&file.display().to_string(), &text)?)
}

/// Every policy at one budget, all traces together.
fn compare(traces: &[Trace], percent: f64) -> moxel::Result<Vec<Row>> {
    let run = |policy| {
        let each = traces.iter().map(|trace| moxel::replay(trace, ExpertBudget::Percent(percent), policy));
        each.sum::<moxel::Result<ReplayResult>>()
    };
    let (lru, belady) = (run(ReplayPolicy::Lru)?, run(ReplayPolicy::Belady)?);
    let row = |(policy, name)| {
        let result = match policy {
            ReplayPolicy::Lru => lru.clone(),
            ReplayPolicy::Belady => belady.clone(),
            _ => run(policy)?,
        };
        Ok(Row {
            budget_percent: percent,
            policy,
            name,
            hit_rate: result.hit_rate(),
            gap_closed: result.gap_closed(&lru, &belady),
            stalled_layers_per_token: result.stalled_layers_per_token(),
            loads_per_token: result.loads_per_token(),
            waste: (result.ahead_useful > 0).then(|| result.ahead_wasted as f64 / result.ahead_useful as f64),
            result,
        })
    };
    POLICIES.into_iter().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| budget | slots | policy | hits | gap closed | stalled layers/token | loads/token | wasted/useful |\n\
         |---:|---:|---|---:|---:|---:|---:|---:|\n",
    );
    for row in rows {
        let gap = row.gap_closed.map_or("-".into(), |gap| format!("{:.0} %", 100.0 * gap));
        let waste = row.waste.map_or("-".into(), |waste| format!("{waste:.2}"));
        table += &format!(
            "| {} % | {} of {} | {} | {:.1} % | {gap} | {:.2} | {:.2} | {waste} |\n",
            row.budget_percent,
            row.result.slots,
            row.result.experts,
            row.name,
            100.0 * row.hit_rate,
            row.stalled_layers_per_token,
            row.loads_per_token,
        );
    }
    table
}

fn draw(rows: &[Row]) -> anyhow::Result<String> {
    let line = |(policy, name)| {
        let own = rows.iter().filter(|row| row.policy == policy);
        let mut points: Vec<_> = own.map(|row| (row.budget_percent, 100.0 * row.hit_rate)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name, points }
    };
    chart::lines("Experts on the GPU, % of all", "Chosen experts that are there, %", &POLICIES.map(line))
}
