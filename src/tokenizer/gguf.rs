//! A tokenizer from the metadata of a GGUF file: the keys `tokenizer.ggml.*`.
//!
//! What is not written in the file follows llama.cpp's `llama-vocab.cpp`, for which these files are made.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::{AddedToken, ModelWrapper};

use super::pieces::{Pieces, Spelling};
use super::pre_tokenizer::PreTokenizer;
use super::{MAX_VOCABULARY, Tokenizer, end_ids, sentencepiece};
use crate::error::{Error, Result};

/// What a token is for: the values of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The vocabulary as the file lists it.
pub(super) struct Vocabulary<'a> {
    pub(super) tokens: Vec<Cow<'a, str>>,
    pub(super) types: Vec<TokenType>,
}

pub(super) fn build(metadata: &Map<String, Value>) -> Result<Tokenizer> {
    let keys = Keys { metadata };
    let vocabulary = vocabulary(keys)?;
    let model = keys.text("model")?.ok_or_else(|| invalid("model", "is missing"))?;
    match model {
        "gpt2" => byte_level(keys, &vocabulary),
        "llama" => sentence_piece(keys, &vocabulary),
        other => Err(invalid("model", &format!("is {other:?}; known are \"gpt2\" and \"llama\""))),
    }
}

fn byte_level(keys: Keys, vocabulary: &Vocabulary) -> Result<Tokenizer> {
    let name = keys
        .text("pre")?
        .ok_or_else(|| invalid("pre", "is missing, so how text is cut into words is not known; convert the model again"))?;
    let pre_tokenizer = PreTokenizer::named(name)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.by_token(), merges(keys, vocabulary)?)
        .ignore_merges(pre_tokenizer.ignores_merges())
        .build()
        .map_err(|cause| invalid("merges", &cause.to_string()))?;
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(bpe));
    inner.with_normalizer(pre_tokenizer.normalizer()).map_err(|cause| Error::Tokenizer(format!("normalizer: {cause}")))?;
    inner.with_pre_tokenizer(Some(pre_tokenizer.build()?));
    let defaults = Defaults { add_bos: pre_tokenizer.adds_bos, bos: None, eos: None };
    finish(keys, vocabulary, inner, &Spelling::byte_level(), &defaults)
}

fn sentence_piece(keys: Keys, vocabulary: &Vocabulary) -> Result<Tokenizer> {
    let scores = keys
        .array("scores")?
        .ok_or_else(|| invalid("scores", "is missing"))?
        .iter()
        .enumerate()
        .map(|(index, score)| match score.as_f64() {
            Some(score) if score.is_finite() => Ok(score as f32),
            _ => Err(invalid("scores", &format!("entry {index} is not a finite number"))),
        })
        .collect::<Result<Vec<f32>>>()?;
    if scores.len() != vocabulary.tokens.len() {
        let lengths = format!("has {} entries for {} tokens", scores.len(), vocabulary.tokens.len());
        return Err(invalid("scores", &lengths));
    }
    let unknown = keys.id("unknown_token_id", vocabulary)?.or(vocabulary.existing(0));
    let add_space = keys.flag("add_space_prefix")?.unwrap_or(true);
    let inner = sentencepiece::build(vocabulary, &scores, unknown, add_space)?;
    let defaults = Defaults { add_bos: true, bos: vocabulary.existing(1), eos: vocabulary.existing(2) };
    finish(keys, vocabulary, inner, &sentencepiece::spelling(add_space), &defaults)
}

/// What llama.cpp assumes where the file is silent.
struct Defaults {
    add_bos: bool,
    bos: Option<u32>,
    eos: Option<u32>,
}

/// The part common to all models: special tokens, the text of tokens, what surrounds a text and what ends it.
fn finish(
    keys: Keys,
    vocabulary: &Vocabulary,
    mut inner: tokenizers::Tokenizer,
    spelling: &Spelling,
    defaults: &Defaults,
) -> Result<Tokenizer> {
    let added = vocabulary.iter().filter_map(|(token, kind)| match kind {
        TokenType::Control | TokenType::Unknown => Some(AddedToken::from(token, true)),
        TokenType::UserDefined => Some(AddedToken::from(token, false).normalized(false)),
        TokenType::Normal | TokenType::Unused | TokenType::Byte => None,
    });
    inner.add_tokens(added).map_err(|cause| invalid("tokens", &cause.to_string()))?;

    let texts = vocabulary.iter().map(|(token, kind)| match kind {
        TokenType::Control | TokenType::Unknown | TokenType::Unused => None,
        TokenType::Normal | TokenType::UserDefined | TokenType::Byte => Some(Cow::Borrowed(token)),
    });
    let pieces = Pieces::new(spelling, texts);

    let bos = keys.id("bos_token_id", vocabulary)?.or(defaults.bos);
    let eos = keys.id("eos_token_id", vocabulary)?.or(defaults.eos);
    let around = |key, id: Option<u32>, default: bool| -> Result<Vec<u32>> {
        let wanted = keys.flag(key)?;
        if wanted == Some(true) && id.is_none() {
            return Err(invalid(key, "is set, but the token it asks for has no id"));
        }
        Ok(id.into_iter().filter(|_| wanted.unwrap_or(default)).collect())
    };
    let prefix = around("add_bos_token", bos, defaults.add_bos)?;
    let suffix = around("add_eos_token", eos, false)?;

    let mut ends: Vec<u32> = eos.into_iter().collect();
    for key in ["eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"] {
        ends.extend(keys.id(key, vocabulary)?);
    }
    let well_known = vocabulary
        .iter()
        .zip(0..)
        .filter(|((token, kind), _)| matches!(kind, TokenType::Control | TokenType::UserDefined) && end_ids::is_well_known(token))
        .map(|(_, id)| id);
    ends.extend(well_known);

    Ok(Tokenizer {
        inner,
        pieces: Arc::new(pieces),
        vocab_size: vocabulary.tokens.len(),
        prefix,
        suffix,
        bos,
        end_ids: end_ids::sorted(ends),
    })
}

impl Vocabulary<'_> {
    fn iter(&self) -> impl Iterator<Item = (&str, TokenType)> {
        self.tokens.iter().map(|token| &**token).zip(self.types.iter().copied())
    }

    pub(super) fn by_token(&self) -> Vocab {
        self.tokens.iter().map(|token| token.to_string()).zip(0..).collect()
    }

    fn existing(&self, id: u32) -> Option<u32> {
        ((id as usize) < self.tokens.len()).then_some(id)
    }
}

fn vocabulary(keys: Keys) -> Result<Vocabulary> {
    let listed = keys.array("tokens")?.ok_or_else(|| invalid("tokens", "is missing"))?;
    if listed.is_empty() || listed.len() > MAX_VOCABULARY {
        return Err(invalid("tokens", &format!("has {} entries", listed.len())));
    }
    let mut seen = HashSet::with_capacity(listed.len());
    let mut tokens = Vec::with_capacity(listed.len());
    for (id, token) in listed.iter().enumerate() {
        let token = token.as_str().ok_or_else(|| invalid("tokens", &format!("entry {id} is not a string")))?;
        // Some converters leave unused rows without a name; llama.cpp gives them one, and so the ids stay distinct.
        let token = if token.is_empty() { Cow::Owned(format!("[EMPTY_{id}]")) } else { Cow::Borrowed(token) };
        if !seen.insert(token.clone()) {
            return Err(invalid("tokens", &format!("entry {id} repeats the token {token:?}")));
        }
        tokens.push(token);
    }
    let types = match keys.array("token_type")? {
        None => vec![TokenType::Normal; tokens.len()],
        Some(listed) if listed.len() != tokens.len() => {
            let lengths = format!("has {} entries for {} tokens", listed.len(), tokens.len());
            return Err(invalid("token_type", &lengths));
        }
        Some(listed) => listed.iter().enumerate().map(|(id, kind)| token_type(id, kind)).collect::<Result<_>>()?,
    };
    Ok(Vocabulary { tokens, types })
}

fn token_type(id: usize, value: &Value) -> Result<TokenType> {
    Ok(match value.as_i64() {
        // 0 is "undefined", which converters of old wrote for ordinary tokens.
        Some(0 | 1) => TokenType::Normal,
        Some(2) => TokenType::Unknown,
        Some(3) => TokenType::Control,
        Some(4) => TokenType::UserDefined,
        Some(5) => TokenType::Unused,
        Some(6) => TokenType::Byte,
        _ => return Err(invalid("token_type", &format!("entry {id} is {value}, which is no known type"))),
    })
}

fn merges(keys: Keys, vocabulary: &Vocabulary) -> Result<Merges> {
    let known: HashSet<&str> = vocabulary.tokens.iter().map(|token| &**token).collect();
    let listed = keys.array("merges")?.ok_or_else(|| invalid("merges", "is missing"))?;
    let mut merged = String::new();
    listed
        .iter()
        .enumerate()
        .map(|(index, merge)| {
            let merge = merge.as_str().unwrap_or_default();
            // The first character may be a space that belongs to the left part: no token of the byte alphabet has one,
            // but llama.cpp looks for the space from the second character on.
            let space = merge.char_indices().skip(1).find(|&(_, char)| char == ' ').map(|(position, _)| position);
            let Some((left, right)) = space.map(|space| (&merge[..space], &merge[space + 1..])) else {
                return Err(invalid("merges", &format!("entry {index} is not two tokens with a space between them")));
            };
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            match [left, right, merged.as_str()].into_iter().find(|token| !known.contains(token)) {
                None => Ok((left.to_owned(), right.to_owned())),
                Some(token) => Err(invalid("merges", &format!("entry {index} needs {token:?}, which is not in the vocabulary"))),
            }
        })
        .collect()
}

/// Typed access to `tokenizer.ggml.*`.
#[derive(Clone, Copy)]
struct Keys<'a> {
    metadata: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn get(self, key: &str) -> Option<&'a Value> {
        self.metadata.get(&format!("tokenizer.ggml.{key}"))
    }

    fn typed<T>(self, key: &str, kind: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key).map(|value| convert(value).ok_or_else(|| invalid(key, &format!("is not {kind}")))).transpose()
    }

    fn text(self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    fn array(self, key: &str) -> Result<Option<&'a Vec<Value>>> {
        self.typed(key, "an array", Value::as_array)
    }

    fn flag(self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A token id; checked against the vocabulary.
    fn id(self, key: &str, vocabulary: &Vocabulary) -> Result<Option<u32>> {
        let Some(id) = self.typed(key, "a token id", Value::as_i64)? else { return Ok(None) };
        // Converters write -1 (also as an unsigned number) for "none".
        if id == -1 || id == i64::from(u32::MAX) {
            return Ok(None);
        }
        let id = u32::try_from(id)
            .ok()
            .and_then(|id| vocabulary.existing(id))
            .ok_or_else(|| invalid(key, &format!("is {id}, outside the vocabulary of {} tokens", vocabulary.tokens.len())))?;
        Ok(Some(id))
    }
}

fn invalid(key: &str, problem: &str) -> Error {
    Error::Tokenizer(format!("tokenizer.ggml.{key} {problem}"))
}
