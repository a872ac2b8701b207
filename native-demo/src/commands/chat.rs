//! `moxel chat`: one turn, or a conversation.

use moxel::{Chat, Precision};

use crate::answer::Answer;
use crate::args::{ChatArgs, Common, usage_error};
use crate::trace_file::TraceFile;
use crate::{interactive, model, output};

pub fn run(common: &Common, args: ChatArgs) -> anyhow::Result<()> {
    if args.report.json && args.message.is_none() {
        usage_error("--json needs --message");
    }
    let options = args.options();
    let loaded = model::load(common, &args.model, Precision::Fast)?;
    let trace = TraceFile::begin(&loaded.engine, &args.model, args.report.record_trace.as_deref())?;
    let mut chat = Chat::new(&loaded.engine, args.system.as_deref())?;
    let Some(message) = &args.message else {
        interactive::talk(&mut chat, &options, &args.report, loaded.load_time)?;
        return trace.write();
    };
    let seed = options.sampling.seed;
    let generation = chat.say(message, options)?;
    let answer =
        Answer::run(
            &loaded.engine,
            generation,
            loaded.load_time,
            |text| if args.report.json { Ok(()) } else { output::show(text) },
        )?;
    answer.report(&args.report, seed)?;
    trace.write()
}
