//! Every command of the built program on tiny checkpoints: names, keys and status codes are what scripts rely on.

mod common;

use std::collections::BTreeSet;

use common::{folder, golden, moxel, moxel_with_input, spoken};
use serde_json::Value;

/// The keys of an object, which are exactly these.
#[track_caller]
fn keys(value: &Value, expected: &[&str]) {
    let keys: BTreeSet<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, expected.iter().copied().collect());
}

#[test]
fn adapters_are_listed() {
    let list = moxel(&["adapters", "--json"]).json();
    let list = list.as_array().expect("a list");
    assert!(!list.is_empty());
    for (i, adapter) in list.iter().enumerate() {
        keys(adapter, &["index", "name", "backend", "kind", "driver", "driver_info", "tier", "features", "limits", "kernels"]);
        assert_eq!(adapter["index"], i);
        assert!(adapter["limits"]["max_binding_bytes"].as_u64() >= Some(128 << 20));
    }
    let text = moxel(&["adapters"]).ok().stdout;
    assert!(text.contains(list[0]["name"].as_str().expect("a name")), "{text}");
}

#[test]
fn inspect_describes_a_mixture() {
    let info = moxel(&["inspect", &golden("scout"), "--json", "--context", "100"]).json();
    let expected = [("layers", 5), ("experts", 5), ("experts_per_token", 1), ("vocab", 643), ("trained_context", 512)];
    for (key, value) in expected {
        assert_eq!(info[key], value, "{key}");
    }
    assert_eq!(info["architecture"], "llama4_text");
    assert!(info["active_parameters"].as_u64() < info["parameters"].as_u64());
    assert!(info["formats"]["F16"].as_u64() > Some(0));
    let resident = &info["resident"];
    assert_eq!(resident["context"], 100);
    assert_eq!(resident["kv_cache_bytes"].as_u64(), info["kv_bytes_per_token"].as_u64().map(|bytes| 100 * bytes));
    let exact = moxel(&["inspect", &golden("scout"), "--json", "--context", "100", "--precision", "exact"]).json();
    assert_eq!(exact["resident"]["kv_cache_bytes"].as_u64(), resident["kv_cache_bytes"].as_u64().map(|bytes| 2 * bytes));
    // Heads of 32: bytes and a scale make 36 instead of 64, at positions by the eight.
    let cache = |kv| {
        let info = moxel(&["inspect", &golden("llama_quants/model.gguf"), "--json", "--context", "100", "--kv", kv]).json();
        info["resident"]["kv_cache_bytes"].as_u64().expect("a number")
    };
    assert_eq!([cache("f32"), cache("q8")].map(|bytes| bytes * 64 * 100), [cache("f16") * 128 * 100, cache("f16") * 36 * 104]);

    let text = moxel(&["inspect", &golden("scout")]).ok().stdout;
    assert!(text.contains("llama4_text") && text.contains("5 in 5 of the layers, 1 chosen"), "{text}");
    let dense = moxel(&["inspect", &golden("llama_tied/model.gguf")]).ok().stdout;
    assert!(dense.contains("llama (gguf)") && dense.contains("BF16"), "{dense}");
}

#[test]
fn generate_keeps_its_contract() {
    let model = spoken("generate_keeps_its_contract", "scout");
    let arguments = ["generate", &model, "--prompt", "Hello", "--max-tokens", "24"];
    let answer = moxel(&[&arguments[..], &["--json"]].concat()).json();
    keys(
        &answer,
        &[
            "text",
            "token_ids",
            "prompt_tokens",
            "completion_tokens",
            "finish_reason",
            "kernels",
            "timings",
            "startup",
            "stats",
            "seed",
        ],
    );
    keys(&answer["timings"], &["load_ms", "prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"]);
    let counts = ["dispatches_per_token", "submits_per_token", "readbacks_per_token", "weight_bytes_per_token", "experts"];
    keys(&answer["stats"], &counts);
    assert_eq!(answer["prompt_tokens"], 5);
    assert_eq!(answer["completion_tokens"], 24);
    assert_eq!(answer["token_ids"].as_array().map(Vec::len), Some(24));
    assert_eq!(answer["finish_reason"], "length");
    assert_eq!(answer["stats"]["submits_per_token"], 1.0);
    assert_eq!(answer["stats"]["readbacks_per_token"], 1.0);
    assert!(answer["timings"]["predicted_per_second"].as_f64() > Some(0.0));

    let plain = moxel(&[&arguments[..], &["--stats"]].concat()).ok();
    assert_eq!(plain.stdout, format!("{}\n", answer["text"].as_str().expect("text")));
    for word in ["adapter:", "load", "prompt 5 tokens", "generated 24 tokens", "1.00 submits"] {
        assert!(plain.stderr.contains(word), "{word}: {}", plain.stderr);
    }
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let model = spoken("stop_strings_end_the_text_before_them", "scout");
    let generate = |stop: &[&str]| {
        let arguments = ["generate", &model, "--prompt", "Hello", "--max-tokens", "24", "--json"];
        moxel(&[&arguments[..], stop].concat()).json()
    };
    let whole = generate(&[]);
    let whole = whole["text"].as_str().expect("text");
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[characters.len() / 2..].iter().take(4).collect();
    let cut = generate(&["--stop", "never said", "--stop", &stop]);
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["text"].as_str(), whole.split(&stop).next(), "{stop:?} in {whole:?}");
    assert!(cut["completion_tokens"].as_u64() < Some(24));
}

#[test]
fn a_seed_gives_the_same_text_again() {
    let model = spoken("a_seed_gives_the_same_text_again", "scout");
    let generate = |seed: &[&str]| {
        let arguments = ["generate", &model, "--prompt", "Hello", "--max-tokens", "16", "--temperature", "1.5", "--json"];
        moxel(&[&arguments[..], seed].concat()).json()
    };
    let first = generate(&["--seed", "7"]);
    assert_eq!(first["seed"], 7);
    assert_eq!(first["token_ids"], generate(&["--seed", "7"])["token_ids"]);
    assert_ne!(first["token_ids"], generate(&["--seed", "8"])["token_ids"]);
    let random = generate(&[]);
    assert_ne!(random["token_ids"], first["token_ids"]);
    let seed = random["seed"].to_string();
    assert_eq!(random["token_ids"], generate(&["--seed", &seed])["token_ids"]);
}

#[test]
fn a_full_context_ends_the_text() {
    let model = spoken("a_full_context_ends_the_text", "scout");
    let answer = moxel(&["generate", &model, "--prompt", "Hello", "--max-tokens", "99", "--context", "12", "--json"]).json();
    assert_eq!(answer["finish_reason"], "length");
    // The last one needs no room: nothing follows it.
    assert_eq!(answer["completion_tokens"], 12 - 5 + 1);
}

#[test]
fn one_token_or_none_have_no_speed() {
    let model = spoken("one_token_or_none_have_no_speed", "scout");
    for count in ["0", "1"] {
        let answer = moxel(&["generate", &model, "--prompt", "Hello", "--max-tokens", count, "--json"]).json();
        assert_eq!(answer["completion_tokens"].to_string(), count);
        assert_eq!(answer["finish_reason"], "length");
        assert!(answer["stats"].is_null() && answer["timings"]["predicted_per_second"].is_null());
    }
}

#[test]
fn chat_answers_one_message() {
    let model = spoken("chat_answers_one_message", "scout");
    let arguments = ["chat", &model, "--message", "Hello", "--temperature", "0", "--max-tokens", "8", "--json"];
    let answer = moxel(&arguments).json();
    let prompt = "user: Hello</s>assistant: ";
    // Every byte is a token, but the end of the turn is one.
    assert_eq!(answer["prompt_tokens"], prompt.len() - "</s>".len() + 1);
    let instructed = moxel(&[&arguments[..], &["--system", "Be brief."]].concat()).json();
    assert!(instructed["prompt_tokens"].as_u64() > answer["prompt_tokens"].as_u64());
}

#[test]
fn chat_takes_messages_from_a_pipe() {
    let model = spoken("chat_takes_messages_from_a_pipe", "scout");
    let arguments = ["chat", &model, "--temperature", "0", "--max-tokens", "8"];
    let long = "x".repeat(600);
    let run =
        moxel_with_input(&arguments, &format!("Hello\n\n/help\n/nonsense\n{long}\n/clear\nHello\nAnd then?\n/quit\nunheard\n"))
            .ok();
    let figures: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("load")).collect();
    assert_eq!(figures.len(), 3, "{}", run.stderr);
    assert!(run.stderr.contains("Ctrl-C stops an answer") && run.stderr.contains("unknown command /nonsense"));
    // A message too long for the context is refused, and the conversation goes on.
    assert!(run.stderr.contains("context of 512") && run.stderr.contains("/clear forgets"), "{}", run.stderr);
    let answers: Vec<_> = run.stdout.split_inclusive('\n').collect();
    assert_eq!(answers.len(), 3, "{:?}", run.stdout);
    assert_eq!(answers[0], answers[1], "after /clear the same question has the same answer");
    // Neither colours nor a progress bar where nobody looks.
    assert!(!run.stderr.contains('\u{1b}') && !run.stdout.contains('\u{1b}'));
}

#[test]
fn bad_requests_are_one_sentence() {
    let model = spoken("bad_requests_are_one_sentence", "scout");
    let bad_ids = folder("bad_requests_ids").join("ids.txt");
    std::fs::write(&bad_ids, "1 2 three").expect("a file");
    let bad_ids = bad_ids.display().to_string();
    let long = "x".repeat(600);
    let (silent, narrow) = (golden("scout"), golden("llama_tied"));
    let out = folder("bad_requests_out").join("no/such/folder/out.safetensors").display().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["generate", "no/such/model", "--prompt", "x"], "no/such/model"),
        (&["inspect", "Cargo.toml"], "Cargo.toml"),
        (&["generate", &model, "--prompt", &long], "600 tokens do not fit into a context of 512"),
        (&["generate", &model, "--prompt", "too long", "--context", "4"], "8 tokens do not fit into a context of 4"),
        (&["generate", &model, "--prompt", ""], "empty"),
        (&["generate", &model, "--prompt", "x", "--context", "513"], "513"),
        (&["generate", &model, "--prompt", "x", "--context", "0"], "context of 0"),
        (&["inspect", &narrow, "--kv", "q8"], "choose f16"),
        (&["generate", &model, "--prompt", "x", "--adapter", "Voodoo 2"], "Voodoo 2"),
        (&["generate", &model, "--prompt", "x", "--adapter", "99"], "99"),
        (&["generate", &silent, "--prompt", "x"], "tokenizer.json"),
        (&["chat", &silent, "--message", "x"], "chat template"),
        (&["logits", &silent, "--tokens", "1,643", "--out", "x.safetensors"], "643"),
        (&["logits", &silent, "--tokens-file", &bad_ids, "--out", "x.safetensors"], "\"three\" is not a token id"),
        (&["logits", &silent, "--tokens-file", "no/such/file", "--out", "x.safetensors"], "no/such/file"),
        (&["logits", &silent, "--tokens", "1", "--out", &out], "no/such/folder"),
    ];
    for (arguments, word) in cases {
        let run = moxel(arguments);
        let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let errors: Vec<_> = errors.iter().filter(|line| !line.contains("XDG_RUNTIME_DIR")).collect();
        assert_eq!(run.status, 1, "{arguments:?}: {}", run.stderr);
        assert_eq!(errors.len(), 1, "{arguments:?}: {}", run.stderr);
        assert!(errors[0].contains(word), "{arguments:?} does not say {word:?}: {}", errors[0]);
        assert!(run.stdout.is_empty() && !run.stderr.contains("panicked"), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn wrong_usage_has_status_2() {
    let cases: &[&[&str]] = &[
        &[],
        &["conjure"],
        &["generate"],
        &["generate", "model"],
        &["generate", "model", "--prompt", "x", "--no-such-option"],
        &["generate", "model", "--prompt", "x", "--temperature", "-1"],
        &["generate", "model", "--prompt", "x", "--top-p", "1.5"],
        &["generate", "model", "--prompt", "x", "--min-p", "2"],
        &["generate", "model", "--prompt", "x", "--repeat-penalty", "0"],
        &["generate", "model", "--prompt", "x", "--max-tokens", "many"],
        &["generate", "model", "--prompt", "x", "--stop", ""],
        &["generate", "model", "--prompt", "x", "--precision", "sloppy"],
        &["generate", "model", "--prompt", "x", "--kv", "q4"],
        &["chat", "model", "--json"],
        &["logits", "model", "--out", "x"],
        &["logits", "model", "--tokens", "1", "--tokens-file", "x", "--out", "x"],
        &["logits", "model", "--tokens", "1,b", "--out", "x"],
    ];
    for arguments in cases {
        let run = moxel(arguments);
        assert_eq!(run.status, 2, "{arguments:?}: {}", run.stderr);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty());
    }
    assert!(moxel(&["--help"]).ok().stdout.contains("generate"));
}
