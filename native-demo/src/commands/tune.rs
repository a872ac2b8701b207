//! `moxel tune`: checks and times the matrix kernels on an adapter, and keeps the choice.

use moxel::{Precision, TuningKey, TuningReport, tune};
use serde::Serialize;

use crate::args::{Common, TuneArgs, usage_error};
use crate::known_kernels::KnownKernels;
use crate::{model, output};

/// The measurement as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    /// What it holds for; nothing for a small model, for which nothing is measured.
    key: Option<&'a TuningKey>,
    #[serde(flatten)]
    report: &'a TuningReport,
}

pub fn run(common: &Common, args: &TuneArgs) -> anyhow::Result<()> {
    if common.no_tune {
        usage_error("--no-tune leaves `moxel tune` nothing to do");
    }
    let files = model::open_files(common, &args.model)?;
    let gpu = model::open_gpu(common.selector())?;
    let precision = common.precision_or(Precision::Fast);
    let key = TuningKey::new(&gpu, &files, precision)?;
    let report = pollster::block_on(tune(&gpu, &files, precision))?;
    if let Some(key) = &key {
        KnownKernels::read(common).save(key.clone(), report.kernels);
    }
    if args.json {
        return output::show_json(&Report { key: key.as_ref(), report: &report });
    }
    Ok(output::show(&text(key.as_ref(), &report))?)
}

fn text(key: Option<&TuningKey>, report: &TuningReport) -> String {
    let Some(key) = key else {
        return format!("the model is too small to measure for\nkernels: {}\n", report.kernels);
    };
    let mut text = format!("matrix: {}, {} x {}\n", key.format, key.rows, key.cols);
    let mut work = "";
    for candidate in &report.candidates {
        if candidate.work != work {
            work = &candidate.work;
            text += &format!("{work}\n");
        }
        let result = match (candidate.milliseconds, &candidate.dropped) {
            (_, Some(why)) => format!("dropped: {why}"),
            (Some(time), None) => format!("{time:10.4} ms"),
            (None, None) => String::new(),
        };
        let mark = if candidate.chosen { "  <- chosen" } else { "" };
        text += &format!("  {:<26}{result}{mark}\n", candidate.kernel);
    }
    text + &format!("kernels: {}\n", report.kernels)
}
