//! The commands that make models, and the models that they make.

mod common;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::demo_model::demo_model;
use common::{folder, golden, moxel, repository};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

/// What 4 bits may cost the demo model: the mean Kullback-Leibler divergence from its float32 reference.
const MOST_DIVERGENCE: f64 = 0.02;

/// Files below a folder, with their content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file")))
        .collect();
    files.sort();
    files
}

fn synth(out: &Path, options: &[&str]) -> common::Run {
    synth_of("6", out, options)
}

fn synth_of(experts: &str, out: &Path, options: &[&str]) -> common::Run {
    let out = out.display().to_string();
    let size = ["--layers", "2", "--experts", experts, "--top-k", "2", "--expert-mb", "0.05", "--hidden", "256"];
    moxel(&[&["synth", &out], &size[..], options].concat())
}

#[test]
fn a_synthetic_model_is_made_and_runs() {
    let folder = folder("a_synthetic_model_is_made_and_runs");
    let out = folder.join("model");
    synth(&out, &[]).ok();
    let path = out.display().to_string();
    let info = moxel(&["inspect", &path, "--json"]).json();
    for (key, value) in [("layers", 2), ("experts", 6), ("experts_per_token", 2), ("hidden", 256)] {
        assert_eq!(info[key], value, "{key}");
    }
    assert!(info["expert_bytes"].as_u64() >= Some(2 * 6 * 50_000), "{info}");
    let arguments = ["--prompt", "Hello", "--max-tokens", "40", "--temperature", "1", "--seed", "3", "--json"];
    let answer = moxel(&[&["generate", &path], &arguments[..]].concat()).json();
    assert_eq!((&answer["prompt_tokens"], &answer["completion_tokens"]), (&Value::from(6), &Value::from(40)));
    let text = answer["text"].as_str().expect("text");
    assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "a terminal would obey {text:?}");
    moxel(&["chat", &path, "--message", "Hello", "--max-tokens", "2"]).ok();

    // The seed makes the model, and nothing else does.
    let (again, other) = (folder.join("again"), folder.join("other"));
    synth(&again, &["--seed", "0"]).ok();
    synth(&other, &["--seed", "1"]).ok();
    assert!(files(&out) == files(&again), "the same seed made another model");
    assert!(files(&out) != files(&other), "another seed made the same model");
}

/// The library's tests of streaming have models whose heads are too small for a cache of bytes.
#[test]
fn a_cache_of_bytes_is_the_same_at_every_budget() {
    let folder = folder("a_cache_of_bytes_is_the_same_at_every_budget");
    let (out, logits) = (folder.join("model"), folder.join("logits.safetensors").display().to_string());
    synth(&out, &[]).ok();
    let path = out.display().to_string();
    let tokens: Vec<_> = (0..40).map(|i| (i * 31 % 200 + 1).to_string()).collect();
    let at = |budget: &str, kv: &str| {
        let common = ["--precision", "exact", "--kv", kv, "--expert-budget", budget];
        let arguments = ["--prompt", "Hello", "--max-tokens", "40", "--temperature", "1", "--seed", "3", "--json"];
        let answer = moxel(&[&["generate", &path], &arguments[..], &common].concat()).json();
        moxel(&[&["logits", &path, "--tokens", &tokens.join(","), "--out", &logits], &common[..]].concat()).ok();
        (answer["text"].as_str().expect("text").to_owned(), fs::read(&logits).expect("logits"))
    };
    let whole = at("100%", "q8");
    assert!(at("34%", "q8") == whole, "fewer experts on the GPU changed something");
    assert!(at("100%", "f32").1 != whole.1, "the cache's bytes are not used");
}

/// Counted from the recorded commands: q, k and v; attention; output and residual; router; gate, up and activation of the experts; down,
/// their sum and residual. Besides layers there are the embedding, the first norm, the head and the greedy choice. Where a token finds
/// more than 512 keys with heads like these, attention is two.
#[test]
fn a_layer_of_experts_is_six_kernels() {
    let out = folder("a_layer_of_experts_is_six_kernels").join("model");
    // A router of fewer rows than a group has would be mostly padding.
    synth_of("32", &out, &[]).ok();
    let path = out.display().to_string();
    let active = active_bytes(&out);
    // A byte is a token, and one comes before them.
    for (precision, kv, bytes, kernels) in [("exact", "f32", 5, 6.0), ("fast", "q8", 509, 6.0), ("fast", "f16", 512, 7.0)] {
        let arguments = ["--prompt", &"x".repeat(bytes), "--max-tokens", "3", "--precision", precision, "--kv", kv, "--json"];
        let answer = moxel(&[&["generate", &path], &arguments[..]].concat()).json();
        let counts =
            ["dispatches_per_token", "submits_per_token", "readbacks_per_token"].map(|key| answer["stats"][key].as_f64());
        assert_eq!(counts, [Some(kernels * 2.0 + 4.0), Some(1.0), Some(1.0)], "{precision}, {kv}, {bytes} bytes: {answer}");
        let read = answer["stats"]["weight_bytes_per_token"].as_f64().expect("bytes") / active;
        assert!((1.0..=1.05).contains(&read), "{read} times the bytes of the weights that a token uses");
    }
}

/// Bytes in a packed model's files of what a token is multiplied by: the chosen experts, and all else but the table of embeddings.
fn active_bytes(model: &Path) -> f64 {
    let info = moxel(&["inspect", &model.display().to_string(), "--json"]).json();
    let [all, experts, count, chosen] =
        ["weight_bytes", "expert_bytes", "experts", "experts_per_token"].map(|key| info[key].as_f64().expect("a number"));
    let size = |(name, content): &(String, Vec<u8>)| {
        let tensors = name.ends_with(".safetensors").then(|| SafeTensors::deserialize(content).expect("tensors"))?;
        tensors.tensor("token_embd.weight").ok().map(|table| table.data().len())
    };
    let embedding = files(model).iter().find_map(size).expect("embeddings");
    all - experts + experts / count * chosen - embedding as f64
}

/// What is there is not overwritten by accident, and a size that makes no sense is wrong usage.
#[test]
fn making_a_model_can_be_refused() {
    let folder = folder("making_a_model_can_be_refused");
    fs::write(folder.join("precious"), "data").expect("a file");
    let refused = synth(&folder, &[]);
    assert!(refused.status == 1 && refused.stderr.contains("making_a_model_can_be_refused"), "{}", refused.stderr);
    assert_eq!(files(&folder), [("precious".to_owned(), b"data".to_vec())]);

    let out = folder.join("never").display().to_string();
    let wrong: [&[&str]; 6] = [
        &["--layers", "0"],
        &["--experts", "2", "--top-k", "3"],
        &["--hidden", "1000"],
        &["--expert-mb", "0"],
        &["--expert-mb", "nan"],
        &["--expert-mb", "inf"],
    ];
    for arguments in wrong {
        assert_eq!(moxel(&[&["synth", &out], arguments].concat()).status, 2, "{arguments:?}");
    }

    let other = golden("llama_tied/model.gguf");
    let refused = moxel(&["demo-model", "--gguf", &other, "--out", &out]);
    assert!(refused.status == 1 && refused.stderr.contains("get-model.sh"), "{}", refused.stderr);
    let missing = moxel(&["demo-model", "--gguf", "no/such/file", "--out", &out]);
    assert!(missing.status == 1 && missing.stderr.contains("no/such/file"), "{}", missing.stderr);
    assert_eq!(files(&folder).len(), 1, "nothing unfinished is left");
}

/// One of the reference's conversations: its ids, and the likeliest next tokens at every position.
#[derive(Deserialize)]
struct Conversation {
    ids: Vec<u32>,
    top_ids: Vec<Vec<usize>>,
    top_logprobs: Vec<Vec<f64>>,
}

/// The Kullback-Leibler divergence from the reference to softmax(`logits`), all tokens beyond the listed ones as one.
fn divergence(ids: &[usize], logprobs: &[f64], logits: &[f32]) -> f64 {
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
    let total = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum::<f64>().ln() + f64::from(most);
    let found: Vec<f64> = ids.iter().map(|&id| f64::from(logits[id]) - total).collect();
    let rest = |logprobs: &[f64]| (1.0 - logprobs.iter().map(|p| p.exp()).sum::<f64>()).max(1e-9);
    let listed: f64 = logprobs.iter().zip(&found).map(|(p, q)| p.exp() * (p - q)).sum();
    listed + rest(logprobs) * (rest(logprobs) / rest(&found)).ln()
}

/// The mean divergence of a model over all conversations.
fn mean_divergence(model: &str, conversations: &[Conversation], folder: &Path) -> f64 {
    let (mut sum, mut positions) = (0.0, 0);
    for conversation in conversations {
        let ids: Vec<String> = conversation.ids.iter().map(u32::to_string).collect();
        let out = folder.join("logits.safetensors");
        moxel(&["logits", model, "--tokens", &ids.join(","), "--out", &out.display().to_string()]).ok();
        let file = fs::read(&out).expect("logits");
        let file = SafeTensors::deserialize(&file).expect("safetensors");
        let logits: Vec<f32> = bytemuck::pod_collect_to_vec(file.tensor("logits").expect("logits").data());
        let rows = logits.chunks_exact(logits.len() / ids.len());
        let expected = conversation.top_ids.iter().zip(&conversation.top_logprobs);
        sum += rows.zip(expected).map(|(row, (ids, logprobs))| divergence(ids, logprobs, row)).sum::<f64>();
        positions += ids.len();
    }
    sum / positions as f64
}

/// The demo model in 4 bits, made by the command, once for all tests; `None` without the model that it is made from.
fn demo_moe() -> Option<&'static str> {
    static MADE: OnceLock<Option<String>> = OnceLock::new();
    let make = || {
        let parent = demo_model(&repository())?;
        let out = folder("demo_moe").join("model").display().to_string();
        moxel(&["demo-model", "--gguf", &parent.display().to_string(), "--out", &out]).ok();
        Some(out)
    };
    MADE.get_or_init(make).as_deref()
}

/// The reference's conversations.
fn conversations() -> Vec<Conversation> {
    serde_json::from_str(include_str!("demo_moe/expected.json")).expect("a list of conversations")
}

/// Close to the reference's floats, and it knows the capital of France, with all of its experts on the GPU and with half of
/// them.
#[test]
fn the_demo_model_is_made_and_answers() {
    let Some(model) = demo_moe() else { return };
    let folder = folder("the_demo_model_is_made_and_answers");
    let info = moxel(&["inspect", model, "--json"]).json();
    for (key, value) in [("layers", 30), ("experts", 8), ("experts_per_token", 1), ("parameters", 214_210_368u64)] {
        assert_eq!(info[key], value, "{key}");
    }
    let mut conversations = conversations();
    let mean = mean_divergence(model, &conversations, &folder);
    println!("mean divergence in 4 bits: {mean:.2e}");
    assert!(mean <= MOST_DIVERGENCE, "{mean}");
    // The measure notices a reference that thinks otherwise.
    conversations.truncate(1);
    conversations[0].top_ids.iter_mut().for_each(|ids| ids.swap(0, 1));
    assert!(mean_divergence(model, &conversations, &folder) > 10.0 * MOST_DIVERGENCE);

    let question = ["--message", "What is the capital of France?", "--system", "Answer in one sentence."];
    let ask = |budget| {
        let options = ["--temperature", "0", "--precision", "exact", "--context", "512", "--expert-budget", budget, "--json"];
        moxel(&[&["chat", model], &question[..], &options].concat()).json()
    };
    let answer = ask("100%");
    assert!(answer["text"].as_str().is_some_and(|text| text.contains("Paris")), "{answer}");
    assert_eq!(answer["finish_reason"], "stop");
    assert_eq!(answer["token_ids"], ask("50%")["token_ids"]);
}

/// Tokens of a prompt, together, and those that follow another one, one by one, at several budgets. Few of them, so that this
/// runs on slow drivers too.
#[test]
fn the_demo_model_streams_the_same_bits() {
    let Some(model) = demo_moe() else { return };
    let folder = folder("the_demo_model_streams_the_same_bits");
    let ids: Vec<String> = conversations()[0].ids.iter().take(16).map(u32::to_string).collect();
    let logits = |options: &[&str]| {
        let out = folder.join("streamed.safetensors").display().to_string();
        let common = ["logits", model, "--tokens", &ids.join(","), "--out", &out, "--context", "512"];
        moxel(&[&common, options].concat()).ok();
        fs::read(&out).expect("logits")
    };
    let generated = |options: &[&str]| {
        let common = ["generate", model, "--prompt", "Once", "--max-tokens", "16", "--context", "512", "--json"];
        moxel(&[&common, options, &["--precision", "exact"]].concat()).json()
    };
    let (whole, text) = (logits(&[]), generated(&[]));
    for options in
        [&["--expert-budget", "75%"][..], &["--expert-budget", "37.5%", "--policy", "lru"], &["--expert-budget", "25%"]]
    {
        assert!(logits(options) == whole, "{options:?} changes logits");
        let streamed = generated(options);
        assert_eq!(streamed["token_ids"], text["token_ids"], "{options:?}");
        assert!(streamed["stats"]["experts"]["misses"].as_u64() > Some(0), "{options:?} never missed: {streamed}");
    }
}

/// A token that lacks nothing is one submission; one that does, one more for each layer that lacks an expert.
#[test]
fn streaming_the_demo_model_costs_what_it_should() {
    let Some(model) = demo_moe() else { return };
    let chat = |options: &[&str]| {
        let common = ["chat", model, "--message", "Tell me a story about the sea.", "--max-tokens", "200", "--seed", "1"];
        moxel(&[&common, options, &["--context", "512", "--json"]].concat()).json()["stats"].clone()
    };
    let number = |stats: &Value, key: &str| stats["experts"][key].as_f64().unwrap_or_else(|| panic!("{key}: {stats}"));
    let streamed = chat(&["--expert-budget", "50%", "--sync", "token"]);
    let (stalls, syncs) = (number(&streamed, "stalled_layers_per_token"), number(&streamed, "syncs_per_token"));
    assert!(stalls > 0.5 && syncs <= 1.0 + 1.1 * stalls, "{stalls} stalls, {syncs} synchronisations for each token");
    let (useful, wasted) = (number(&streamed, "speculative_useful_bytes"), number(&streamed, "speculative_wasted_bytes"));
    assert!(wasted <= 0.25 * useful || streamed["experts"]["prefetching"] == false, "{useful} useful, {wasted} wasted");
    let whole = chat(&["--expert-budget", "100%"]);
    assert_eq!((number(&whole, "misses"), whole["submits_per_token"].as_f64()), (0.0, Some(1.0)));
}
