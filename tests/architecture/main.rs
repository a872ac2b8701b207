//! ARCHITECTURE.md, held: which module may name which, and where things may be said at all.
//!
//! Every rule is also shown files that break it, because a rule that can no longer fail proves nothing.

mod paths;
mod rules;
mod source;

use source::Source;

/// Folders with what people read and change.
const FOLDERS: &[&str] = &["src", "shaders", "tests", "native-demo", "examples", "fuzz", "web/engine"];
const ENDINGS: &[&str] = &[".rs", ".wgsl", ".py", ".sh", "Cargo.toml"];

fn repository() -> Vec<Source> {
    let files = source::read(FOLDERS, ENDINGS);
    for expected in ["src/lib.rs", "src/gpu/device.rs", "shaders/matvec.wgsl", "native-demo/Cargo.toml", "web/engine/src/lib.rs"]
    {
        assert!(files.iter().any(|file| file.path == expected), "{expected} was not found");
    }
    files
}

/// The repository keeps the rule; each of `broken`, alone, does not.
fn check(rule: fn(&[Source]) -> Vec<String>, broken: &[(&str, &str)]) {
    for (path, text) in broken {
        let found = rule(&[Source::new(path, text)]);
        assert!(!found.is_empty(), "the rule has no objection to {path} with {text:?}");
    }
    let found = rule(&repository());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

macro_rules! rules {
    ($($rule:ident: $broken:expr;)*) => {
        $(#[test]
        fn $rule() {
            check(rules::$rule, &$broken);
        })*
    };
}

rules! {
    arrows: [
        ("src/weights/file.rs", "use crate::gpu::Buffer;"),
        ("src/gpu/buffer.rs", "fn f() -> crate::weights::DType { loop {} }"),
        ("src/kernels/embed.rs", "use crate::{Error, models::Loader};"),
        ("src/layers/moe.rs", "use super::super::weights::Checkpoint;"),
        ("src/reference/embed.rs", "use crate::Error;use crate::error::Result;"),
        ("src/newcomer.rs", ""),
    ];
    reference_stands_alone: [("src/reference/embed.rs", "use bytemuck::Pod;")];
    wgpu_stays_in_gpu: [
        ("src/engine.rs", "use wgpu::Device;"),
        ("src/gpu/web.rs", "fn f(x: js_sys::ArrayBuffer) {}"),
        ("native-demo/src/main.rs", "fn f(x: wgpu::Device) {}"),
    ];
    command_line_uses_the_public_api: [
        ("native-demo/Cargo.toml", "[dependencies]\nwgpu.workspace = true\n"),
        ("native-demo/src/main.rs", "#[path = \"../../src/gpu/mod.rs\"] mod gpu;"),
    ];
    one_readback: [("src/session.rs", "buffer.map_async(mode, 0..4, done);")];
    objects_are_counted: [
        ("src/gpu/readback.rs", "let buffer = device.create_buffer(&descriptor);"),
        ("src/gpu/buffer.rs", "let group = device.create_bind_group(&descriptor);"),
        ("src/gpu/buffer.rs", "let buffer = device.create_buffer_init(&descriptor);"),
    ];
    few_platform_conditions: [("src/session.rs", "#[cfg(not(target_arch = \"wasm32\"))] fn f() {}")];
    few_unsafe_calls: [
        ("src/session.rs", "// SAFETY: none\nunsafe { f() }"),
        ("src/gpu/shader.rs", "unsafe { f() }"),
    ];
    tensor_names_stay_in_models: [
        ("src/layers/attention.rs", "let name = format!(\"blk.{l}.attn_q.weight\");"),
        ("src/engine.rs", "find(\"lm_head.weight\")"),
    ];
    no_shader_text_in_rust: [("src/gpu/shader.rs", "const S: &str = \"@compute @workgroup_size(64) fn main() {}\";")];
    one_name_per_kernel: [
        ("shaders/softmax.wgsl", ""),
        ("src/kernels/softmax.rs", ""),
    ];
    no_panics_on_data: [
        ("src/weights/gguf/header.rs", "let n = bytes.first().unwrap();"),
        ("src/session.rs", "todo!()"),
        ("web/engine/src/request.rs", "let text = field.unwrap();"),
    ];
    nothing_left_to_do: [("src/session.rs", concat!("// TO", "DO: later"))];
    small_files: [("src/session.rs", "//\n".repeat(501).as_str())];
    files_say_what_they_are: [("src/session.rs", "use std::fmt;")];
}
