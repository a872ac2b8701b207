//! `moxel chat`: one turn, or a conversation.

use moxel::{Chat, Precision};

use crate::answer;
use crate::args::{ChatArgs, Common, usage_error};
use crate::trace_file::TraceFile;
use crate::{interactive, model};

pub fn run(common: &Common, args: ChatArgs) -> anyhow::Result<()> {
    if args.report.json && args.message.is_none() {
        usage_error("--json needs --message");
    }
    let options = args.options();
    let loaded = model::load(common, &args.model, Precision::Fast)?;
    let trace = TraceFile::begin(&loaded.engine, &args.model, args.report.record_trace.as_deref())?;
    let mut chat = Chat::new(&loaded.engine, args.system.as_deref())?;
    match &args.message {
        None => interactive::talk(&mut chat, &options, &args.report, &loaded.loading)?,
        Some(message) => {
            let seed = options.sampling.seed;
            let generation = chat.say(message, options)?;
            answer::give(&loaded.engine, generation, (&loaded.loading, true), &args.report, seed)?;
        }
    }
    loaded.done();
    trace.write()
}
