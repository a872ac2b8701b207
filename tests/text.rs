//! Tokenizers, decoding and chat templates against what the references made of the same input
//! (`tests/golden/text/make.py`).

#[path = "common/demo_model.rs"]
mod demo_model;

use demo_model::demo_model;
use moxel::chat_template::{ChatTemplate, Message};
use moxel::tokenizer::{DecodeStream, Tokenizer};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const VOCABULARIES: [&str; 6] = ["gpt-2", "smollm", "llama-bpe", "llama4", "qwen2", "sentencepiece"];

fn golden_path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/text", name].iter().collect()
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(golden_path(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn sequences(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The same vocabulary from both kinds of file.
fn both_tokenizers(golden: &Value) -> [(&'static str, Tokenizer); 2] {
    let tokenizer_json = golden["tokenizer_json"].to_string();
    [
        ("tokenizer.json", Tokenizer::from_huggingface(tokenizer_json.as_bytes(), None, &Map::new(), None).unwrap()),
        ("GGUF", Tokenizer::from_gguf(golden["gguf"].as_object().unwrap()).unwrap()),
    ]
}

/// How many of `texts` are not encoded into `ids`, each reported.
fn differences(what: &str, tokenizer: &Tokenizer, special: bool, texts: &[&str], ids: &[Vec<u32>]) -> usize {
    assert_eq!(texts.len(), ids.len());
    let wrong = texts.iter().zip(ids).filter(|(text, ids)| {
        let got = tokenizer.encode(text, special).unwrap();
        let differs = got != **ids;
        if differs {
            eprintln!("{what}: {text:?}\n  expected {ids:?}\n  got      {got:?}");
        }
        differs
    });
    wrong.count()
}

#[test]
fn ids_are_the_references() {
    let mut wrong = 0;
    for name in VOCABULARIES {
        let golden = golden(&format!("{name}.json"));
        let texts = strings(&golden["texts"]);
        for (kind, tokenizer) in both_tokenizers(&golden) {
            let what = format!("{name} from {kind}");
            wrong += differences(&what, &tokenizer, false, &texts, &sequences(&golden["ids"]));
            wrong += differences(&what, &tokenizer, true, &texts, &sequences(&golden["ids_with_special"]));
        }
    }
    assert_eq!(wrong, 0, "texts with other ids");
}

#[test]
fn the_comparison_of_ids_notices_a_difference() {
    let golden = golden("gpt-2.json");
    let [(_, tokenizer), _] = both_tokenizers(&golden);
    let texts = strings(&golden["texts"]);
    let mut ids = sequences(&golden["ids"]);
    ids[2][1] ^= 1;
    assert_eq!(differences("altered on purpose", &tokenizer, false, &texts, &ids), 1);
}

#[test]
fn text_is_the_references() {
    for name in VOCABULARIES {
        let golden = golden(&format!("{name}.json"));
        for (kind, tokenizer) in both_tokenizers(&golden) {
            for (ids, text) in sequences(&golden["decode_ids"]).iter().zip(strings(&golden["decoded"])) {
                assert_eq!(tokenizer.decode(ids).unwrap(), text, "{name} from {kind}: {ids:?}");
            }
        }
    }
}

#[test]
fn streams_give_the_same_text_in_whole_characters() {
    for name in VOCABULARIES {
        let golden = golden(&format!("{name}.json"));
        let [_, (_, tokenizer)] = both_tokenizers(&golden);
        for (text, ids) in strings(&golden["texts"]).into_iter().zip(sequences(&golden["ids"])) {
            let mut stream = DecodeStream::new(&tokenizer);
            let parts: Vec<String> = ids.iter().filter_map(|&id| stream.push(id)).collect();
            assert!(parts.iter().all(|part| !part.is_empty() && (!part.contains('\u{fffd}') || text.contains('\u{fffd}'))));
            assert_eq!(stream.flush(), None, "{name}: {text:?}");
            assert_eq!(parts.concat(), tokenizer.decode(&ids).unwrap(), "{name}: {text:?}");
        }
    }
}

/// Needs the demo model itself: its vocabulary is too large to be stored here.
#[test]
fn smollm2_ids_and_text_are_the_references() {
    let Some(path) = demo_model(Path::new(env!("CARGO_MANIFEST_DIR"))) else { return };
    let (source, entry) = moxel::weights::open_path(&path).unwrap();
    let checkpoint = pollster::block_on(moxel::weights::Checkpoint::open(source, &entry)).unwrap();
    let tokenizer = Tokenizer::from_gguf(checkpoint.config()).unwrap();
    let golden = golden("smollm2.json");
    let ids = sequences(&golden["ids"]);
    assert_eq!(differences("SmolLM2", &tokenizer, true, &strings(&golden["texts"]), &ids), 0);
    for (ids, text) in ids.iter().zip(strings(&golden["decoded"])) {
        assert_eq!(tokenizer.decode(ids).unwrap(), text);
    }
    assert_eq!(tokenizer.end_ids(), [0, 2, 4], "as llama.cpp has it: end of text, of a message, and a repository's name");
    assert_eq!(tokenizer.bos(), Some(1));
    let template = ChatTemplate::from_gguf(checkpoint.config()).unwrap().unwrap();
    let prompt = template.render(&[Message::new("user", "Hi")], true).unwrap();
    assert!(prompt.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "{prompt}");
}

#[test]
fn templates_render_as_in_transformers() {
    let golden = golden("templates.json");
    let mut wrong = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let source = std::fs::read_to_string(golden_path("templates").join(name)).unwrap();
        let template = ChatTemplate::new(&source, Some("<BOS>"), Some("<EOS>")).unwrap();
        let template = template.with_now(golden["now"].as_i64().unwrap());
        let chat = case["chat"].as_str().unwrap();
        let messages: Vec<Message> = golden["chats"][chat]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| Message::new(message["role"].as_str().unwrap(), message["content"].as_str().unwrap()))
            .collect();
        let rendered = template.render(&messages, case["add_generation_prompt"].as_bool().unwrap());
        let expected = case["rendered"].as_str();
        if rendered.as_deref().ok() != expected {
            eprintln!("{name}, {chat}:\n{:?}\n{rendered:?}\n", expected.ok_or(&case["error"]));
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0, "prompts that differ");
}

#[test]
fn expressions_mean_what_they_mean_in_jinja() {
    let golden = golden("templates.json");
    let mut wrong = 0;
    for case in golden["expressions"].as_array().unwrap() {
        let [source, expected] = strings(case)[..] else { panic!("{case}") };
        let rendered =
            ChatTemplate::new(source, None, None).and_then(|template| template.render(&[Message::new("user", "Hi")], false));
        if rendered.as_deref().ok() != Some(expected) {
            eprintln!("{source}\n  expected {expected:?}\n  got      {rendered:?}");
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0, "expressions that differ");
}
