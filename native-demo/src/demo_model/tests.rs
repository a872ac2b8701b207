//! The demo model against the checkpoint that the recipe's own builder makes, and against what transformers computes with it.

#[path = "../../../tests/common/demo_model.rs"]
mod parent_file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moxel::chat_template::Message;
use moxel::tokenizer::Tokenizer;
use moxel::weights::{Checkpoint, DType, WeightSource};
use moxel::{Engine, EngineOptions, Gpu, GpuOptions, Logits, Precision, Routing};
use pollster::block_on;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{hex, open};

/// Largest difference of a log-probability that is accepted. Both sides compute in f32, in another order; the reference's
/// numbers are rounded to five decimals.
const LOG_PROBABILITY_BOUND: f32 = 5e-4;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn demo() -> Option<Arc<dyn WeightSource>> {
    let path = parent_file::demo_model(&repository())?;
    Some(block_on(open(&path)).unwrap_or_else(|e| panic!("{e}")))
}

/// A tensor of the reference's checkpoint.
#[derive(Deserialize)]
struct ReferenceTensor {
    shape: Vec<usize>,
    sha256: String,
}

/// Every tensor is the reference's, to the last bit, and there is no other.
#[test]
fn tensors_are_the_references() {
    let Some(source) = demo() else { return };
    let reference: BTreeMap<String, ReferenceTensor> =
        serde_json::from_str(include_str!("../../tests/demo_moe/tensors.json")).expect("a list of tensors");
    let checkpoint = block_on(Checkpoint::open(source, "")).expect("the demo model opens");
    assert_eq!(checkpoint.unsupported_tensors().count(), 0);
    let mut compared = 0;
    for tensor in checkpoint.tensors() {
        let expected = reference.get(&tensor.name).unwrap_or_else(|| panic!("{} is not in the reference", tensor.name));
        assert_eq!((tensor.dtype, &tensor.shape), (DType::BF16, &expected.shape), "{}", tensor.name);
        let bytes = block_on(checkpoint.read(tensor, 0..tensor.bytes())).expect("it can be read");
        assert_eq!(hex(&Sha256::digest(&bytes)), expected.sha256, "{}", tensor.name);
        // One value that differs in its last bit would be seen.
        let mut wrong = bytes;
        wrong[0] ^= 1;
        assert_ne!(hex(&Sha256::digest(&wrong)), expected.sha256, "{}", tensor.name);
        compared += 1;
    }
    assert_eq!(compared, reference.len());
}

/// One conversation as the reference has it: the prompt, its greedy answer, and what it thinks at every position.
#[derive(Deserialize)]
struct Conversation {
    message: String,
    prompt_ids: Vec<u32>,
    /// Prompt and answer.
    ids: Vec<u32>,
    top_ids: Vec<Vec<usize>>,
    top_logprobs: Vec<Vec<f32>>,
    /// The chosen expert of each position, by layer.
    experts: BTreeMap<usize, Vec<u32>>,
}

impl Conversation {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../../tests/demo_moe/expected.json")).expect("a list of conversations")
    }

    /// Whether a model's logits and routing are the reference's, and what is not.
    fn check(&self, got: &Logits) -> Result<(), String> {
        let vocab = got.logits.len() / self.ids.len();
        let mut largest = 0f32;
        for (t, row) in got.logits.chunks_exact(vocab).enumerate() {
            let most = row.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
            let total = row.iter().map(|&logit| f64::from(logit - most).exp()).sum::<f64>().ln() as f32 + most;
            for (&id, &expected) in self.top_ids[t].iter().zip(&self.top_logprobs[t]) {
                let difference = (row[id] - total - expected).abs();
                largest = if difference.is_nan() { f32::INFINITY } else { largest.max(difference) };
            }
            if t + 1 >= self.prompt_ids.len() && t + 1 < self.ids.len() {
                let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or_default();
                if best != self.ids[t + 1] as usize {
                    return Err(format!("token {} would be {best} and not {}", t + 1, self.ids[t + 1]));
                }
            }
        }
        println!("{}: log-probabilities differ by at most {largest:.1e}", self.message);
        if largest > LOG_PROBABILITY_BOUND {
            return Err(format!("log-probabilities differ by {largest}"));
        }
        if got.routing.len() != self.experts.len() {
            return Err(format!("{} MoE layers for {}", got.routing.len(), self.experts.len()));
        }
        for routing in &got.routing {
            if self.experts.get(&routing.layer) != Some(&routing.ids) {
                return Err(format!("other experts in layer {}", routing.layer));
            }
        }
        Ok(())
    }
}

/// Without packing, in exact precision: prompts, log-probabilities, greedy tokens and experts are the reference's.
#[test]
fn the_model_says_what_the_reference_says() {
    let Some(source) = demo() else { return };
    let gpu = block_on(Gpu::new(&GpuOptions::default())).expect("an adapter");
    let options = EngineOptions { precision: Precision::Exact, context: Some(128), ..EngineOptions::default() };
    let engine = block_on(Engine::load(&gpu, source, "", &options, &mut |_| {})).expect("it loads");
    let mut session = engine.session().expect("a session");
    for conversation in Conversation::all() {
        let prompt = engine.chat_prompt(&[Message::new("user", &*conversation.message)]).expect("a prompt");
        assert_eq!(prompt, conversation.prompt_ids, "{}", conversation.message);
        session.rewind(0);
        let logits = block_on(session.logits(&conversation.ids)).expect("logits");
        conversation.check(&logits).unwrap_or_else(|e| panic!("{}: {e}", conversation.message));
    }
}

/// The check accepts what the reference lists, and neither a wrong token, expert or log-probability nor a NaN.
#[test]
fn the_check_fails_where_it_must() {
    const VOCABULARY: usize = 49_152;
    let mut conversations = Conversation::all();
    let conversation = &mut conversations[0];
    let mut got = Logits::default();
    for (t, (ids, logprobs)) in conversation.top_ids.iter().zip(&conversation.top_logprobs).enumerate() {
        // What the listed tokens leave, spread evenly over the others.
        let listed: f32 = logprobs.iter().map(|p| p.exp()).sum();
        got.logits.resize((t + 1) * VOCABULARY, ((1.0 - listed).max(1e-9) / (VOCABULARY - ids.len()) as f32).ln());
        ids.iter().zip(logprobs).for_each(|(&id, &p)| got.logits[t * VOCABULARY + id] = p);
    }
    got.routing = conversation.experts.iter().map(|(&layer, ids)| Routing { layer, ids: ids.clone(), weights: vec![] }).collect();
    conversation.check(&got).expect("the reference itself");
    got.routing[3].ids[7] ^= 1;
    assert!(conversation.check(&got).is_err());
    got.routing[3].ids[7] ^= 1;
    let id = conversation.top_ids[0][5];
    let right = got.logits[id];
    for wrong in [right + 0.05, f32::NAN] {
        got.logits[id] = wrong;
        assert!(conversation.check(&got).is_err());
    }
    got.logits[id] = right;
    conversation.check(&got).expect("the reference again");
    *conversation.ids.last_mut().expect("a token") ^= 1;
    assert!(conversation.check(&got).is_err());
}

/// The tokenizer in Hugging Face's form and the parent's own give the same ids, text and ends.
#[test]
fn the_tokenizer_is_the_parents() {
    let Some(path) = parent_file::demo_model(&repository()) else { return };
    let (source, entry) = moxel::weights::open_path(&path).expect("the parent");
    let parent = block_on(Checkpoint::open(source, &entry)).expect("the parent opens");
    let parents = Tokenizer::from_gguf(parent.config()).expect("the parent's tokenizer");
    let files = super::side_files::side_files(parent.config()).expect("text files");
    let json = |name: &str| serde_json::from_slice::<Value>(&files[name]).expect("JSON");
    let config = json("config.json");
    let ours = Tokenizer::from_huggingface(
        &files["tokenizer.json"],
        Some(&json("tokenizer_config.json")),
        config.as_object().expect("an object"),
        Some(&json("generation_config.json")),
    )
    .expect("the demo model's tokenizer");
    assert_eq!((ours.vocab_size(), ours.bos(), ours.end_ids()), (parents.vocab_size(), parents.bos(), parents.end_ids()));
    let golden = std::fs::read(repository().join("tests/golden/text/smollm2.json")).expect("golden texts");
    let golden: Value = serde_json::from_slice(&golden).expect("JSON");
    let texts = golden["texts"].as_array().expect("a list of texts");
    assert!(texts.len() > 10);
    for text in texts.iter().map(|text| text.as_str().expect("a text")) {
        for special in [false, true] {
            let ids = ours.encode(text, special).expect("ids");
            assert_eq!(ids, parents.encode(text, special).expect("ids"), "{text:?}");
            assert_eq!(ours.decode(&ids).expect("text"), parents.decode(&ids).expect("text"), "{text:?}");
        }
    }
}

#[test]
fn another_file_is_refused() {
    let other = repository().join("tests/golden/llama_tied/model.gguf");
    let error = block_on(open(&other)).err().expect("it is not the parent").to_string();
    for word in ["model.gguf", "SmolLM2-135M-Instruct", "98362432", "get-model.sh"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    let missing = block_on(open(Path::new("no/such/file.gguf"))).err().expect("it is not there").to_string();
    assert!(missing.contains("no/such/file.gguf"), "{missing}");
}
