//! Packing: what is written is what the checkpoint has, whole or not at all, and computes the same.

mod common;
#[path = "pack/records.rs"]
mod records;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{Expected, golden, load};
use moxel::weights::{Checkpoint, DType, open_path};
use moxel::{Logits, PackOptions, PackSummary, PackWeights, Precision, Result, pack};
use pollster::block_on;
use serde_json::Value;

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pack").join(test);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Result<Checkpoint> {
    let (source, entry) = open_path(path)?;
    block_on(Checkpoint::open(source, &entry))
}

/// Where the golden model of this name is, be it a directory or a GGUF file.
fn model(name: &str) -> PathBuf {
    let gguf = golden(name).join("model.gguf");
    if name != "llama_tied" && gguf.exists() { gguf } else { golden(name) }
}

fn try_pack(from: &Path, to: &Path, options: &PackOptions) -> Result<PackSummary> {
    block_on(pack(&open(from)?, to, options, &mut |_| ControlFlow::Continue(())))
}

fn packed(from: &Path, to: &Path, weights: PackWeights) -> PackSummary {
    try_pack(from, to, &PackOptions { weights, ..PackOptions::default() }).unwrap_or_else(|e| panic!("{}: {e}", from.display()))
}

fn logits(path: &Path, tokens: &[u32]) -> Logits {
    block_on(load(path, Precision::Exact, 7).session().expect("session").logits(tokens)).expect("logits")
}

/// The message of a refusal, which must have all of `words`.
#[track_caller]
fn refused<T>(result: Result<T>, words: &[&str]) {
    let message = result.err().expect("it was accepted").to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

#[test]
fn what_is_kept_computes_the_same_bits() {
    let folder = Folder::new("same_bits");
    for name in ["scout", "scout_gguf", "maverick", "top2", "nested", "llama_quants", "llama_tied", "llama_bias"] {
        let to = folder.at(name);
        packed(&model(name), &to, PackWeights::Keep);
        let tokens = Expected::read(&golden(name).join("expected.safetensors")).ids("tokens");
        let (ours, original) = (logits(&to, &tokens), logits(&model(name), &tokens));
        let bits = |logits: &Logits| logits.logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
        assert!(bits(&ours) == bits(&original), "{name}: other logits");
        assert_eq!(ours.routing, original.routing, "{name}");
    }
}

/// The median of the tokens' relative errors: where a rounded weight makes the router choose another expert, a token differs
/// much, and that is no mistake.
fn typical_error(ours: &Logits, exact: &Logits, tokens: usize) -> f64 {
    let vocab = exact.logits.len() / tokens;
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let pairs = ours.logits.chunks(vocab).zip(exact.logits.chunks(vocab));
    let error = |(ours, exact): (&[f32], &[f32])| {
        let difference = square(&mut ours.iter().zip(exact).map(|(a, b)| a - b));
        (difference / square(&mut exact.iter().copied())).sqrt()
    };
    let mut errors: Vec<f64> = pairs.map(error).collect();
    errors.sort_by(f64::total_cmp);
    errors[tokens / 2]
}

#[test]
fn quantised_weights_compute_nearly_the_same() {
    let folder = Folder::new("nearly");
    let tokens = Expected::read(&golden("scout").join("expected.safetensors")).ids("tokens");
    let exact = logits(&model("scout"), &tokens);
    let error = |weights, name: &str| {
        packed(&model("scout"), &folder.at(name), weights);
        typical_error(&logits(&folder.at(name), &tokens), &exact, tokens.len())
    };
    let (f16, q8, q4) = (error(PackWeights::F16, "f16"), error(PackWeights::Q8, "q8"), error(PackWeights::Q4, "q4"));
    println!("relative errors of logits: f16 {f16:.2e}, q8 {q8:.2e}, q4 {q4:.2e}");
    assert_eq!(f16, 0.0, "the checkpoint is in f16 already");
    assert!(0.0 < q8 && q8 < q4, "fewer bits, larger errors");
    // A step of 8 bits is about half a percent of such weights, and a dozen products follow one another.
    assert!(q8 < 0.08 && q4 < 0.25, "{q8} {q4}");
}

#[test]
fn every_number_arrives_in_its_place() {
    let folder = Folder::new("in_place");
    for name in ["scout", "maverick", "top2", "nested", "scout_gguf"] {
        let to = folder.at(name);
        let summary = packed(&model(name), &to, PackWeights::Keep);
        let (source, ours) = (open(&model(name)).expect("source"), open(&to).expect("packed"));
        assert_eq!(ours.format(), source.format());
        for tensor in ours.tensors() {
            let original = source.tensor(&tensor.name).expect("the same name");
            assert_eq!((tensor.dtype, &tensor.shape), (original.dtype, &original.shape), "{name}: {}", tensor.name);
            let all = |checkpoint: &Checkpoint, tensor| block_on(checkpoint.read(tensor, 0..original.bytes())).expect("bytes");
            assert!(all(&ours, tensor) == all(&source, original), "{name}: {}", tensor.name);
        }
        // A record holds, in their own order, the numbers of its slice of the stacks.
        let mut records = 0;
        for layer in 0..8 {
            for expert in (0..).take_while(|&expert| ours.expert_record(layer, expert).is_ok()) {
                let expected = records::from_stacks(&source, layer, expert);
                assert!(records::decoded(&ours, layer, expert) == expected, "{name}: expert {expert} of layer {layer}");
                records += 1;
            }
        }
        assert!(records > 0 && records == summary.records, "{name}: {records}");
        block_on(ours.verify(&mut |_| {})).expect("the hashes are those of the files");
    }
}

/// Half a step of 8 bits, and rounding of the scale to f16; of 4 bits a step and a half, since the search may clip.
#[test]
fn quantised_records_are_within_their_bounds() {
    let folder = Folder::new("bounds");
    for (weights, dtype, steps, bound) in [(PackWeights::Q8, DType::Q8_0, 254.0, 0.57), (PackWeights::Q4, DType::Q4_1, 15.0, 1.5)]
    {
        let to = folder.at(dtype.name());
        packed(&model("scout"), &to, weights);
        let (source, ours) = (open(&model("scout")).expect("source"), open(&to).expect("packed"));
        let layer = ours.packed_experts(1).expect("a layer of experts");
        assert_eq!((layer.gate_up[0].dtype, layer.down[0].dtype), (dtype, DType::F16), "rows of 24 are no blocks");
        let [expected, same] = <[_; 2]>::try_from(records::from_stacks(&source, 1, 3)).expect("two matrices");
        let [got, kept] = <[_; 2]>::try_from(records::decoded(&ours, 1, 3)).expect("two matrices");
        assert_eq!(kept, same);
        assert!(got != expected, "nothing was quantised");
        for (got, expected) in got.chunks(32).zip(expected.chunks(32)) {
            let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let step = 2.0 * most / steps;
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() <= bound * step, "{dtype}: {expected} became {got}");
            }
        }
    }
}

#[test]
fn each_part_gets_its_format() {
    let folder = Folder::new("formats");
    packed(&model("maverick"), &folder.at("q4"), PackWeights::Q4);
    let ours = open(&folder.at("q4")).expect("packed");
    for (name, dtype) in [
        ("model.embed_tokens.weight", DType::Q8_0),
        ("lm_head.weight", DType::Q8_0),
        ("model.norm.weight", DType::BF16),
        ("model.layers.0.input_layernorm.weight", DType::BF16),
        ("model.layers.0.self_attn.o_proj.weight", DType::Q8_0),
        ("model.layers.0.feed_forward.gate_proj.weight", DType::Q4_1),
        // Rows of 56 and of 8 are no blocks.
        ("model.layers.0.feed_forward.down_proj.weight", DType::BF16),
        ("model.layers.1.feed_forward.shared_expert.gate_proj.weight", DType::Q8_0),
        ("model.layers.1.feed_forward.shared_expert.down_proj.weight", DType::BF16),
        ("model.layers.1.feed_forward.router.weight", DType::BF16),
    ] {
        assert_eq!(ours.tensor(name).expect("a tensor").dtype, dtype, "{name}");
    }
    packed(&model("top2"), &folder.at("q8"), PackWeights::Q8);
    let ours = open(&folder.at("q8")).expect("packed");
    let biases: Vec<_> = ours.tensors().filter(|tensor| tensor.name.ends_with(".bias")).collect();
    assert!(!biases.is_empty() && biases.iter().all(|tensor| tensor.dtype == DType::F32));
    // What is quantised already stays as it is.
    packed(&model("llama_quants"), &folder.at("quants"), PackWeights::Q8);
    let (source, ours) = (open(&model("llama_quants")).expect("source"), open(&folder.at("quants")).expect("packed"));
    let blocks = source.tensors().filter(|tensor| tensor.dtype.block_len() > 1);
    assert!(blocks.map(|t| ours.tensor(&t.name).expect("a tensor").dtype == t.dtype).reduce(|a, b| a && b) == Some(true));
}

#[test]
fn shards_are_small_and_the_dense_part_comes_first() {
    let folder = Folder::new("shards");
    let options = PackOptions { shard_bytes: 100_000, ..PackOptions::default() };
    let summary = try_pack(&model("maverick"), &folder.at("m"), &options).expect("packed");
    assert!(summary.files > 8, "{summary:?}");
    let index: Value =
        serde_json::from_slice(&fs::read(folder.at("m/model.safetensors.index.json")).expect("index")).expect("JSON");
    let places = index["weight_map"].as_object().expect("a map");
    let last_dense = places.iter().filter(|(name, _)| !name.starts_with("moxel.")).map(|(_, file)| file.as_str()).max();
    let first_expert = places.iter().filter(|(name, _)| name.starts_with("moxel.")).map(|(_, file)| file.as_str()).min();
    assert!(last_dense < first_expert, "{last_dense:?} {first_expert:?}");
    for file in fs::read_dir(folder.at("m")).expect("the folder").map(|entry| entry.expect("an entry").path()) {
        let bytes = file.metadata().expect("metadata").len();
        assert!(bytes <= 100_000 + 2 * 4096 || file.extension().is_some_and(|ending| ending == "json"), "{}", file.display());
    }
    // Another program's reader accepts the files.
    let file = fs::read(folder.at("m").join(first_expert.flatten().expect("a file"))).expect("a shard");
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("valid safetensors");
    assert!(tensors.names().iter().all(|name| name.starts_with("moxel.experts.")));
}

#[test]
fn being_stopped_leaves_nothing_behind() {
    let folder = Folder::new("stopped");
    let source = open(&model("nested")).expect("source");
    let (mut stopped, mut last) = (0, 0);
    loop {
        let mut calls = 0;
        let result = block_on(pack(&source, &folder.at("m"), &PackOptions::default(), &mut |progress| {
            calls += 1;
            assert!(progress.written_bytes <= progress.total_bytes);
            last = progress.written_bytes;
            if calls > stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        if result.is_ok() {
            break;
        }
        refused(result, &["stopped"]);
        assert_eq!(folder.names(), [""; 0], "after {stopped} steps");
        stopped += 1;
    }
    assert!(stopped > 20, "it was asked only {stopped} times");
    assert_eq!(folder.names(), ["m"]);
    let total: u64 = open(&folder.at("m")).expect("packed").total_bytes();
    assert_eq!(last, total);
}

#[test]
fn nothing_but_a_packed_model_is_replaced() {
    let folder = Folder::new("replaced");
    let replace = PackOptions { replace: true, ..PackOptions::default() };
    packed(&model("scout"), &folder.at("m"), PackWeights::Keep);
    refused(try_pack(&model("top2"), &folder.at("m"), &PackOptions::default()), &["exists already", "--force"]);
    refused(try_pack(&folder.at("m"), &folder.at("n"), &replace), &["packed already"]);
    assert!(open(&folder.at("m")).expect("the old one").tensor("model.layers.0.self_attn.q_proj.bias").is_err());
    try_pack(&model("top2"), &folder.at("m"), &replace).expect("replaced");
    assert!(open(&folder.at("m")).expect("the new one").tensor("model.layers.0.self_attn.q_proj.bias").is_ok());

    // Stopping while replacing keeps what was there.
    let source = open(&model("scout")).expect("source");
    refused(block_on(pack(&source, &folder.at("m"), &replace, &mut |_| ControlFlow::Break(()))), &["stopped"]);
    assert!(open(&folder.at("m")).expect("still there").tensor("model.layers.0.self_attn.q_proj.bias").is_ok());

    fs::create_dir(folder.at("photos")).expect("a folder");
    refused(try_pack(&model("scout"), &folder.at("photos"), &replace), &["photos", "not a packed model"]);
    fs::write(folder.at("file"), "").expect("a file");
    refused(try_pack(&model("scout"), &folder.at("file"), &replace), &["file", "not a packed model"]);
    refused(try_pack(&model("scout"), &folder.at("nowhere/m"), &replace), &["nowhere"]);
    let mut names = folder.names();
    names.sort();
    assert_eq!(names, ["file", "m", "photos"]);
}

/// A copy of a golden directory in which `change` was made to a file, given where `tensor` begins in it.
fn spoiled(folder: &Folder, name: &str, tensor: &str, change: impl FnOnce(&mut [u8], usize)) -> PathBuf {
    let to = folder.at("spoiled");
    fs::create_dir_all(&to).expect("a folder");
    for entry in fs::read_dir(golden(name)).expect("the directory").map(|entry| entry.expect("an entry")) {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
    let source = open(&golden(name)).expect("source");
    let tensor = source.tensor(tensor).expect("the tensor");
    let mut bytes = fs::read(to.join(&*tensor.file)).expect("weights");
    change(&mut bytes, tensor.range.start as usize);
    fs::write(to.join(&*tensor.file), bytes).expect("written");
    to
}

#[test]
fn weights_that_cannot_be_represented_are_named() {
    let folder = Folder::new("represented");
    let infinite = 0x7f80u16.to_le_bytes();
    let huge = 0x7149u16.to_le_bytes();
    let options = |weights| PackOptions { weights, ..PackOptions::default() };
    let with_first = |tensor: &str, value: [u8; 2]| {
        spoiled(&folder, "maverick", tensor, |bytes, at| bytes[at..at + 2].copy_from_slice(&value))
    };
    for tensor in ["model.layers.1.feed_forward.experts.gate_up_proj", "model.layers.0.self_attn.q_proj.weight"] {
        for (value, weights) in [(infinite, PackWeights::Q4), (infinite, PackWeights::Q8), (huge, PackWeights::F16)] {
            let from = with_first(tensor, value);
            refused(try_pack(&from, &folder.at("m"), &options(weights)), &[tensor, "not finite or too large"]);
            assert_eq!(folder.names(), ["spoiled"]);
        }
        try_pack(&with_first(tensor, infinite), &folder.at("m"), &PackOptions::default()).expect("kept");
        fs::remove_dir_all(folder.at("m")).expect("removed");
    }
}

#[test]
fn unsupported_formats_are_left_out_or_refused() {
    let folder = Folder::new("unsupported");
    let in_integers = |tensor: &str| {
        spoiled(&folder, "nested", tensor, |bytes, _| {
            let find = |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes());
            let entry = find(bytes, &format!("\"{tensor}\":")).expect("the header's entry");
            let at = entry + find(&bytes[entry..], "\"BF16\"").expect("its format");
            bytes[at..at + 6].copy_from_slice(b"\"I16\" ");
        })
    };
    let needed = "language_model.model.layers.0.self_attn.q_proj.weight";
    refused(try_pack(&in_integers(needed), &folder.at("m"), &PackOptions::default()), &[needed, "I16", "not supported"]);
    let of_images = "multi_modal_projector.linear_1.weight";
    let summary = packed(&in_integers(of_images), &folder.at("m"), PackWeights::Keep);
    assert_eq!(summary.left_out, [format!("{of_images} (I16)")]);
}

#[test]
fn a_packed_model_that_was_changed_is_refused() {
    let folder = Folder::new("changed");
    packed(&model("scout"), &folder.at("m"), PackWeights::Keep);
    let shard = folder.at("m/model-00002-of-00002.safetensors");
    let whole = fs::read(&shard).expect("a shard");

    let mut changed = whole.clone();
    changed[10_000] ^= 1;
    fs::write(&shard, &changed).expect("written");
    let opened = open(&folder.at("m")).expect("headers are as they were");
    refused(block_on(opened.verify(&mut |_| {})), &["model-00002-of-00002.safetensors", "hash differs"]);
    fs::write(&shard, &whole[..whole.len() - 1]).expect("written");
    refused(open(&folder.at("m")), &["model-00002-of-00002.safetensors", "cut off"]);
    fs::write(&shard, &whole).expect("written");
    block_on(open(&folder.at("m")).expect("whole again").verify(&mut |_| {})).expect("as it was");

    let manifest = fs::read_to_string(folder.at("m/moxel.json")).expect("manifest");
    for (from, to, word) in [
        ("model-00002-of-00002.safetensors", "../m/model-00002-of-00002.safetensors", "plain name"),
        ("\"count\":5", "\"count\":6", "announces 6 experts"),
        ("\"version\":1", "\"version\":9", "version is 9"),
    ] {
        fs::write(folder.at("m/moxel.json"), manifest.replace(from, to)).expect("written");
        refused(open(&folder.at("m")), &["moxel.json", word]);
    }
    refused(block_on(open(&model("scout")).expect("source").verify(&mut |_| {})), &["no hashes"]);
}
