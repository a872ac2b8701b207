//! `moxel pack` as it is used: what it says, and what it leaves when it is stopped or the disk refuses.

mod common;

use std::fs::{self, File};
use std::path::Path;

use common::{folder, golden, moxel};
use serde_json::{Value, json};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_model_is_packed_inspected_and_replaced() {
    let folder = folder("a_model_is_packed_inspected_and_replaced");
    let out = folder.join("packed");
    let run = moxel(&["pack", &golden("scout"), text(&out), "--weights", "q8", "--shard-size", "300kB", "--json"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let summary: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(summary["records"], 25);
    assert!(summary["files"].as_u64() > Some(2) && summary["formats"]["Q8_0"].as_u64() > Some(100_000), "{summary}");

    let run = moxel(&["inspect", text(&out), "--json", "--verify"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let [ours, original] = [run, moxel(&["inspect", &golden("scout"), "--json"])]
        .map(|run| serde_json::from_str::<Value>(&run.stdout).expect("JSON"));
    assert_eq!(ours["container"], "packed");
    for key in ["architecture", "parameters", "active_parameters", "moe_layers", "experts", "vocab"] {
        assert_eq!(ours[key], original[key], "{key}");
    }

    let again = ["pack", &golden("scout"), text(&out)];
    let run = moxel(&again);
    assert!(run.status == 1 && run.stderr.contains("exists already"), "{}", run.stderr);
    let run = moxel(&[&again[..], &["--force"]].concat());
    assert!(run.status == 0 && run.stderr.contains("25 expert records"), "{}", run.stderr);
    for wrong in ["0", "5 parsecs", ""] {
        assert_eq!(moxel(&["pack", &golden("scout"), "x", "--shard-size", wrong]).status, 2, "{wrong}");
    }
    assert_eq!(entries(&folder), ["packed"]);
}

/// A checkpoint of two gigabytes of zeros that takes no space on the disk.
fn hollow_model(folder: &Path) -> String {
    let (vocab, hidden) = (1_000_000usize, 1024);
    let mut config: Value =
        serde_json::from_slice(&fs::read(golden("llama_untied") + "/config.json").expect("config")).expect("JSON");
    for (key, value) in [("vocab_size", vocab), ("hidden_size", hidden), ("num_hidden_layers", 1)] {
        config[key] = json!(value);
    }
    let bytes = 2 * vocab * hidden;
    let header =
        json!({ "model.embed_tokens.weight": { "dtype": "BF16", "shape": [vocab, hidden], "data_offsets": [0, bytes] } });
    let header = header.to_string();
    let model = folder.join("hollow");
    fs::create_dir(&model).expect("a folder");
    fs::write(model.join("config.json"), config.to_string()).expect("config");
    fs::write(model.join("model.safetensors"), [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat())
        .expect("header");
    let file = File::options().write(true).open(model.join("model.safetensors")).expect("the file");
    file.set_len((8 + header.len() + bytes) as u64).expect("a hollow file");
    text(&model).to_owned()
}

#[cfg(unix)]
mod unix {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use common::{command, interrupt};

    fn written(folder: &Path) -> u64 {
        let partial = entries(folder).into_iter().find(|name| name.starts_with("packed.partial-"));
        let files = partial.and_then(|name| fs::read_dir(folder.join(name)).ok());
        files.into_iter().flatten().filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    }

    /// In the middle of a large tensor: little memory is in use, and Ctrl-C leaves nothing.
    #[test]
    fn ctrl_c_leaves_nothing_behind() {
        let folder = folder("ctrl_c_leaves_nothing_behind");
        let model = hollow_model(&folder);
        let out = folder.join("packed");
        let mut child =
            command(&["pack", &model, text(&out), "--weights", "q8"]).stderr(Stdio::piped()).spawn().expect("it starts");
        while written(&folder) < 64 << 20 {
            assert!(child.try_wait().expect("a process").is_none(), "it ended too early");
            sleep(Duration::from_millis(5));
        }
        if let Ok(status) = fs::read_to_string(format!("/proc/{}/status", child.id())) {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
            let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
            assert!(kilobytes < 200_000, "{kilobytes} kB in use");
        }
        interrupt(child.id());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was left behind"), "{output:?}");
        assert_eq!(entries(&folder), ["hollow"]);
    }

    /// A write that the system refuses, as a full disk would: here beyond the largest file that the process may make.
    #[test]
    fn a_refused_write_is_a_sentence_and_leaves_nothing_behind() {
        let folder = folder("a_refused_write_is_a_sentence_and_leaves_nothing_behind");
        let script = "trap '' XFSZ; ulimit -f 400; exec \"$@\"";
        let run = Command::new("sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_moxel"), "pack", &golden("scout"), text(&folder.join("packed"))])
            .output()
            .expect("a shell");
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert_eq!((run.status.code(), run.status.signal()), (Some(1), None), "{stderr}");
        assert!(stderr.starts_with("error: cannot write ") && stderr.contains("model-00001-of-00002.safetensors: "), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(entries(&folder).is_empty());
    }
}
