//! The rules of ARCHITECTURE.md. Each looks at a list of files and says what is wrong with them.

use crate::paths::{exports, module, references};
use crate::source::Source;

/// Which modules of `src/` may name which others. `error` may be named by all but `reference`.
const ARROWS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("dims", &[]),
    // Bytes and names, never the GPU.
    ("weights", &[]),
    ("config", &["weights"]),
    ("tokenizer", &[]),
    ("chat_template", &[]),
    ("sampler", &[]),
    // The GPU, never models, files or tokens.
    ("gpu", &[]),
    ("packing", &["weights"]),
    ("kernels", &["gpu", "packing", "weights"]),
    ("repack", &["packing", "weights"]),
    // Bytes of experts into slots: it knows no session and no model.
    ("experts", &["repack", "packing", "kernels", "gpu", "weights"]),
    // Measures the adapter itself, with kernels of its own.
    ("roofline", &["kernels", "gpu"]),
    ("rope", &["config", "kernels"]),
    ("kv_cache", &["dims", "kernels", "gpu"]),
    ("layers", &["dims", "kernels", "kv_cache", "gpu"]),
    ("models", &["dims", "layers", "kernels", "gpu", "weights", "config", "packing", "repack", "experts", "rope"]),
    ("model_files", &["models", "experts", "weights", "tokenizer", "chat_template"]),
    ("pack", &["models", "experts", "repack", "packing", "weights"]),
    ("session", &["engine", "model_files", "models", "layers", "kernels", "experts", "kv_cache", "gpu", "sampler"]),
    // Measures kernels as an engine would use them.
    ("tuning", &["engine", "model_files", "models", "experts", "kernels", "packing", "gpu", "weights"]),
    (
        "engine",
        &[
            "dims",
            "session",
            "tuning",
            "model_files",
            "models",
            "experts",
            "kv_cache",
            "kernels",
            "gpu",
            "weights",
            "tokenizer",
            "chat_template",
        ],
    ),
    ("generate", &["engine", "session", "sampler", "tokenizer"]),
    ("chat", &["engine", "session", "generate", "tokenizer", "chat_template"]),
    // Written from the mathematics: shares nothing with what it judges.
    ("reference", &[]),
];

/// `cfg(target_arch)`: the browser's futures cannot move between threads, and nobody polls a device there.
const ARCHITECTURE_DEPENDENT: &[&str] = &["src/weights/source.rs", "src/gpu/readback.rs"];
/// wgpu's unchecked calls, each with its reason beside it.
const UNSAFE: &[&str] = &["src/gpu/device.rs", "src/gpu/shader.rs", "src/gpu/pipelines.rs"];
/// Shaders that compute what another kernel does, in another shape: the kernel whose twin they share.
const SAME_AS: &[(&str, &str)] = &[
    ("matvec", "matmul"),
    ("matvec_quads", "matmul"),
    ("matmul_quads", "matmul"),
    ("matmul_tiled", "matmul"),
    ("matmul_matrix_units", "matmul"),
    ("prompt_attention", "attention"),
    ("merge_attention", "attention"),
];
/// Files in `src/kernels` that dispatch nothing.
const KERNEL_HELPERS: &[&str] = &["mod", "matrix", "choice", "activations", "kv_type"];
/// A file with one job fits on a few screens.
const MOST_LINES: usize = 500;

fn violations<'a>(files: &'a [Source], fault: impl Fn(&'a Source) -> Option<String>) -> Vec<String> {
    files.iter().filter_map(|file| fault(file).map(|what| format!("{}: {what}", file.path))).collect()
}

fn library(files: &[Source]) -> impl Iterator<Item = &Source> {
    files.iter().filter(|file| file.is_library())
}

/// Modules name only those that the picture in ARCHITECTURE.md has below them.
pub fn arrows(files: &[Source]) -> Vec<String> {
    let exports = files.iter().find(|file| file.path == "src/lib.rs").map(exports).unwrap_or_default();
    let known = |name: &str| ARROWS.iter().any(|(module, _)| *module == name);
    let mut wrong = Vec::new();
    for file in library(files) {
        let Some(own) = module(&file.path) else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(module, _)| *module == own) else {
            wrong.push(format!("{}: module {own} is not in the list of arrows", file.path));
            continue;
        };
        for name in references(file, &exports).into_iter().filter(|name| known(name)) {
            if !allowed.contains(&name.as_str()) && (name != "error" || own == "reference") {
                wrong.push(format!("{}: {own} must not name {name}", file.path));
            }
        }
    }
    wrong
}

/// The twins share nothing with the crate, not even its error type or its macros.
pub fn reference_stands_alone(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let inside = file.path.starts_with("src/reference");
        let crates = ["wgpu", "naga", "wesl", "bytemuck"];
        (inside && crates.iter().any(|name| file.names(name))).then(|| "reference names a crate of the GPU".into())
    })
}

/// Only `src/gpu` names wgpu, and only the browser's front end names the browser.
pub fn wgpu_stays_in_gpu(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let named = |words: &[&str]| words.iter().find(|word| file.names(word)).map(|word| format!("names {word}"));
        let in_gpu = file.path.starts_with("src/gpu/");
        let library = file.path.starts_with("src/") || file.path.starts_with("native-demo/");
        let gpu = (library && !in_gpu).then(|| named(&["wgpu"])).flatten();
        gpu.or_else(|| library.then(|| named(&["wasm_bindgen", "js_sys", "web_sys"])).flatten())
    })
}

/// The command line has no way around the library: it depends on none of the library's own parts.
pub fn command_line_uses_the_public_api(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let manifest = file.path == "native-demo/Cargo.toml";
        let forbidden = ["wgpu", "naga", "wesl", "tokenizers", "minijinja"];
        if manifest {
            let named = |name: &&&str| file.text.lines().any(|line| line.split([' ', '.', '=']).next() == Some(**name));
            return forbidden.iter().find(named).map(|name| format!("depends on {name}"));
        }
        let reaches = file.path.starts_with("native-demo/") && file.strings.iter().any(|s| s.contains("../src/"));
        reaches.then(|| "includes a file of the library".into())
    })
}

/// Results come back from the GPU in one place.
pub fn one_readback(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let reads = ["map_async", "get_mapped_range", "map_buffer_on_submit"].iter().any(|word| file.names(word));
        (file.is_library() && file.path != "src/gpu/readback.rs" && reads).then(|| "maps a buffer".into())
    })
}

/// What [`moxel::Gpu::objects_made`] counts is made where it is counted.
pub fn objects_are_counted(files: &[Source]) -> Vec<String> {
    let places = [
        ("create_buffer", "src/gpu/buffer.rs"),
        ("create_bind_group", "src/gpu/program.rs"),
        ("create_compute_pipeline", "src/gpu/shader.rs"),
        ("create_buffer_init", "nowhere"),
    ];
    violations(files, |file| {
        let uncounted = |(call, place): &&(&str, &str)| file.is_library() && file.path != *place && file.names(call);
        places.iter().find(uncounted).map(|(call, place)| format!("calls {call}, which is for {place}"))
    })
}

/// Platforms are told apart in few places.
pub fn few_platform_conditions(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let listed = ARCHITECTURE_DEPENDENT.contains(&file.path.as_str());
        (file.is_library() && !listed && file.names("target_arch")).then(|| "depends on target_arch".into())
    })
}

/// Unsafe code is listed here, and says why it is sound.
pub fn few_unsafe_calls(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        if !file.is_library() || !file.names("unsafe") {
            return None;
        }
        if !UNSAFE.contains(&file.path.as_str()) {
            return Some("is not among the files that may be unsafe".into());
        }
        (!file.text.contains("// SAFETY:")).then(|| "does not say why its unsafe code is sound".into())
    })
}

/// Names of a checkpoint's tensors appear only where models are described.
pub fn tensor_names_stay_in_models(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let outside = file.is_library() && !file.path.starts_with("src/models/");
        let looks_like = |s: &&String| {
            ["blk.", "model.layers", "lm_head", "embed_tokens", "attn_q", "ffn_gate_"].iter().any(|part| s.contains(part))
                || s.ends_with(".weight")
                || s.ends_with(".bias")
        };
        file.strings.iter().filter(|_| outside).find(looks_like).map(|s| format!("names a tensor: {s:?}"))
    })
}

/// Shaders are files in `shaders/`, never text inside Rust.
pub fn no_shader_text_in_rust(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let marks = ["@compute", "@group(", "@binding(", "var<storage", "var<uniform", "@workgroup_size"];
        let ships = file.ships() || file.path.starts_with("native-demo/");
        let found = file.strings.iter().find(|s| ships && marks.iter().any(|mark| s.contains(mark)));
        found.map(|_| "has WGSL in a string".into())
    })
}

/// A kernel has one name: its shader, its Rust file, its CPU twin.
pub fn one_name_per_kernel(files: &[Source]) -> Vec<String> {
    let stem = |path: &str, folder: &str, ending: &str| {
        let name = path.strip_prefix(folder)?.strip_suffix(ending)?;
        (!name.contains('/')).then(|| name.to_owned())
    };
    let has = |path: String| files.iter().any(|file| file.path == path);
    let mut wrong = Vec::new();
    for file in files {
        if let Some(shader) = stem(&file.path, "shaders/", ".wgsl") {
            let kernel = SAME_AS.iter().find(|(name, _)| *name == shader).map_or(shader.as_str(), |(_, by)| by);
            for partner in [format!("src/kernels/{kernel}.rs"), format!("src/reference/{kernel}.rs")] {
                if !has(partner.clone()) {
                    wrong.push(format!("{}: there is no {partner}", file.path));
                }
            }
        }
        if let Some(kernel) = stem(&file.path, "src/kernels/", ".rs")
            && !KERNEL_HELPERS.contains(&kernel.as_str())
            && !has(format!("shaders/{kernel}.wgsl"))
        {
            wrong.push(format!("{}: there is no shaders/{kernel}.wgsl", file.path));
        }
    }
    wrong
}

/// Nothing that a file, the network or a driver says may end the process.
pub fn no_panics_on_data(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let calls = [".unwrap()", ".expect(", "todo!", "unimplemented!", "panic!(", "dbg!(", "println!(", "process::exit"];
        let ships = file.ships() || file.path.starts_with("web/engine/src/");
        let found = calls.iter().find(|call| ships && file.code.contains(**call));
        found.map(|call| format!("calls {call}"))
    })
}

/// What is not done is said in the documents, not in the code.
pub fn nothing_left_to_do(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        // Put together here, so that this file does not find itself.
        let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat(), ["HA", "CK"].concat()];
        let found = file
            .text
            .lines()
            .position(|line| line.split(|c: char| !c.is_alphanumeric()).any(|word| marks.iter().any(|mark| mark == word)));
        found.map(|line| format!("line {} is marked as unfinished", line + 1))
    })
}

/// Files stay small.
pub fn small_files(files: &[Source]) -> Vec<String> {
    violations(files, |file| {
        let lines = file.text.lines().count();
        (lines > MOST_LINES).then(|| format!("has {lines} lines, more than {MOST_LINES}"))
    })
}

/// Every file of the library begins by saying what it is for. A twin is one function, which says it.
pub fn files_say_what_they_are(files: &[Source]) -> Vec<String> {
    violations(files, |file| (file.ships() && !file.text.starts_with("//!")).then(|| "does not begin with what it is for".into()))
}
