//! Configurations and checkpoints that are wrong: an error that names the culprit or a working model, never a panic.

mod common;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use common::{golden, gpu, load};
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::weights::{Checkpoint, MemorySource};
use moxel::{Engine, EngineOptions, Error, Gpu, GpuOptions, Precision};
use serde_json::{Value, json};

fn config(case: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(case).join("config.json")).expect("config.json")).expect("JSON")
}

fn source(case: &str, config: &Value) -> Arc<MemorySource> {
    let weights = std::fs::read(golden(case).join("model.safetensors")).expect("model.safetensors");
    Arc::new(MemorySource::new([("model.safetensors".into(), weights)].into()).with("config.json", config.to_string()))
}

/// Loads the model and computes a token.
fn try_out(case: &str, config: &Value) -> Result<(), Error> {
    pollster::block_on(async {
        let engine = Engine::load(&gpu(), source(case, config), "", &EngineOptions::default(), &mut |_| {}).await?;
        let mut session = engine.session()?;
        session.next(&[1, 2, 3], &mut Sampler::new(SamplingOptions::default())?).await.map(drop)
    })
}

/// Every place in a configuration, as a JSON pointer.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (key, inner) in map {
            let here = format!("{at}/{key}");
            places(inner, &here, out);
            out.push(here);
        }
    }
}

fn mutate(case: &str) {
    let original = config(case);
    try_out(case, &original).expect("the unchanged model works");
    let mut all = Vec::new();
    places(&original, "", &mut all);
    let wrong = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(i32::MAX),
        json!(1u64 << 40),
        json!(1e308),
        json!(1e-320),
        json!("x"),
        json!([]),
        json!([1, 0]),
        json!({}),
        json!(true),
        json!(false),
    ];
    for place in all {
        for value in &wrong {
            let mut changed = original.clone();
            *changed.pointer_mut(&place).expect("a place of the original") = value.clone();
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| try_out(case, &changed)));
            let Ok(outcome) = outcome else { panic!("{case}: {place} = {value} panics") };
            if let Err(error) = outcome {
                let text = error.to_string();
                assert!(text.len() > 10 && !text.contains('\n'), "{case}: {place} = {value}: {text:?}");
            }
        }
    }
}

#[test]
fn llama_configurations() {
    mutate("llama_untied");
}

#[test]
fn llama4_configurations() {
    mutate("scout");
}

/// One change of a configuration, and what the error must name.
fn refuse(case: &str, key: &str, value: Value, named: &[&str]) {
    let mut changed = config(case);
    changed[key] = value;
    let error = try_out(case, &changed).expect_err(key).to_string();
    for part in named {
        assert!(error.contains(part), "{key}: {error:?} does not name {part:?}");
    }
}

#[test]
fn errors_name_the_culprit() {
    refuse("scout", "model_type", json!("mamba"), &["config.json", "model_type", "mamba", "llama4"]);
    refuse("scout", "hidden_act", json!("gelu"), &["hidden_act", "gelu", "silu"]);
    refuse("scout", "num_local_experts", json!(6), &["experts", "[5, 96, 48]", "[6, 96, 48]"]);
    refuse("scout", "num_experts_per_tok", json!(9), &["num_experts_per_tok", "9 of 5"]);
    refuse("scout", "head_dim", json!(18), &["head_dim", "18"]);
    refuse("scout", "sliding_window", json!(128), &["config.json", "sliding_window"]);
    refuse("scout", "num_hidden_layers", json!(6), &["6 layers"]);
    refuse("llama_untied", "num_hidden_layers", json!(6), &["model.layers.", "missing"]);
    refuse("llama_untied", "rms_norm_eps", json!(0), &["rms_norm_eps"]);
    refuse("llama_untied", "rope_parameters", json!({"rope_type": "yarn", "factor": 4.0}), &["rope_type", "yarn"]);
    refuse("llama_untied", "vocab_size", json!(644), &["model.embed_tokens.weight", "[643, 56]", "[644, 56]"]);
}

#[test]
fn an_adapter_that_is_too_small_is_named() {
    let tiny = GpuOptions { max_binding_bytes: Some(512), ..GpuOptions::default() };
    let tiny = pollster::block_on(Gpu::new(&tiny)).expect("an adapter");
    let error = Engine::load_path(&tiny, &golden("scout"), &EngineOptions::default(), &mut |_| {}).err().expect("too small");
    assert!(error.to_string().contains("512"), "{error}");
}

#[test]
fn contexts_prompts_and_ids_are_checked() {
    let options = |context| EngineOptions { context: Some(context), ..EngineOptions::default() };
    for context in [0, 513, usize::MAX] {
        let error = Engine::load_path(&gpu(), &golden("scout"), &options(context), &mut |_| {}).err().expect("no such context");
        assert!(error.to_string().contains("512"), "{error}");
    }
    let engine = Engine::load_path(&gpu(), &golden("scout"), &options(16), &mut |_| {}).expect("engine");
    let mut session = engine.session().expect("session");
    let mut sampler = Sampler::new(SamplingOptions::default()).expect("greedy");
    let mut next = |tokens: &[u32]| pollster::block_on(session.next(tokens, &mut sampler));
    assert!(matches!(next(&[1; 17]), Err(Error::ContextFull { tokens: 17, context: 16 })));
    assert!(next(&[643]).expect_err("no such token").to_string().contains("643"));
    assert!(next(&[]).is_err());
    next(&[1; 16]).expect("a full context");
    assert!(matches!(next(&[1]), Err(Error::ContextFull { .. })));
}

#[test]
fn a_model_without_tokenizer_says_so() {
    let engine = load(&golden("scout"), Precision::Fast, 128);
    assert!(engine.tokenizer().expect_err("none").to_string().contains("tokenizer.json"));
    assert!(engine.chat_prompt(&[]).is_err());
}

#[test]
fn a_truncated_checkpoint_is_refused() {
    let whole = std::fs::read(golden("scout").join("model.safetensors")).expect("weights");
    let text = config("scout").to_string();
    let cut =
        MemorySource::new([("model.safetensors".into(), whole[..whole.len() / 2].to_vec())].into()).with("config.json", text);
    let error = pollster::block_on(Checkpoint::open(Arc::new(cut), "")).expect_err("truncated").to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    assert!(Engine::load_path(&gpu(), Path::new("no/such/place"), &EngineOptions::default(), &mut |_| {}).is_err());
}
