//! `--record-trace` and `moxel replay`: from a run to a table, its JSON and its chart.

mod common;

use common::{folder, moxel, repository, spoken};

#[test]
fn a_recorded_run_is_replayed() {
    let model = spoken("a_recorded_run_is_replayed", "scout");
    let folder = folder("a_recorded_run_is_replayed_files");
    let file = folder.join("trace.jsonl").display().to_string();
    let arguments = ["generate", &model, "--prompt", "Hello you", "--max-tokens", "20", "--expert-budget", "60%", "--json"];
    let answer = moxel(&[&arguments[..], &["--record-trace", &file]].concat()).json();
    let text = std::fs::read_to_string(&file).expect("the trace");
    let prompt = answer["prompt_tokens"].as_u64().expect("a number") as usize;
    // The last token's routing is not computed: nothing follows it.
    assert_eq!(text.lines().count(), 1 + prompt + 20 - 1);
    assert!(text.starts_with(r#"{"moxel_trace":1,"#));
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1, "nothing half-written is left");

    let rows = moxel(&["replay", &file, "--budget", "60,100%", "--json"]).json();
    let rows = rows.as_array().expect("a list");
    let policies: Vec<_> = rows.iter().map(|row| row["policy"].as_str().expect("a name")).collect();
    assert_eq!(policies, ["lru", "score", "score_ahead", "belady"].repeat(2));
    let stats = &answer["stats"]["experts"];
    for key in ["slots", "experts", "tokens", "hits", "misses", "stalled_layers"] {
        assert_eq!(rows[2][key], stats[key], "{key}");
    }
    assert!(rows[3]["hit_rate"].as_f64() >= rows[0]["hit_rate"].as_f64());
}

#[test]
fn traces_become_a_table_and_a_chart() {
    let folder = folder("traces_become_a_table_and_a_chart");
    let trace = |name: &str| repository().join("benches/traces").join(name).display().to_string();
    let svg = folder.join("chart.svg").display().to_string();
    let run = moxel(&["replay", &trace("chat.jsonl"), &trace("code.jsonl"), "--budget", "25,50%", "--svg", &svg]).ok();
    assert_eq!(run.stdout.lines().count(), 2 + 2 * 4, "{}", run.stdout);
    assert!(run.stdout.contains("| 25 % | 30 of 120 | LRU |"), "{}", run.stdout);
    let chart = std::fs::read_to_string(&svg).expect("the chart");
    assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"));
    assert!(["LRU", "Belady", "score, ahead"].iter().all(|name| chart.contains(name)));
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = folder("what_cannot_be_done_is_said");
    let file = folder.join("broken.jsonl");
    let good = std::fs::read_to_string(repository().join("benches/traces/chat.jsonl")).expect("a trace");
    std::fs::write(&file, good.replacen("\"chosen\":[5,3,", "\"chosen\":[5,8,", 1)).expect("a file");
    let refused = |arguments: &[&str], expected: &str| {
        let run = moxel(arguments);
        assert!(run.status != 0 && run.stderr.contains(expected), "{}", run.stderr);
    };
    let file = file.display().to_string();
    refused(&["replay", &file], "line 3: layer 3 cannot choose [8] of its 8 experts");
    refused(&["replay", "nowhere.jsonl"], "cannot read nowhere.jsonl");
    refused(&["replay", &file, "--budget", "0%"], "above 0 and up to 100");
    let dense = spoken("what_cannot_be_done_is_said_model", "llama_tied");
    let record = |file| ["generate", &dense, "--prompt", "a", "--record-trace", file];
    refused(&record("trace.jsonl"), "it has no experts");
    refused(&record("nowhere/trace.jsonl"), "give a file in a folder that exists");
}
