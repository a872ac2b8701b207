//! `moxel inspect`: a model's headers, without its weights.

use std::path::Path;

use moxel::weights::Checkpoint;
use moxel::{ExpertPlan, ModelInfo, Precision};
use serde::Serialize;

use crate::args::Common;
use crate::location;
use crate::model;
use crate::output::{self, bytes, count};
use crate::progress::bytes_bar;

/// What every adapter binds: without opening one it is not known what the one at hand does.
const WEBGPU_BINDING_BYTES: u64 = 128 << 20;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    info: ModelInfo,
    resident: Resident,
    /// What the budget gives the experts, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    expert_plan: Option<String>,
}

/// Memory that the model would take on the GPU.
#[derive(Serialize)]
struct Resident {
    /// Positions of the KV cache.
    context: usize,
    weight_bytes: u64,
    kv_cache_bytes: u64,
    total_bytes: u64,
}

pub fn run(common: &Common, path: &Path, json: bool, verify: bool) -> anyhow::Result<()> {
    let (source, entry) = location::open(common, path)?;
    let checkpoint = pollster::block_on(Checkpoint::open(source, &entry))?;
    let info = ModelInfo::new(&checkpoint)?;
    let plan = moxel::expert_plan(&checkpoint, common.experts.expert_budget, WEBGPU_BINDING_BYTES)?;
    if verify {
        let bar = bytes_bar("verifying");
        bar.set_length(checkpoint.total_bytes());
        let verified = pollster::block_on(checkpoint.verify(&mut |bytes| bar.inc(bytes)));
        bar.finish_and_clear();
        verified?;
        eprintln!("every file is as it was packed");
    }
    let options = model::options(common, Precision::Fast);
    let context = options.context_for(&info)?;
    let kv_cache_bytes = info.kv_cache_bytes(options.kv_for(&info)?, context);
    let expert_bytes = plan.as_ref().map_or(info.expert_bytes, ExpertPlan::bytes);
    let weight_bytes = info.weight_bytes - info.expert_bytes + expert_bytes;
    let resident = Resident { context, weight_bytes, kv_cache_bytes, total_bytes: weight_bytes + kv_cache_bytes };
    let report = Report { info, resident, expert_plan: plan.map(|plan| plan.to_string()) };
    if json { output::show_json(&report) } else { Ok(output::show(&text(&report))?) }
}

fn text(Report { info, resident, expert_plan }: &Report) -> String {
    let mut lines = vec![
        ("architecture", format!("{} ({})", info.architecture, info.container)),
        ("layers", format!("{}, hidden size {}", info.layers, info.hidden)),
        ("attention", format!("{} heads of {}, {} for keys and values", info.heads, info.head_dim, info.kv_heads)),
    ];
    if !info.moe_layers.is_empty() {
        let (layers, chosen) = (info.moe_layers.len(), info.experts_per_token);
        lines.push(("experts", format!("{} in {layers} of the layers, {chosen} chosen for a token", info.experts)));
    }
    let formats: Vec<_> = info.formats.iter().map(|(name, elements)| format!("{name} {}", count(*elements))).collect();
    lines.extend([
        ("vocabulary", info.vocab.to_string()),
        ("context", format!("trained for {}", info.trained_context)),
        ("parameters", format!("{}, of which {} active", count(info.parameters), count(info.active_parameters))),
        ("formats", formats.join(", ")),
        ("weights", format!("{}, of which {} routed experts", bytes(info.weight_bytes), bytes(info.expert_bytes))),
        (
            "resident",
            format!(
                "{} weights + {} KV cache for {} tokens = {}",
                bytes(resident.weight_bytes),
                bytes(resident.kv_cache_bytes),
                resident.context,
                bytes(resident.total_bytes)
            ),
        ),
    ]);
    if let Some(plan) = expert_plan {
        lines.push(("budget", plan.clone()));
    }
    lines.iter().map(|(name, value)| format!("{name:<13}{value}\n")).collect()
}
