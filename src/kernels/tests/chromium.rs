//! The variants in the compiler of a browser, whose rules are stricter than naga's.

use std::path::Path;
use std::process::Command;

use super::variants::ALL;
use crate::gpu::{MATRICES, Shader};

#[test]
#[ignore = "needs Chromium; tests/run.sh installs it and runs this"]
fn chromium_compiles_the_variants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("target/shaders");
    // What a shader was called last time must not be compiled again.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    // A guard is the same in every format and for any number of heads, and compiling takes a third of a second.
    let repeats = |shader: &Shader| {
        let one_of_many = match shader.label() {
            "matvec" | "matvec_quads" | "gated" | "residual" => !shader.has("q4_1"),
            "attention" => !shader.has("heads_1"),
            "prompt_attention" => shader.has("above_64") || shader.has("four_rows"),
            _ => false,
        };
        shader.has("guarded") && one_of_many
    };
    // Browsers have no cooperative matrices, or others behind a flag.
    let native = |shader: &Shader| MATRICES.into_iter().any(|condition| shader.has(condition));
    let variants: Vec<_> = ALL.iter().filter(|variant| !repeats(&variant.shader) && !native(&variant.shader)).collect();
    for variant in &variants {
        std::fs::write(folder.join(format!("{}.wgsl", variant.shader)), variant.shader.clone().in_browser().wgsl().unwrap())
            .unwrap();
    }
    let done = Command::new("python3").arg(root.join("tests/chromium/compile.py")).arg(&folder).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    println!("{text}");
    assert!(done.status.success(), "{text}");
    assert!(text.contains(&format!("{} shaders compiled", variants.len())), "{text}");
}
