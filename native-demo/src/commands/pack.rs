//! `moxel pack`: a model rewritten so that each expert is one contiguous record.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use moxel::weights::Checkpoint;
use moxel::{PackOptions, PackSummary, pack};

use crate::args::{Common, PackArgs};
use crate::location;
use crate::output::{self, bytes, count};
use crate::progress::bytes_bar;

pub fn run(common: &Common, args: &PackArgs) -> anyhow::Result<()> {
    let (source, entry) = location::open(common, &args.model)?;
    let checkpoint = pollster::block_on(Checkpoint::open(source, &entry))?;
    let options = PackOptions { weights: args.weights.into(), shard_bytes: args.shard_size, replace: args.force };
    write(&checkpoint, &args.out, &options, args.json)
}

/// Packs with a progress bar until it is done, fails or Ctrl-C stops it, and says what came of it.
pub fn write(checkpoint: &Checkpoint, out: &Path, options: &PackOptions, json: bool) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let stop_here = Arc::clone(&stop);
    ctrlc::set_handler(move || stop_here.store(true, Ordering::Relaxed))?;
    let begin = Instant::now();
    let bar = bytes_bar("packing");
    let packed = pollster::block_on(pack(checkpoint, out, options, &mut |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.written_bytes);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    bar.finish_and_clear();
    if packed.is_err() && stop.load(Ordering::Relaxed) {
        eprintln!("stopped; nothing was left behind");
        // What shells report for a program that the signal ended.
        std::process::exit(130);
    }
    let summary = packed?;
    for tensor in &summary.left_out {
        eprintln!("left out, because nothing can be computed with its format: {tensor}");
    }
    if json {
        return output::show_json(&summary);
    }
    eprintln!("{} in {:.1} s", text(&summary), begin.elapsed().as_secs_f64());
    Ok(())
}

fn text(summary: &PackSummary) -> String {
    let formats: Vec<_> = summary.formats.iter().map(|(name, elements)| format!("{name} {}", count(*elements))).collect();
    format!(
        "{} became {} in {} with {} expert records ({})",
        bytes(summary.source_bytes),
        bytes(summary.written_bytes),
        if summary.files == 1 { "1 file".into() } else { format!("{} files", summary.files) },
        summary.records,
        formats.join(", ")
    )
}
