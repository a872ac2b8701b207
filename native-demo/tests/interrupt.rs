//! Ctrl-C during an answer stops the answer and not the program; a reader that goes away ends it quietly.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use common::{command, interrupt, spoken};

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let model = spoken("ctrl_c_stops_the_answer_and_not_the_program", "scout");
    // Long enough that the signal comes in its middle.
    let mut child = command(&["chat", &model, "--temperature", "0", "--max-tokens", "180"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("input");
    let mut output = BufReader::new(child.stdout.take().expect("output"));
    let mut errors = BufReader::new(child.stderr.take().expect("errors"));

    writeln!(input, "Hello").expect("it reads");
    output.read_exact(&mut [0]).expect("the answer begins");
    interrupt(child.id());
    let stopped = generated(&mut errors);
    assert!(stopped < 150, "the answer went on to {stopped} tokens");

    writeln!(input, "/clear").expect("it reads");
    writeln!(input, "Hello").expect("it still reads");
    assert!(generated(&mut errors) > stopped, "a later answer is not stopped");
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

/// The signal without an answer to stop ends the program as it would end any other.
#[test]
fn ctrl_c_ends_a_waiting_program() {
    let model = spoken("ctrl_c_ends_a_waiting_program", "scout");
    let mut child = command(&["chat", &model, "--temperature", "0", "--max-tokens", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("input");
    writeln!(input, "Hello").expect("it reads");
    assert_eq!(generated(&mut BufReader::new(child.stderr.take().expect("errors"))), 2);
    interrupt(child.id());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let model = spoken("a_reader_that_goes_away_is_no_error", "scout");
    let mut child = command(&["generate", &model, "--prompt", "Hello", "--max-tokens", "200"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("output");
    output.read_exact(&mut [0]).expect("the text begins");
    drop(output);
    let end = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&end.stderr);
    assert!(end.status.success() && !errors.contains("panicked") && !errors.contains("roken pipe"), "{errors}");
}

/// Waits for the line of figures that ends an answer and returns its number of tokens.
fn generated(errors: &mut impl BufRead) -> usize {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(errors.read_line(&mut line).expect("UTF-8") > 0, "it ended before its answer");
        if let Some((_, rest)) = line.split_once("generated ") {
            return rest.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        }
    }
}
