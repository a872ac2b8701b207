//! `tokenizer.json`, read and checked before `tokenizers` gets its parts: it takes some of them on trust, and would hold a
//! vocabulary of two hundred thousand tokens several times over while it reads.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

use super::MAX_VOCABULARY;
use crate::error::{Error, Result};

/// The parts that encoding and decoding use. Truncation, padding and dropout belong to training and batching: they would
/// change a prompt.
#[derive(Deserialize)]
pub(super) struct File {
    model: Model,
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    pre_tokenizer: Option<Value>,
    normalizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
    decoder: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Model {
    /// Files of old leave it out.
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "vocabulary")]
    vocab: Option<Vocab>,
    merges: Option<Vec<Merge>>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// A token beside the model's vocabulary, or one of it that is never taken apart.
#[derive(Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) token: AddedToken,
}

impl File {
    /// Reads and checks what `tokenizers` does not.
    pub(super) fn read(tokenizer_json: &[u8]) -> Result<Self> {
        let file: Self = serde_json::from_slice(tokenizer_json).map_err(|cause| invalid(&cause.to_string()))?;
        if let Some(kind) = file.model.kind.as_deref().filter(|&kind| kind != "BPE") {
            return Err(invalid(&format!("model.type is {kind:?}; only \"BPE\" is supported")));
        }
        if let Some(Added { token, .. }) = file.added_tokens.iter().find(|added| added.id as usize >= MAX_VOCABULARY) {
            return Err(invalid(&no_id(&token.content)));
        }
        for (part, name) in [(&file.pre_tokenizer, "pre_tokenizer"), (&file.normalizer, "normalizer")] {
            if let Some(kind) = part.as_ref().and_then(refused_part) {
                return Err(invalid(&format!("{name}: {kind} is not supported")));
            }
        }
        Ok(file)
    }

    /// The tokenizer that the file describes, made of all but the post-processor.
    pub(super) fn tokenizer(&mut self) -> Result<Tokenizer> {
        let failed = |cause: tokenizers::Error| invalid(&cause.to_string());
        let mut inner = Tokenizer::new(ModelWrapper::BPE(std::mem::take(&mut self.model).build()?));
        inner.with_normalizer(part::<NormalizerWrapper>(self.normalizer.take(), "normalizer")?).map_err(failed)?;
        inner.with_pre_tokenizer(part::<PreTokenizerWrapper>(self.pre_tokenizer.take(), "pre_tokenizer")?);
        inner.with_decoder(part::<DecoderWrapper>(self.decoder.take(), "decoder")?);
        inner.with_post_processor(part::<PostProcessorWrapper>(self.post_processor.clone(), "post_processor")?);
        inner.add_tokens(self.added_tokens.iter().map(|added| added.token.clone())).map_err(failed)?;
        Ok(inner)
    }
}

impl Model {
    fn build(self) -> Result<BPE> {
        let vocab = self.vocab.ok_or_else(|| invalid("model.vocab is missing"))?;
        let merges = self.merges.ok_or_else(|| invalid("model.merges is missing"))?;
        // `BpeBuilder::build` copies each merge into a buffer of the longest token's size.
        let longest = vocab.keys().map(String::len).max().unwrap_or(0);
        let prefix = self.continuing_subword_prefix.as_deref().unwrap_or_default();
        let merges = merges
            .into_iter()
            .filter(|merge| !matches!(merge, Merge::Line(line) if line.starts_with("#version")))
            .enumerate()
            .map(|(index, merge)| {
                let pair = match merge {
                    Merge::Pair(left, right) => Some((left, right)),
                    Merge::Line(line) => line.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
                };
                pair.filter(|(left, right)| right.strip_prefix(prefix).is_some_and(|right| left.len() + right.len() <= longest))
                    .ok_or_else(|| invalid(&format!("model.merges: entry {index} makes no token of the vocabulary")))
            })
            .collect::<Result<Merges>>()?;
        let mut builder = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .fuse_unk(self.fuse_unk.unwrap_or(false))
            .byte_fallback(self.byte_fallback.unwrap_or(false))
            .ignore_merges(self.ignore_merges.unwrap_or(false));
        if let Some(token) = self.unk_token {
            builder = builder.unk_token(token);
        }
        if let Some(prefix) = self.continuing_subword_prefix {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = self.end_of_word_suffix {
            builder = builder.end_of_word_suffix(suffix);
        }
        builder.build().map_err(|cause| invalid(&format!("model: {cause}")))
    }
}

/// An object of tokens and their ids.
fn vocabulary<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vocab>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vocab;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("model.vocab to be an object of tokens and ids")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
            let mut vocab = Vocab::default();
            while let Some((token, id)) = map.next_entry::<String, Value>()? {
                let known = id.as_u64().filter(|&id| id < MAX_VOCABULARY as u64).and_then(|id| u32::try_from(id).ok());
                let id = known.ok_or_else(|| A::Error::custom(no_id(&token)))?;
                vocab.insert(token, id);
            }
            Ok(vocab)
        }
    }

    deserializer.deserialize_map(Entries).map(Some)
}

/// A part that `tokenizers` reads.
fn part<T: DeserializeOwned>(value: Option<Value>, name: &str) -> Result<Option<T>> {
    value.map(|value| serde_json::from_value(value).map_err(|cause| invalid(&format!("{name}: {cause}")))).transpose()
}

/// The steps that no byte-pair model uses and whose implementation trusts its parameters.
fn refused_part(part: &Value) -> Option<&str> {
    let kind = part.get("type").and_then(Value::as_str);
    let nested = ["pretokenizers", "normalizers"].iter().filter_map(|key| part.get(key)?.as_array()).flatten();
    kind.filter(|kind| ["FixedLength", "Precompiled"].contains(kind)).or_else(|| nested.filter_map(refused_part).next())
}

fn no_id(token: &str) -> String {
    format!("the token {token:?} has no id below {MAX_VOCABULARY}")
}

pub(super) fn invalid(problem: &str) -> Error {
    Error::Tokenizer(format!("tokenizer.json: {problem}"))
}
