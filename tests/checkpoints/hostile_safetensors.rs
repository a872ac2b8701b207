//! Hugging Face directories that lie: each is refused with a sentence that says where.

use crate::{
    build::{CONFIG, SHARD_INDEX, safetensors_directory, safetensors_file, sharded_directory},
    open, refused,
};
use moxel::weights::{DType, Format, MemorySource};
use pollster::block_on;

#[test]
fn the_unspoilt_directories_open() {
    let checkpoint = open(safetensors_directory(), "").unwrap();
    assert_eq!(checkpoint.format(), Format::HuggingFace);
    assert_eq!(checkpoint.file(), "config.json");
    assert_eq!(checkpoint.tensor("b").unwrap().dtype, DType::BF16);
    assert_eq!(checkpoint.config()["layers"][2], serde_json::Value::Null);
    assert_eq!(checkpoint.total_bytes(), 16 + 6);
    let message = checkpoint.tensor("ids").unwrap_err().to_string();
    assert!(message.contains("tensor ids") && message.contains("I64"), "{message}");
    assert_eq!(block_on(checkpoint.side_file("tokenizer.json")).unwrap(), None);
    assert_eq!(block_on(checkpoint.side_file("config.json")).unwrap().unwrap(), CONFIG.as_bytes());

    let sharded = open(sharded_directory(SHARD_INDEX), "").unwrap();
    assert_eq!(sharded.tensors().map(|tensor| &*tensor.name).collect::<Vec<_>>(), ["a", "b"]);
    let alone = open(sharded_directory("{}"), "model-00002-of-00002.safetensors").unwrap();
    assert_eq!(alone.tensors().count(), 1);
}

#[test]
fn lies_in_the_header_are_refused() {
    #[rustfmt::skip]
    let cases: &[(&str, &str, &[&str])] = &[
        ("no JSON", "{", &["not a valid safetensors header"]),
        ("no object", "[]", &["not a valid safetensors header"]),
        ("no entry", r#"{"a":7}"#, &["tensor a"]),
        ("no dtype", r#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, &["tensor a", "dtype"]),
        ("dtype twice", r#"{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}"#, &["tensor a", "dtype"]),
        ("no offsets", r#"{"a":{"dtype":"F32","shape":[1]}}"#, &["tensor a", "data_offsets"]),
        ("a negative dimension", r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, &["tensor a", "-1"]),
        ("half a dimension", r#"{"a":{"dtype":"F32","shape":[0.5],"data_offsets":[0,4]}}"#, &["tensor a", "0.5"]),
        ("nine dimensions", r#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#, &["tensor a", "8 dimensions"]),
        ("three offsets", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#, &["tensor a"]),
        ("offsets past the end", r#"{"a":{"dtype":"F32","shape":[32],"data_offsets":[0,128]}}"#, &["tensor a", "the file has"]),
        ("offsets that overflow", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]}}"#, &["tensor a", "absurd"]),
        ("an end before the start", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#, &["tensor a", "should lie"]),
        ("a shape that is too large", r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &["tensor a", "takes 12 bytes", "gives it 8"]),
        ("a shape that overflows", r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#, &["tensor a", "too large"]),
        ("tensors that overlap", r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#, &["a and b overlap"]),
        ("one overlaps an unsupported one", r#"{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#, &["a and b overlap"]),
        ("a tensor twice", r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, &["a is there twice"]),
        ("a name with terminal codes", "{\"\\u001b[2J\":7}", &["tensor \\u{1b}[2J"]),
    ];
    for (case, header, words) in cases {
        let source = safetensors_directory().with("model.safetensors", safetensors_file(header, 64));
        let words = [&["model.safetensors"], *words].concat();
        refused(case, source, "", &words);
    }
}

#[test]
fn lies_about_the_header_are_refused() {
    let with_length = |length: u64| {
        let mut file = length.to_le_bytes().to_vec();
        file.extend([b' '; 100]);
        safetensors_directory().with("model.safetensors", file)
    };
    refused("longer than the file", with_length(101), "", &["model.safetensors", "cut off"]);
    refused("gigabytes", with_length(1 << 40), "", &["no safetensors file"]);
    refused("as long as can be", with_length(u64::MAX), "", &["no safetensors file"]);
    let empty = safetensors_directory().with("model.safetensors", [0; 7]);
    refused("too short", empty, "", &["model.safetensors", "7 bytes"]);
    let latin = safetensors_directory().with("model.safetensors", [&3u64.to_le_bytes()[..], b"{\xe4}"].concat());
    refused("no UTF-8", latin, "", &["UTF-8"]);
}

#[test]
fn bad_configurations_are_refused() {
    let config = |text: &str| safetensors_directory().with("config.json", text);
    #[rustfmt::skip]
    let cases: &[(&str, &str, &[&str])] = &[
        ("no JSON", "{\"a\":", &["not valid JSON"]),
        ("no object", "[1]", &["object"]),
        ("something after it", "{} {}", &["not valid JSON"]),
        ("a key twice", r#"{"a":1,"a":1}"#, &["a is there twice"]),
        ("a nested key twice", r#"{"t":[{"eps":1,"eps":2}]}"#, &["eps is there twice"]),
        ("a NaN", r#"{"eps":NaN}"#, &["not valid JSON"]),
        ("a number beyond all bounds", r#"{"eps":1e999}"#, &["not valid JSON"]),
    ];
    for (case, text, words) in cases {
        refused(case, config(text), "", &[&["config.json"], *words].concat());
    }
    let latin = safetensors_directory().with("config.json", *b"{\"a\":\"\xff\"}");
    refused("no UTF-8", latin, "", &["config.json", "not valid JSON"]);
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    refused("bottomless", config(&deep), "", &["config.json", "recursion"]);
    let wide = format!("{{\"a\":[0{}]}}", ",0".repeat(200_000));
    refused("endless", config(&wide), "", &["config.json", "more than 100000 values"]);
    let large = format!("{{}}{}", " ".repeat(5 << 20));
    refused("huge", config(&large), "", &["config.json", "at most"]);
}

#[test]
fn missing_files_are_named() {
    let source = MemorySource::default().with("model.safetensors", [0; 8]);
    refused("no configuration", source, "", &["config.json", "no such file"]);
    let source = MemorySource::default().with("config.json", CONFIG);
    refused("no weights", source, "", &["model.safetensors", "index.json"]);
    let source = MemorySource::default().with("config.json", CONFIG);
    refused("no such entry", source, "x.safetensors", &["x.safetensors", "no such file"]);
}

#[test]
fn indices_that_lie_are_refused() {
    #[rustfmt::skip]
    let cases: &[(&str, &str, &[&str])] = &[
        ("no map", "{}", &["index.json", "weight_map"]),
        ("a map of numbers", r#"{"weight_map":{"a":1}}"#, &["index.json", "invalid type"]),
        ("a tensor twice", r#"{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}"#, &["index.json", "a is there twice"]),
        ("a missing shard", r#"{"weight_map":{"a":"x.safetensors"}}"#, &["x.safetensors", "no such file", "index.json"]),
        ("a tensor in the wrong shard", r#"{"weight_map":{"b":"model-00001-of-00002.safetensors"}}"#, &["00001-of", "tensor b"]),
        ("a way out of the folder", r#"{"weight_map":{"a":"../x.safetensors"}}"#, &["index.json", "plain name"]),
        ("an absolute path", r#"{"weight_map":{"a":"/etc/x.safetensors"}}"#, &["index.json", "plain name"]),
        ("a Windows path", r#"{"weight_map":{"a":"c:\\x.safetensors"}}"#, &["index.json", "plain name"]),
        ("a pickle", r#"{"weight_map":{"a":"pytorch_model.bin"}}"#, &["index.json", "plain name"]),
        ("a hidden file", r#"{"weight_map":{"a":"..safetensors"}}"#, &["index.json", "plain name"]),
    ];
    for (case, index, words) in cases {
        refused(case, sharded_directory(index), "", words);
    }
    let twice = sharded_directory(SHARD_INDEX).with(
        "model-00002-of-00002.safetensors",
        safetensors_file(
            r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#,
            8,
        ),
    );
    refused("a tensor in two shards", twice, "", &["00002-of", "tensor a", "twice"]);
}
