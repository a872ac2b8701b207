//! GGUF files that lie: each is refused with a sentence that says where.

use crate::{
    build::{self, ARRAY, BOOL, F32, Gguf, STRING, U8, U32, U64, array, gguf, string, value},
    open, refused,
};
use moxel::weights::{DType, MemorySource};

#[test]
fn the_unspoilt_file_opens() {
    let checkpoint = open(gguf().source(), "m.gguf").unwrap();
    assert_eq!(checkpoint.tensors().count(), 2);
    assert_eq!(checkpoint.tensor("b").unwrap().dtype, DType::Q8_0);
    assert_eq!(checkpoint.tensor("b").unwrap().shape, [3, 32]);
    assert_eq!(checkpoint.total_bytes(), 32 + 102);
}

#[test]
fn lies_in_the_header_are_refused() {
    type Spoil = fn(&mut Gguf);
    #[rustfmt::skip]
    let cases: &[(&str, Spoil, &[&str])] = &[
        ("another format", |f| f.magic = *b"PK\x03\x04", &["m.gguf", "no GGUF file"]),
        ("big-endian version", |f| f.version = 3 << 24, &["big-endian"]),
        ("big-endian magic", |f| f.magic = *b"FUGG", &["big-endian"]),
        ("version 1", |f| f.version = 1, &["version 1"]),
        ("version 4", |f| f.version = 4, &["version 4"]),
        ("absurd key count", |f| f.claimed_keys = Some(u64::MAX), &["18446744073709551615 metadata keys"]),
        ("keys that do not fit", |f| f.claimed_keys = Some(60_000), &["past the end"]),
        ("absurd tensor count", |f| f.claimed_tensors = Some(1 << 60), &["tensors are absurd"]),
        ("tensors that do not fit", |f| f.claimed_tensors = Some(900_000), &["past the end"]),
        ("more keys than there are", |f| f.claimed_keys = Some(5), &["m.gguf"]),
        ("more tensors than there are", |f| f.claimed_tensors = Some(4), &["m.gguf"]),
        ("a key twice", |f| f.keys.push(("llama.eps".into(), value(BOOL, &[1]))), &["llama.eps", "twice"]),
        ("a tensor twice", |f| f.tensors[1].name = "a".into(), &["tensor a", "twice"]),
        ("an unsupported tensor twice", |f| f.tensors[2].name = "a".into(), &["tensor a", "twice"]),
        ("no such value type", |f| f.keys[1].1 = value(13, &[0; 8]), &["llama.block_count", "type 13"]),
        ("no such element type", |f| f.keys[1].1 = array(77, 0, &[]), &["llama.block_count", "type 77"]),
        ("an array of arrays", |f| f.keys[1].1 = array(ARRAY, 1, &[0; 16]), &["arrays of arrays"]),
        ("an absurd array", |f| f.keys[1].1 = array(U64, u64::MAX / 2, &[]), &["llama.block_count", "past the end"]),
        ("a bad boolean", |f| f.keys[1].1 = value(BOOL, &[2]), &["llama.block_count", "2 is no boolean"]),
        ("a NaN", |f| f.keys[2].1 = value(F32, &f32::NAN.to_le_bytes()), &["llama.eps", "NaN"]),
        ("an infinity", |f| f.keys[2].1 = value(F32, &f32::INFINITY.to_le_bytes()), &["llama.eps", "inf"]),
        ("a NaN in an array", |f| f.keys[2].1 = array(F32, 1, &f32::NAN.to_le_bytes()), &["llama.eps", "element 0", "NaN"]),
        ("text that is no UTF-8", |f| f.keys[0].1 = value(STRING, &string(b"\xff\xfe")), &["general.architecture", "UTF-8"]),
        ("a token that is no UTF-8", |f| f.keys[3].1 = array(STRING, 2, &[string(b"a"), string(b"\xc3")].concat()), &["tokenizer.ggml.tokens", "element 1", "UTF-8"]),
        ("an endless string", |f| f.keys[0].1 = value(STRING, &u64::MAX.to_le_bytes()), &["general.architecture", "past the end"]),
        ("alignment 0", |f| f.keys.push(("general.alignment".into(), value(U32, &0u32.to_le_bytes()))), &["general.alignment", "power of two"]),
        ("alignment 48", |f| f.keys.push(("general.alignment".into(), value(U32, &48u32.to_le_bytes()))), &["general.alignment", "power of two"]),
        ("alignment in words", |f| f.keys.push(("general.alignment".into(), value(STRING, &string(b"32")))), &["general.alignment"]),
        ("an alignment past the end", |f| f.keys.push(("general.alignment".into(), value(U32, &(1u32 << 31).to_le_bytes()))), &["m.gguf"]),
        ("five dimensions", |f| f.tensors[0].dims = vec![2; 5], &["tensor a", "5 dimensions"]),
        ("an absurd rank", |f| f.tensors[0].dims = vec![1; 300], &["tensor a", "300 dimensions"]),
        ("an overflowing shape", |f| f.tensors[0].dims = vec![1 << 32, 1 << 32], &["tensor a", "too large"]),
        ("a shape that overflows in bytes", |f| f.tensors[0].dims = vec![1 << 62], &["tensor a", "too large"]),
        ("an overflow hidden by a zero", |f| f.tensors[0].dims = vec![1 << 40, 1 << 40, 0], &["tensor a", "too large"]),
        ("a shape larger than the file", |f| f.tensors[0].dims = vec![1 << 40], &["tensor a", "the file has"]),
        ("rows that cut a block", |f| f.tensors[1].dims = vec![48, 2], &["tensor b", "rows of 48", "Q8_0"]),
        ("a tensor that cuts a block", |f| f.tensors[1].dims = vec![33], &["tensor b", "cuts a block"]),
        ("an odd offset", |f| f.tensors[1].offset = 33, &["tensor b", "33", "alignment 32"]),
        ("an offset past the end", |f| f.tensors[1].offset = 1 << 40, &["tensor b", "the file has"]),
        ("an overflowing offset", |f| f.tensors[1].offset = u64::MAX - 31, &["tensor b", "past the end"]),
        ("tensors that overlap", |f| f.tensors[1].offset = 0, &["a and b overlap"]),
        ("an unsupported tensor inside another", |f| f.tensors[2].offset = 64, &["b and c overlap"]),
        ("a file cut in its last tensor", |f| f.cut = 78, &["tensor b", "the file has"]),
        ("a name with terminal codes", |f| { f.tensors[0].name = "\x1b[2J".into(); f.tensors[0].dims = vec![1; 5]; }, &["tensor \\u{1b}[2J"]),
        ("an endless name", |f| { f.tensors[0].name = "x".repeat(100_000); f.tensors[0].dims = vec![1; 5]; }, &["xxx..."]),
    ];
    for (case, spoil, words) in cases {
        let mut file = gguf();
        spoil(&mut file);
        refused(case, file.source(), "m.gguf", words);
    }
}

#[test]
fn a_file_cut_off_anywhere_in_its_header_is_refused() {
    let whole = gguf().bytes();
    let tensors_end = whole.len() - 18;
    for length in 0..tensors_end {
        let source = MemorySource::default().with("m.gguf", &whole[..length]);
        refused(&format!("cut to {length}"), source, "m.gguf", &["m.gguf"]);
    }
}

/// The memory for an array is bounded by the file, not by what its elements grow to.
#[test]
fn an_array_of_millions_of_bytes_is_refused() {
    let mut file = gguf();
    let count = 3_000_000;
    file.keys.push(("t.bytes".into(), array(U8, count, &vec![1; count as usize])));
    refused("bytes", file.source(), "m.gguf", &["t.bytes", "3000000 elements"]);
}

#[test]
fn a_header_of_several_windows_is_read_whole() {
    let tokens: Vec<u8> = (0..50_000).flat_map(|i| string(format!("token number {i:0>40}").as_bytes())).collect();
    let mut file = gguf();
    file.keys[3].1 = array(STRING, 50_000, &tokens);
    let checkpoint = open(file.source(), "m.gguf").unwrap();
    let tokens = checkpoint.config()["tokenizer.ggml.tokens"].as_array().unwrap();
    assert_eq!(tokens[49_999], format!("token number {:0>40}", 49_999));
    assert_eq!(checkpoint.tensor("a").unwrap().bytes(), 32);
}

#[test]
fn unsupported_formats_are_an_error_when_asked_for() {
    let checkpoint = open(gguf().source(), "m.gguf").unwrap();
    assert_eq!(checkpoint.unsupported_tensors().collect::<Vec<_>>(), [("c", "IQ4_NL")]);
    for message in [checkpoint.tensor("c").unwrap_err().to_string(), checkpoint.find("c").unwrap_err().to_string()] {
        assert!(message.contains("tensor c") && message.contains("IQ4_NL"), "{message}");
        assert!(message.contains("supported are F32") && message.contains("Q6_K"), "{message}");
    }
    assert!(checkpoint.find("d").unwrap().is_none());
    let message = checkpoint.tensor("d").unwrap_err().to_string();
    assert!(message.contains("tensor d") && message.contains("missing from m.gguf"), "{message}");
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let part = |number: u16, count: u16, total: u32, name: &str| {
        let mut file = build::gguf();
        file.keys = vec![
            ("split.no".into(), value(2, &number.to_le_bytes())),
            ("split.count".into(), value(2, &count.to_le_bytes())),
            ("split.tensors.count".into(), value(5, &total.to_le_bytes())),
        ];
        file.tensors.truncate(1);
        file.tensors[0].name = name.into();
        file.bytes()
    };
    let first = "m-00001-of-00002.gguf";
    let second = "m-00002-of-00002.gguf";
    let pair = |a: Vec<u8>, b: Vec<u8>| MemorySource::default().with(first, a).with(second, b);

    for entry in [first, second] {
        let whole = open(pair(part(0, 2, 2, "a"), part(1, 2, 2, "b")), entry).unwrap();
        assert_eq!(whole.file(), first);
        assert_eq!(&*whole.tensor("b").unwrap().file, second);
    }
    let alone = MemorySource::default().with(first, part(0, 2, 2, "a"));
    refused("a missing part", alone, first, &[second, "no such file"]);
    let alone = MemorySource::default().with(second, part(1, 2, 2, "a"));
    refused("a missing first part", alone, second, &[first, "no such file"]);
    let renamed = MemorySource::default().with("m.gguf", part(0, 2, 2, "a"));
    refused("a renamed part", renamed, "m.gguf", &["one of 2 parts", "00001-of-00002"]);
    let swapped = pair(part(1, 2, 2, "a"), part(0, 2, 2, "b"));
    refused("swapped parts", swapped, first, &[first, "split.no is 1"]);
    let other = pair(part(0, 2, 2, "a"), part(1, 3, 2, "b"));
    refused("a part of another set", other, first, &[second, "split.count is 3"]);
    let no_split = pair(gguf().bytes(), part(1, 2, 2, "b"));
    refused("a whole file named like a part", no_split, first, &[first, "split.count is missing"]);
    let too_few = pair(part(0, 2, 3, "a"), part(1, 2, 3, "b"));
    refused("a tensor too few", too_few, first, &["split.tensors.count is 3", "2 tensors"]);
    let twice = pair(part(0, 2, 2, "a"), part(1, 2, 2, "a"));
    refused("a tensor in two parts", twice, first, &[second, "tensor a", "twice"]);
}
