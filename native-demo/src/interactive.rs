//! Talking with a model at a terminal, or with questions from a pipe.

use std::io::{self, BufRead, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use console::style;
use moxel::{CancelToken, Chat, GenerateOptions};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::answer;
use crate::args::ReportArgs;
use crate::output;
use crate::startup::Loading;

const HELP: &str = "\
/help     this list
/clear    forget the conversation
/quit     end (or Ctrl-D)
Ctrl-C stops an answer.";

/// The answer in progress, for whoever wants to stop it.
type Current = Arc<Mutex<Option<CancelToken>>>;

/// Asks for messages and answers them until the input ends.
pub fn talk(chat: &mut Chat, options: &GenerateOptions, report: &ReportArgs, loading: &Loading) -> anyhow::Result<()> {
    let mut input = Input::new()?;
    let current = Current::default();
    stop_on_interrupt(&current, matches!(input, Input::Terminal(_)))?;
    if let Input::Terminal(_) = input {
        eprintln!("{}", style("Ask something. /help lists commands; Ctrl-C stops an answer, Ctrl-D ends.").for_stderr().dim());
    }
    while let Some(line) = input.next()? {
        match line.trim() {
            "" => {}
            "/quit" | "/exit" => break,
            "/help" => eprintln!("{HELP}"),
            "/clear" => chat.clear(),
            command if command.starts_with('/') && !command.contains(char::is_whitespace) => {
                eprintln!("unknown command {command}; /help lists them");
            }
            message => {
                // What one message makes impossible, such as a full context, need not end the conversation.
                if let Err(error) = reply(chat, message, options, report, loading, &current) {
                    if output::is_broken_pipe(&error) || error.downcast_ref().is_some_and(is_fatal) {
                        return Err(error);
                    }
                    eprintln!("error: {error:#}");
                    if let Some(moxel::Error::ContextFull { .. }) = error.downcast_ref() {
                        eprintln!("/clear forgets the conversation so far.");
                    }
                }
            }
        }
    }
    Ok(())
}

fn reply(
    chat: &mut Chat,
    message: &str,
    options: &GenerateOptions,
    report: &ReportArgs,
    loading: &Loading,
    current: &Current,
) -> anyhow::Result<()> {
    let options = GenerateOptions { cancel: CancelToken::default(), ..options.clone() };
    let seed = options.sampling.seed;
    let set = |token| *current.lock().unwrap_or_else(PoisonError::into_inner) = token;
    set(Some(options.cancel.clone()));
    let engine = chat.engine().clone();
    let generation = chat.say(message, options).map_err(anyhow::Error::from);
    let given = generation.and_then(|generation| answer::give(&engine, generation, (loading, false), report, seed));
    set(None);
    given
}

/// Whether nothing can work any more.
fn is_fatal(error: &moxel::Error) -> bool {
    matches!(error, moxel::Error::Gpu(_) | moxel::Error::DeviceLost(_))
}

/// Ctrl-C stops the answer in progress. Otherwise it ends the program, except at a terminal, where the line editor sees the
/// key itself.
fn stop_on_interrupt(current: &Current, terminal: bool) -> anyhow::Result<()> {
    let current = Arc::clone(current);
    ctrlc::set_handler(move || match &*current.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(answer) => answer.cancel(),
        None if terminal => {}
        // What shells report for a program that the signal ended.
        None => std::process::exit(130),
    })
    .context("cannot watch for Ctrl-C")
}

/// Where messages come from.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe,
}

impl Input {
    fn new() -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        Ok(Self::Terminal(Box::new(DefaultEditor::new().context("cannot use the terminal")?)))
    }

    /// The next message, several lines if they were pasted; `None` at the end.
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Pipe => {
                let mut line = String::new();
                let read = io::stdin().lock().read_line(&mut line).context("cannot read standard input")?;
                Ok((read > 0).then_some(line))
            }
            Self::Terminal(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        // Without it the line is only not remembered.
                        let _ = editor.add_history_entry(&line);
                        return Ok(Some(line));
                    }
                    Err(ReadlineError::Interrupted) => eprintln!("Ctrl-D or /quit ends."),
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(error).context("cannot read from the terminal"),
                }
            },
        }
    }
}
