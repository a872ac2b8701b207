//! Running the built program.
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../../tests/common/demo_model.rs"]
pub mod demo_model;
#[path = "../../../tests/common/spoken.rs"]
pub mod spoken;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What the program said.
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn golden(name: &str) -> String {
    repository().join("tests/golden").join(name).display().to_string()
}

/// A tiny checkpoint that can be talked with, in a folder of its own for each test.
pub fn spoken(test: &str, name: &str) -> String {
    spoken::spoken_model(&repository(), name, &folder(test)).display().to_string()
}

/// An empty folder of this test.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the folder of an earlier run");
    }
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    folder
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moxel"));
    // Nothing of the user's is read or changed.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.args(arguments).stdin(Stdio::null()).env("XDG_CACHE_HOME", &cache).env("LOCALAPPDATA", &cache).env("HOME", &cache);
    command
}

/// Sends Ctrl-C.
pub fn interrupt(process: u32) {
    let sent = Command::new("kill").args(["-INT", &process.to_string()]).status().expect("kill");
    assert!(sent.success());
}

/// Runs the program to its end.
pub fn moxel(arguments: &[&str]) -> Run {
    finish(command(arguments))
}

/// Runs it with `input` on standard input.
pub fn moxel_with_input(arguments: &[&str], input: &str) -> Run {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    run(child.wait_with_output().expect("it ends"))
}

fn finish(mut command: Command) -> Run {
    run(command.output().expect("the program starts"))
}

fn run(output: std::process::Output) -> Run {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run {
        status: output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", output.status)),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

impl Run {
    /// Asserts that it went well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self
    }

    /// Standard output, which is one JSON value and nothing else.
    #[track_caller]
    pub fn json(self) -> Value {
        let run = self.ok();
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {:?}", run.stdout))
    }
}
