//! The parts of the tokenizer, and files that lie; whole vocabularies are compared with the references in
//! `tests/text.rs`.

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// A byte-level vocabulary: the whole alphabet, two merges and three special tokens.
fn byte_level() -> Map<String, Value> {
    let printable = (0x21..=0x7e_u32).chain(0xa1..=0xac).chain(0xae..=0xff);
    let alphabet = printable.chain(0x100..0x144).map(|code| char::from_u32(code).unwrap().to_string());
    let mut tokens: Vec<String> = alphabet.collect();
    tokens.extend(["ab", "abc", "<|im_end|>", "</s>", "<think>"].map(str::to_owned));
    let mut types = vec![1; 258];
    types.extend([3, 1, 4]);
    let metadata = json!({
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": ["a b", "ab c"],
        "tokenizer.ggml.eos_token_id": 0,
    });
    metadata.as_object().unwrap().clone()
}

/// A SentencePiece vocabulary with all byte pieces.
fn sentence_piece() -> Map<String, Value> {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "a", "b", "▁a", "ab", "▁ab"].map(str::to_owned));
    let mut types = vec![2, 3, 3];
    types.extend([6; 256]);
    types.extend([1; 6]);
    let scores: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let metadata = json!({
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.scores": scores,
    });
    metadata.as_object().unwrap().clone()
}

fn gguf(metadata: &Map<String, Value>) -> Tokenizer {
    Tokenizer::from_gguf(metadata).unwrap()
}

/// The ids of single bytes in a SentencePiece vocabulary.
fn byte_ids(bytes: &[u8]) -> Vec<u32> {
    bytes.iter().map(|&byte| 3 + u32::from(byte)).collect()
}

#[test]
fn a_character_is_given_out_whole() {
    let tokenizer = gguf(&sentence_piece());
    let mut stream = DecodeStream::new(&tokenizer);
    let mut push = |bytes: &[u8]| byte_ids(bytes).into_iter().map(|id| stream.push(id)).collect::<Vec<_>>();
    assert_eq!(push("é".as_bytes()), [None, Some("é".to_owned())]);
    assert_eq!(push("😀".as_bytes()), [None, None, None, Some("😀".to_owned())]);
    // What can never become a character gives way as soon as that is certain.
    assert_eq!(push(b"\xf0\x9f\x41"), [None, None, Some("\u{fffd}A".to_owned())]);
    assert_eq!(push(b"\xff"), [Some("\u{fffd}".to_owned())]);
    assert_eq!(push(b"\xe2\x82"), [None, None]);
    assert_eq!(stream.flush(), Some("\u{fffd}".to_owned()));
    assert_eq!(stream.flush(), None);
}

#[test]
fn only_a_text_of_its_own_loses_the_first_space() {
    let tokenizer = gguf(&sentence_piece());
    let ids = tokenizer.encode("ab ab", false).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "ab ab");
    let continued: String = {
        let mut stream = DecodeStream::continuing(&tokenizer);
        ids.iter().filter_map(|&id| stream.push(id)).collect()
    };
    assert_eq!(continued, " ab ab");
    assert_eq!(tokenizer.decode(&[1, ids[0], 2, ids[0]]).unwrap(), "ab ab", "special tokens are no text");
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [1, ids[0]]);

    let mut plain = sentence_piece();
    plain.insert("tokenizer.ggml.add_space_prefix".to_owned(), json!(false));
    plain.insert("tokenizer.ggml.add_bos_token".to_owned(), json!(false));
    plain.insert("tokenizer.ggml.add_eos_token".to_owned(), json!(true));
    let plain = gguf(&plain);
    assert_eq!(plain.decode(&[plain.token_id("▁ab").unwrap()]).unwrap(), " ab");
    assert_eq!(plain.encode("ab", true).unwrap(), [plain.token_id("ab").unwrap(), 2]);
}

#[test]
fn special_tokens_are_found_in_text_and_have_none() {
    let tokenizer = gguf(&byte_level());
    let id = |token| tokenizer.token_id(token).unwrap();
    let ids = tokenizer.encode("abc<|im_end|><think>", true).unwrap();
    assert_eq!(ids, [id("abc"), id("<|im_end|>"), id("<think>")]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "abc<think>");
    assert_eq!(tokenizer.token(id("abc")).as_deref(), Some("abc"));
    // The configured one and the well-known one; "</s>" is an ordinary token here.
    assert_eq!(tokenizer.end_ids(), [0, id("<|im_end|>")]);
    assert_eq!(tokenizer.bos(), None);
    let beyond = tokenizer.vocab_size() as u32;
    assert!(tokenizer.decode(&[beyond]).unwrap_err().to_string().contains("outside the vocabulary"));
}

#[test]
fn long_runs_are_encoded_in_reasonable_time() {
    for metadata in [byte_level(), sentence_piece()] {
        let tokenizer = gguf(&metadata);
        for text in [" ".repeat(200_000), " ".repeat(200_000) + "x", "ab".repeat(100_000), "\n".repeat(200_000)] {
            let ids = tokenizer.encode(&text, false).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }
}

#[test]
fn stop_strings_are_never_shown() {
    let mut stops = StopStrings::new(vec!["<end>".to_owned(), "\n\nQ".to_owned()]).unwrap();
    assert_eq!(stops.push("a <"), ("a ".to_owned(), false));
    assert_eq!(stops.push("en"), (String::new(), false));
    assert_eq!(stops.push("x<e<"), ("<enx<e".to_owned(), false));
    assert_eq!(stops.push("end> more"), (String::new(), true));
    assert_eq!(stops.push("more"), (String::new(), true));
    assert_eq!(stops.flush(), "");

    let mut stops = StopStrings::new(vec!["éé".to_owned(), "é!".to_owned()]).unwrap();
    assert_eq!(stops.push("xé"), ("x".to_owned(), false));
    assert_eq!(stops.push("?é"), ("é?".to_owned(), false));
    assert_eq!(stops.flush(), "é");

    let mut none = StopStrings::new(Vec::new()).unwrap();
    assert_eq!(none.push("all"), ("all".to_owned(), false));
    assert!(StopStrings::new(vec![String::new()]).is_err());
}

proptest! {
    /// However the text is cut, what is shown is the text before the first stop string.
    #[test]
    fn stop_strings_do_not_depend_on_the_cuts(text in "[abé]{0,24}", cuts in prop::collection::vec(1..4_usize, 24)) {
        let stops = ["aba", "bé", "éaé"];
        let mut watch = StopStrings::new(stops.map(str::to_owned).to_vec()).unwrap();
        let (mut shown, mut characters, mut stopped) = (String::new(), text.chars(), false);
        for cut in cuts {
            let part: String = characters.by_ref().take(cut).collect();
            let (more, now) = watch.push(&part);
            shown += &more;
            stopped = now;
        }
        let first = stops.iter().filter_map(|stop| text.find(stop)).min();
        prop_assert_eq!(stopped, first.is_some());
        shown += &watch.flush();
        prop_assert_eq!(shown, &text[..first.unwrap_or(text.len())]);
    }
}

/// That `metadata` with `key` changed is refused with an error that names the key and says `part`.
fn check_gguf(metadata: Map<String, Value>, key: &str, value: Value, part: &str) {
    let mut metadata = metadata;
    let key = format!("tokenizer.ggml.{key}");
    if value.is_null() {
        metadata.remove(&key)
    } else {
        metadata.insert(key.clone(), value.clone())
    };
    let error = Tokenizer::from_gguf(&metadata).expect_err(part).to_string();
    assert!(error.contains(&key) && error.contains(part), "{key} = {value}: {error}");
}

#[test]
fn gguf_files_that_lie_are_refused() {
    let cases = [
        ("model", json!(null), "missing"),
        ("model", json!("bert"), "\"bert\""),
        ("model", json!(3), "not a string"),
        ("pre", json!(null), "missing"),
        ("pre", json!("kimi-k2"), "llama-bpe"),
        ("tokens", json!(null), "missing"),
        ("tokens", json!([]), "0 entries"),
        ("tokens", json!("abc"), "not an array"),
        ("tokens", json!([1, 2]), "entry 0 is not a string"),
        ("tokens", json!(["a", "b", "a"]), "entry 2 repeats"),
        ("token_type", json!([1, 1]), "2 entries"),
        ("token_type", json!(vec![9; 261]), "entry 0 is 9"),
        ("token_type", json!(vec!["x"; 261]), "no known type"),
        ("merges", json!(null), "missing"),
        ("merges", json!(["ab"]), "entry 0"),
        ("merges", json!(["a b", 7]), "entry 1"),
        ("merges", json!(["a b", ""]), "entry 1"),
        ("merges", json!(["a zz"]), "\"zz\""),
        ("merges", json!(["b a"]), "\"ba\""),
        ("merges", json!(["a b c"]), "\"b c\""),
        ("eos_token_id", json!(261), "outside"),
        ("bos_token_id", json!(-7), "outside"),
        ("bos_token_id", json!("1"), "not a token id"),
        ("eot_token_id", json!(4294967294_u64), "outside"),
        ("eot_token_id", json!(u64::MAX), "not a token id"),
        ("add_bos_token", json!(1), "true or false"),
        ("add_bos_token", json!(true), "no id"),
    ];
    for (key, value, part) in cases {
        check_gguf(byte_level(), key, value, part);
    }
    check_gguf(sentence_piece(), "scores", json!(null), "missing");
    check_gguf(sentence_piece(), "scores", json!([0.5]), "1 entries");
    check_gguf(sentence_piece(), "scores", json!(vec![json!(null); 265]), "entry 0");
    check_gguf(sentence_piece(), "unknown_token_id", json!(1000), "outside");
    check_gguf(sentence_piece(), "add_space_prefix", json!("yes"), "true or false");
    assert_eq!(
        gguf(&{
            let mut none = byte_level();
            none.insert("tokenizer.ggml.bos_token_id".into(), json!(-1));
            none
        })
        .bos(),
        None
    );
}

#[test]
fn tokens_without_a_name_get_one() {
    let mut metadata = byte_level();
    metadata["tokenizer.ggml.tokens"][257] = json!("");
    metadata["tokenizer.ggml.tokens"][259] = json!("");
    metadata["tokenizer.ggml.merges"] = json!([]);
    assert_eq!(gguf(&metadata).token_id("[EMPTY_259]"), Some(259));
}

fn tokenizer_json() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [
            {"id": 4, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 5, "content": "<|eot|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
        ],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "▁?[a-z]+|."}, "behavior": "Isolated", "invert": false},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
        "model": {"type": "BPE", "dropout": 0.9, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "vocab": {"a": 0, "b": 1, "▁": 2, "ab": 3}, "merges": [["a", "b"]]}
    })
}

fn huggingface(file: &Value, tokenizer_config: Value, config: Value, generation_config: Value) -> Result<Tokenizer> {
    let config = config.as_object().unwrap();
    Tokenizer::from_huggingface(file.to_string().as_bytes(), Some(&tokenizer_config), config, Some(&generation_config))
}

#[test]
fn huggingface_files_are_understood() {
    let plain = huggingface(&tokenizer_json(), json!({}), json!({}), json!({})).unwrap();
    // Neither truncated, nor padded, nor with merges left out by chance.
    for _ in 0..20 {
        assert_eq!(plain.encode("ab ab", true).unwrap(), [4, 2, 3, 2, 3]);
    }
    assert_eq!(plain.encode("ab", false).unwrap(), [2, 3]);
    assert_eq!(plain.decode(&[4, 2, 3, 2, 3, 5]).unwrap(), "ab ab");
    assert_eq!((plain.end_ids(), plain.bos(), plain.vocab_size()), (&[5][..], None, 6));

    let tokenizer_config =
        json!({"bos_token": {"content": "<s>"}, "eos_token": "b", "add_bos_token": false, "add_eos_token": true});
    let config = json!({"eos_token_id": 3, "text_config": {"vocab_size": 16}});
    let told = huggingface(&tokenizer_json(), tokenizer_config, config, json!({"eos_token_id": [0, 3]})).unwrap();
    assert_eq!(told.encode("ab", true).unwrap(), [2, 3, 1]);
    assert_eq!((told.end_ids(), told.bos(), told.vocab_size()), (&[0, 1, 3, 5][..], Some(4), 16));
    assert_eq!(told.decode(&[15, 2, 3]).unwrap(), "ab", "padding of the vocabulary has no text");
}

#[test]
fn huggingface_files_that_lie_are_refused() {
    let cases: [(&str, Value, &str); 21] = [
        ("/model/type", json!("Unigram"), "only \"BPE\""),
        ("/model/vocab", json!([]), "model.vocab"),
        ("/model/vocab/a", json!(-1), "\"a\""),
        ("/model/vocab/a", json!(4294967295_u64), "\"a\""),
        ("/model/vocab/b", json!(99), ""),
        ("/model/merges", json!([["a", "zz"]]), "zz"),
        ("/model/merges", json!([["ab", "ab"]]), "merges"),
        ("/model/merges", json!(["a"]), "a"),
        ("/model/merges", json!([5]), "tokenizer.json"),
        ("/model/continuing_subword_prefix", json!("##"), "merges"),
        ("/model", json!({}), "vocab"),
        ("/added_tokens/0/id", json!(3), "declared as 3"),
        ("/added_tokens/0/id", json!(4294967295_u64), "<s>"),
        ("/added_tokens/0/content", json!(5), "tokenizer.json"),
        ("/pre_tokenizer", json!({"type": "FixedLength", "length": 0}), "FixedLength"),
        ("/pre_tokenizer", json!({"type": "Sequence", "pretokenizers": [{"type": "FixedLength", "length": 0}]}), "FixedLength"),
        ("/pre_tokenizer/pattern/Regex", json!("("), "tokenizer.json"),
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "Precompiled"),
        ("/post_processor/special_tokens/<s>/ids", json!([77]), "post_processor"),
        ("/decoder", json!({"type": "WordPiece", "prefix": "##", "cleanup": true}), "WordPiece"),
        ("/decoder", json!(null), "decoder"),
    ];
    for (pointer, value, part) in cases {
        let mut file = tokenizer_json();
        *file.pointer_mut(pointer).unwrap() = value.clone();
        match huggingface(&file, json!({}), json!({}), json!({})) {
            // A gap in the ids is no lie.
            Ok(tokenizer) => assert!(part.is_empty() && tokenizer.vocab_size() == 100, "{pointer} = {value}"),
            Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{pointer} = {value}: {error}"),
        }
    }
    let neighbours = [
        (json!({"eos_token": "nothing"}), json!({}), json!({}), "tokenizer_config.json: eos_token"),
        (json!({"bos_token": 5}), json!({}), json!({}), "tokenizer_config.json: bos_token"),
        (json!({}), json!({"eos_token_id": 6}), json!({}), "config.json: eos_token_id"),
        (json!({}), json!({}), json!({"eos_token_id": [1, "x"]}), "generation_config.json: eos_token_id"),
    ];
    for (tokenizer_config, config, generation_config, part) in neighbours {
        let error = huggingface(&tokenizer_json(), tokenizer_config, config, generation_config).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
    for bytes in [&b""[..], b"{", b"[]", b"\xff\xfe", &b"[".repeat(100_000)] {
        assert!(matches!(Tokenizer::from_huggingface(bytes, None, &Map::new(), None), Err(Error::Tokenizer(_))));
    }
}

/// Any value of a JSON document, by its place in reading order, replaced by `with`.
fn mutate(value: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *value = with.clone();
    }
    *place = place.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mutate(item, place, with)),
        Value::Object(items) => items.values_mut().for_each(|item| mutate(item, place, with)),
        _ => {}
    }
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!("▁▁▁▁▁▁▁▁▁")),
        Just(json!("a b")),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(5)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!(true)),
    ]
}

proptest! {
    /// A changed file gives a tokenizer or an error; the tokenizer encodes or gives an error.
    #[test]
    fn changed_huggingface_files_never_panic(places in prop::collection::vec((0..110_usize, anything()), 1..3)) {
        let mut file = tokenizer_json();
        for (mut place, with) in places {
            mutate(&mut file, &mut place, &with);
        }
        if let Ok(tokenizer) = huggingface(&file, json!({}), json!({}), json!({}))
            && let Ok(ids) = tokenizer.encode("ab ba <s> é ", true)
        {
            tokenizer.decode(&ids).unwrap();
        }
    }

    #[test]
    fn changed_gguf_metadata_never_panics(spm: bool, places in prop::collection::vec((0..1100_usize, anything()), 1..3)) {
        let mut metadata = Value::Object(if spm { sentence_piece() } else { byte_level() });
        for (mut place, with) in places {
            mutate(&mut metadata, &mut place, &with);
        }
        if let Some(metadata) = metadata.as_object()
            && let Ok(tokenizer) = Tokenizer::from_gguf(metadata)
            && let Ok(ids) = tokenizer.encode("ab ba <|im_end|> é ", true)
        {
            tokenizer.decode(&ids).unwrap();
        }
    }
}
