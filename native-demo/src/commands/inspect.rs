//! `moxel inspect`: a model's headers, without its weights.

use std::path::Path;

use moxel::weights::Checkpoint;
use moxel::{ModelInfo, Precision};
use serde::Serialize;

use crate::args::Common;
use crate::location;
use crate::model;
use crate::output::{self, bytes, count};
use crate::progress::bytes_bar;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    info: ModelInfo,
    resident: Resident,
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
    // The cache's size is told for f16 elements.
    let widening = if options.precision == Precision::Exact { 2 } else { 1 };
    let kv_cache_bytes = widening * info.kv_bytes_per_token * context as u64;
    let weight_bytes = info.weight_bytes;
    let resident = Resident { context, weight_bytes, kv_cache_bytes, total_bytes: weight_bytes + kv_cache_bytes };
    let report = Report { info, resident };
    if json { output::show_json(&report) } else { Ok(output::show(&text(&report))?) }
}

fn text(Report { info, resident }: &Report) -> String {
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
    lines.iter().map(|(name, value)| format!("{name:<13}{value}\n")).collect()
}
