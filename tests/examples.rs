//! The examples run, on a tiny checkpoint that can be talked with.

#[path = "common/spoken.rs"]
mod spoken;

#[path = "../examples/hello.rs"]
#[allow(dead_code, reason = "main is for the example")]
mod hello;
#[path = "../examples/own_source.rs"]
#[allow(dead_code, reason = "main is for the example")]
mod own_source;
#[path = "../examples/shared_device.rs"]
#[allow(dead_code, reason = "main is for the example")]
mod shared_device;

use std::path::{Path, PathBuf};

fn model(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    spoken::spoken_model(Path::new(env!("CARGO_MANIFEST_DIR")), "scout", &folder)
}

#[test]
fn hello_answers() {
    hello::hello(&model("hello_answers")).expect("an answer");
}

#[test]
fn hello_says_what_is_missing() {
    let error = hello::hello(Path::new("no/such/model")).expect_err("there is no model");
    assert!(error.to_string().contains("no/such/model"), "{error}");
}

#[test]
fn a_renderer_and_a_model_share_a_device() {
    let (frames, tokens) = shared_device::run(&model("a_renderer_and_a_model_share_a_device")).expect("both work");
    assert!(frames > 1 && tokens == 32, "{frames} frames, {tokens} tokens");
}

#[test]
fn experts_come_from_a_source_of_ones_own() {
    let model = model("experts_come_from_a_source_of_ones_own");
    let figures = own_source::run(&model, moxel::ExpertBudget::Percent(50.0), 1000.0).expect("an answer");
    assert!(figures.contains("13 of 25") && figures.contains("stalled layers"), "{figures}");
}
