//! The built program with a real model. Its numbers are compared in the library's tests; here it has to make sense.

mod common;

use common::demo_model::demo_model;
use common::{moxel, moxel_with_input, repository};

fn model() -> Option<String> {
    demo_model(&repository()).map(|path| path.display().to_string())
}

#[test]
fn it_knows_the_capital_of_france() {
    let Some(model) = model() else { return };
    let question = "What is the capital of France?";
    let arguments = ["chat", &model, "--precision", "exact", "--temperature", "0", "--context", "512"];
    let answer = moxel(&[&arguments[..], &["--message", question, "--json"]].concat()).json();
    assert!(answer["text"].as_str().is_some_and(|text| text.contains("Paris")), "{answer}");
    assert_eq!(answer["finish_reason"], "stop", "it ends its turn by itself");

    let talk = moxel_with_input(&arguments, &format!("{question}\nAnd of Italy?\n")).ok();
    let mut answers = talk.stdout.lines();
    assert_eq!(answers.next(), answer["text"].as_str());
    assert!(answers.next().is_some_and(|text| text.contains("Rome")), "it remembers what was asked: {}", talk.stdout);
    // The second prompt is what is new, not the conversation.
    let prompts: Vec<usize> = talk.stderr.lines().filter_map(prompt_tokens).collect();
    assert!(prompts.len() == 2 && prompts[0] > 30 && prompts[1] < 20, "{prompts:?}");
}

#[test]
fn text_stops_where_asked() {
    let Some(model) = model() else { return };
    let arguments = ["--prompt", "The capital of France is", "--max-tokens", "12", "--context", "128"];
    let run = moxel(&[&["generate", &model], &arguments[..], &["--stop", ".", "--json"]].concat()).json();
    assert_eq!(run["text"], " Paris");
    assert_eq!(run["finish_reason"], "stop");
}

/// The tokens of the prompt in the line of figures that ends an answer.
fn prompt_tokens(line: &str) -> Option<usize> {
    line.split_once("| prompt ")?.1.split(' ').next()?.parse().ok()
}
