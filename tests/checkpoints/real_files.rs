//! Files that other programs wrote, and what those programs read in them.

use moxel::weights::{Checkpoint, TensorInfo, open_path};
use pollster::block_on;
use safetensors::SafeTensors;
use serde_json::Value;
use std::{fs, path::Path};

fn tests_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))
}

fn open(path: &Path) -> Checkpoint {
    let (source, entry) = open_path(path).unwrap();
    block_on(Checkpoint::open(source, &entry)).unwrap()
}

fn bytes(checkpoint: &Checkpoint, tensor: &TensorInfo) -> Vec<u8> {
    block_on(checkpoint.read(tensor, 0..tensor.bytes())).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a checkpoint with what gguf's Python reader says about all of its files.
fn same_as_gguf_py(checkpoint: &Checkpoint, expected: &[&Value]) {
    let tensors: Vec<_> = expected.iter().flat_map(|file| file["tensors"].as_array().unwrap()).collect();
    let unsupported: Vec<_> = checkpoint.unsupported_tensors().collect();
    assert_eq!(checkpoint.tensors().count() + unsupported.len(), tensors.len());
    for expected in tensors {
        let name = expected["name"].as_str().unwrap();
        let dtype = expected["dtype"].as_str().unwrap();
        if unsupported.contains(&(name, dtype)) {
            continue;
        }
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!(tensor.dtype.name(), dtype, "{name}");
        assert_eq!(serde_json::json!(tensor.shape), expected["shape"], "{name}");
        assert_eq!(tensor.range.start, expected["start"].as_u64().unwrap(), "{name}");
        assert_eq!(tensor.bytes(), expected["bytes"].as_u64().unwrap(), "{name}");
        let data = bytes(checkpoint, tensor);
        assert_eq!(hex(&data[..8]), expected["head"], "{name}");
        assert_eq!(hex(&data[data.len() - 8..]), expected["tail"], "{name}");
    }
}

#[test]
fn gguf_files_are_read_as_gguf_py_reads_them() {
    let folder = tests_folder().join("checkpoints/gguf_py");
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();

    let all_types = open(&folder.join("all_types.gguf"));
    let reference = &expected["all_types.gguf"];
    assert_eq!(Value::Object(all_types.config().clone()), reference["config"]);
    same_as_gguf_py(&all_types, &[reference]);
    let unsupported: Vec<_> = all_types.unsupported_tensors().map(|(_, format)| format).collect();
    assert_eq!(unsupported, ["I32", "IQ4_XS", "MXFP4"]);

    let names: Vec<_> = (1..=3).map(|part| format!("split-0000{part}-of-00003.gguf")).collect();
    let references: Vec<_> = names.iter().map(|name| &expected[name]).collect();
    for name in &names {
        let split = open(&folder.join(name));
        assert_eq!(Value::Object(split.config().clone()), references[0]["config"]);
        same_as_gguf_py(&split, &references);
    }
}

#[test]
fn safetensors_files_are_read_as_the_safetensors_crate_reads_them() {
    let golden = tests_folder().join("golden");
    let mut compared = 0;
    for case in ["scout", "llama_untied", "llama_tied", "nested"] {
        let folder = golden.join(case);
        // One case has a GGUF twin in the same folder; the directory is the Hugging Face one.
        let checkpoint = open(&folder);
        let mut tensors = 0;
        for file in fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with("model") || !name.ends_with(".safetensors") {
                continue;
            }
            let content = fs::read(&path).unwrap();
            for (name, view) in SafeTensors::deserialize(&content).unwrap().iter() {
                let tensor = checkpoint.tensor(name).unwrap();
                assert_eq!(tensor.dtype.name(), view.dtype().to_string(), "{name}");
                assert_eq!(tensor.shape, view.shape(), "{name}");
                assert!(bytes(&checkpoint, tensor) == view.data(), "{name}");
                tensors += 1;
            }
        }
        assert_eq!(checkpoint.tensors().count(), tensors, "{case}");
        compared += tensors;
    }
    assert!(compared > 50, "{compared}");
}
