//! Packed models made by hand: what is read, and which lies are noticed.

use super::*;
use crate::weights::{Checkpoint, Format, MemorySource};
use serde_json::{Value, json};

const FILE: &str = "model-00001-of-00001.safetensors";

/// A packed model in pieces that a test can spoil.
struct Model {
    config: Value,
    manifest: Value,
    header: Value,
    /// Bytes after the header.
    data: Vec<u8>,
    /// Where the data begins.
    data_start: usize,
}

impl Model {
    /// A norm of two floats, three rows of Q8_0, and two experts of two matrices in layer 3.
    fn new() -> Self {
        let page = PAGE as usize;
        let mut data = vec![0; 3 * page];
        data.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 7) as u8);
        Self {
            config: json!({ "model_type": "llama4" }),
            manifest: json!({
                "version": 1,
                "made_by": "a test",
                "format": "huggingface",
                "tensors": { "w": { "dtype": "Q8_0", "shape": [3, 32] } },
                "experts": { "3": {
                    "count": 2,
                    "record_bytes": PAGE,
                    "gate_up": [{ "dtype": "Q4_1", "rows": 64, "cols": 32 }],
                    "down": [{ "dtype": "F16", "rows": 4, "cols": 32 }],
                } },
                "files": { FILE: { "bytes": 4 * page, "sha256": "0123456789abcdef".repeat(4) } },
            }),
            header: json!({
                "moxel.experts.3.1": { "dtype": "U8", "shape": [page], "data_offsets": [page, 2 * page] },
                "moxel.experts.3.0": { "dtype": "U8", "shape": [page], "data_offsets": [0, page] },
                "norm": { "dtype": "F32", "shape": [2], "data_offsets": [2 * page, 2 * page + 8] },
                "w": { "dtype": "U8", "shape": [102], "data_offsets": [2 * page + 8, 2 * page + 110] },
                "other": { "dtype": "U8", "shape": [1], "data_offsets": [2 * page + 110, 2 * page + 111] },
            }),
            data,
            data_start: page,
        }
    }

    fn source(&self) -> MemorySource {
        let header = format!("{:<width$}", self.header.to_string(), width = self.data_start - 8);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(&self.data);
        MemorySource::default()
            .with("config.json", self.config.to_string())
            .with("moxel.json", self.manifest.to_string())
            .with(FILE, file)
    }

    fn open(&self) -> crate::Result<Checkpoint> {
        pollster::block_on(Checkpoint::open(Arc::new(self.source()), ""))
    }
}

/// Fails unless the model as `spoil` leaves it is refused with a message that has all of `words`.
#[track_caller]
fn refused(words: &[&str], spoil: impl FnOnce(&mut Model)) {
    let mut model = Model::new();
    spoil(&mut model);
    let message = model.open().expect_err("it was opened").to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
    assert!(message.len() < 600, "a message of {} bytes", message.len());
}

#[test]
fn records_and_block_formats_are_found() {
    let checkpoint = Model::new().open().unwrap();
    assert!(checkpoint.is_packed());
    assert_eq!(checkpoint.format(), Format::HuggingFace);
    let names: Vec<_> = checkpoint.tensors().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["norm", "w"]);
    let tensor = checkpoint.tensor("w").unwrap();
    assert_eq!((tensor.dtype, tensor.shape.as_slice()), (DType::Q8_0, [3, 32].as_slice()));
    assert_eq!(checkpoint.unsupported_tensors().collect::<Vec<_>>(), [("other", "U8")]);

    assert_eq!(checkpoint.packed_experts(0), None);
    let layer = checkpoint.packed_experts(3).unwrap();
    assert_eq!(layer.gate_up, [PackedMatrix { dtype: DType::Q4_1, rows: 64, cols: 32 }]);
    assert_eq!(layer.down, [PackedMatrix { dtype: DType::F16, rows: 4, cols: 32 }]);
    let record = checkpoint.expert_record(3, 1).unwrap();
    assert_eq!((record.range.start, record.bytes()), (2 * PAGE, PAGE));
    let bytes = pollster::block_on(checkpoint.read_record(record, 7..21)).unwrap();
    assert_eq!(bytes, (0..14).map(|i| ((4096 + 7 + i) / 7) as u8).collect::<Vec<_>>());
    assert_eq!(checkpoint.total_bytes(), 2 * PAGE + 8 + 102);

    let missing = checkpoint.expert_record(3, 2).unwrap_err().to_string();
    assert!(missing.contains("moxel.experts.3.2"), "{missing}");
    assert!(pollster::block_on(checkpoint.read_record(record, 0..PAGE + 1)).is_err());
}

#[test]
fn a_packed_gguf_file_keeps_its_dialect_and_every_bit_of_its_floats() {
    let mut model = Model::new();
    model.manifest["format"] = json!("gguf");
    let floats: Vec<f32> = (0..20_000u32).map(|i| f32::from_bits(0x2000_0000 + i.wrapping_mul(77_777) % 0x3000_0000)).collect();
    let long: Vec<_> = (0..150_000).map(|i| format!("t{i}")).collect();
    model.config = json!({ "general.architecture": "llama4", "scores": floats, "tokenizer.ggml.tokens": long });
    let checkpoint = model.open().unwrap();
    assert_eq!(checkpoint.format(), Format::Gguf);
    let read = checkpoint.config()["scores"].as_array().unwrap();
    for (read, expected) in read.iter().zip(&floats) {
        assert_eq!((read.as_f64().unwrap() as f32).to_bits(), expected.to_bits());
    }
    // What a Hugging Face configuration may not have.
    model.manifest["format"] = json!("huggingface");
    assert!(model.open().is_err());
}

#[test]
fn manifests_that_lie_are_refused() {
    refused(&["moxel.json", "version is 2", "pack the model again"], |m| m.manifest["version"] = json!(2));
    refused(&["moxel.json", "no version"], |m| m.manifest["version"] = json!("1"));
    refused(&["moxel.json", "surprise"], |m| m.manifest["surprise"] = json!(1));
    refused(&["moxel.json", "IQ4_NL"], |m| m.manifest["tensors"]["w"]["dtype"] = json!("IQ4_NL"));
    refused(&["tensor w", "408"], |m| m.manifest["tensors"]["w"]["shape"] = json!([12, 32]));
    refused(&["tensor w", "too large"], |m| m.manifest["tensors"]["w"]["shape"] = json!([u64::MAX, 32]));
    refused(&["moxel.json", "none of the files"], |m| m.manifest["tensors"]["v"] = json!({ "dtype": "Q8_0", "shape": [32] }));
    refused(&["tensor norm", "U8"], |m| m.manifest["tensors"]["norm"] = json!({ "dtype": "Q8_0", "shape": [32] }));
    refused(&["moxel.json", "64 hexadecimal"], |m| m.manifest["files"][FILE]["sha256"] = json!("ABC"));
}

#[test]
fn files_that_were_changed_are_refused() {
    refused(&[FILE, "16383 bytes", "16384"], |m| m.data.truncate(3 * PAGE as usize - 1));
    refused(&["model-2.safetensors", "no such file"], |m| {
        m.manifest["files"]["model-2.safetensors"] = m.manifest["files"][FILE].clone();
    });
    for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..\\b.safetensors", "http://x/y.safetensors"] {
        refused(&["moxel.json", "plain name"], |m| m.manifest["files"][name] = m.manifest["files"][FILE].clone());
    }
    refused(&["overlap"], |m| m.header["moxel.experts.3.1"]["data_offsets"] = json!([100, 4196]));
}

#[test]
fn records_that_are_not_what_is_announced_are_refused() {
    let experts = |m: &mut Model, key: &str, value: Value| m.manifest["experts"]["3"][key] = value;
    refused(&["announces 3 experts", "moxel.experts.3.2"], |m| experts(m, "count", json!(3)));
    refused(&["announces 1000000000000 experts"], |m| experts(m, "count", json!(1_000_000_000_000u64)));
    refused(&["layer 3", "no experts"], |m| experts(m, "count", json!(0)));
    refused(&["does not announce moxel.experts.3.1"], |m| experts(m, "count", json!(1)));
    refused(&["layer 3", "cannot hold"], |m| experts(m, "record_bytes", json!(4000)));
    refused(&["moxel.experts.3.0", "8192"], |m| experts(m, "record_bytes", json!(8192)));
    refused(&["layer 3", "without matrices"], |m| experts(m, "down", json!([])));
    for (rows, cols) in [(64, 33), (0, 32), (64, 0)] {
        let matrix = json!([{ "dtype": "Q4_1", "rows": rows, "cols": cols }]);
        refused(&["layer 3", "not possible"], |m| experts(m, "gate_up", matrix));
    }
    let huge = json!([{ "dtype": "Q4_1", "rows": 1u64 << 40, "cols": 1u64 << 40 }]);
    refused(&["layer 3", "cannot hold"], |m| experts(m, "gate_up", huge));
    refused(&["moxel.experts.3.0", "multiple of 4096"], |m| {
        m.header["moxel.experts.3.0"]["data_offsets"] = json!([3, 3 + PAGE]);
        m.header["moxel.experts.3.1"]["data_offsets"] = json!([3 + PAGE, 3 + 2 * PAGE]);
        m.header["norm"]["data_offsets"] = json!([2 * PAGE + 3, 2 * PAGE + 11]);
        m.header["w"]["data_offsets"] = json!([2 * PAGE + 11, 2 * PAGE + 113]);
        m.header["other"]["data_offsets"] = json!([2 * PAGE + 113, 2 * PAGE + 114]);
    });
    // A record under another spelling is no record.
    refused(&["moxel.experts.3.0 is in none"], |m| {
        let record = m.header["moxel.experts.3.0"].clone();
        m.header["moxel.experts.3.00"] = record;
        m.header.as_object_mut().unwrap().remove("moxel.experts.3.0");
    });
}

#[test]
fn names_of_records() {
    assert_eq!(packed_expert_name(47, 127), "moxel.experts.47.127");
    assert_eq!(parse_expert_name("moxel.experts.47.127"), Some((47, 127)));
    for name in ["moxel.experts.47", "moxel.experts.1.2.3", "moxel.experts.+1.2", "moxel.experts.-1.2", "experts.1.2"] {
        assert_eq!(parse_expert_name(name), None, "{name}");
    }
}
