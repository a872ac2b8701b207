//! `moxel generate`: raw completion.

use moxel::Precision;

use crate::answer;
use crate::args::{Common, GenerateArgs};
use crate::model;
use crate::trace_file::TraceFile;

pub fn run(common: &Common, args: GenerateArgs) -> anyhow::Result<()> {
    let options = args.options();
    let seed = options.sampling.seed;
    let loaded = model::load(common, &args.model, Precision::Fast)?;
    let prompt = loaded.engine.tokenizer()?.encode(&args.prompt, true)?;
    let mut session = loaded.engine.session()?;
    let trace = TraceFile::begin(&loaded.engine, &args.model, args.report.record_trace.as_deref())?;
    let generation = session.generate(&prompt, options)?;
    answer::give(&loaded.engine, generation, (&loaded.loading, true), &args.report, seed)?;
    loaded.done();
    trace.write()
}
