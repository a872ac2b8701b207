//! A tokenizer from Hugging Face files: `tokenizer.json` and its neighbours.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokenizers::Model;

use super::file::{Added, File, invalid};
use super::pieces::{Pieces, Spelling};
use super::{Tokenizer, end_ids};
use crate::error::{Error, Result};

pub(super) fn build(
    tokenizer_json: &[u8],
    tokenizer_config: Option<&Value>,
    config: &Map<String, Value>,
    generation_config: Option<&Value>,
) -> Result<Tokenizer> {
    let mut file = File::read(tokenizer_json)?;
    let inner = file.tokenizer()?;
    for Added { id, token } in &file.added_tokens {
        let (content, got) = (&token.content, inner.token_to_id(&token.content));
        if got != Some(*id) {
            let got = got.map_or_else(|| "none".to_owned(), |id| id.to_string());
            return Err(invalid(&format!("added_tokens: {content:?} is declared as {id}, but its id would be {got}")));
        }
    }

    let spelling = Spelling::of_decoder(inner.get_decoder())?;
    let pieces = pieces(&inner, &spelling);
    let largest = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
    let text_config = config.get("text_config").and_then(Value::as_object);
    let from_config = |key: &str| config.get(key).or_else(|| text_config.and_then(|nested| nested.get(key)));
    // Models pad their embedding beyond the tokenizer's vocabulary, and may then produce any of its rows.
    let padded = from_config("vocab_size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    let vocab_size = padded.unwrap_or(0).max(largest);

    let named = |key| named_token(&inner, tokenizer_config, key);
    let bos = match named("bos_token")? {
        Some(id) => Some(id),
        None => ids(from_config("bos_token_id"), "config.json", "bos_token_id", vocab_size)?.first().copied(),
    };
    let eos = named("eos_token")?;
    let (mut prefix, mut suffix) = around(file.post_processor.as_ref())?;
    if let Some(id) = prefix.iter().chain(&suffix).find(|&&id| id as usize >= largest) {
        return Err(invalid(&format!("post_processor adds the token id {id}, which is not in the vocabulary")));
    }
    // Older checkpoints say it here and leave it out of tokenizer.json; transformers lets this have the last word.
    follow_flag(&mut prefix, bos, tokenizer_config, "add_bos_token");
    follow_flag(&mut suffix, eos, tokenizer_config, "add_eos_token");

    let mut ends: Vec<u32> = eos.into_iter().collect();
    ends.extend(ids(from_config("eos_token_id"), "config.json", "eos_token_id", vocab_size)?);
    let generation_eos = generation_config.and_then(|config| config.get("eos_token_id"));
    ends.extend(ids(generation_eos, "generation_config.json", "eos_token_id", vocab_size)?);
    let added = inner.get_added_tokens_decoder();
    ends.extend(added.iter().filter(|(_, token)| end_ids::is_well_known(&token.content)).map(|(&id, _)| id));

    Ok(Tokenizer { inner, pieces: Arc::new(pieces), vocab_size, prefix, suffix, bos, end_ids: end_ids::sorted(ends) })
}

fn pieces(inner: &tokenizers::Tokenizer, spelling: &Spelling) -> Pieces {
    let added = inner.get_added_vocabulary();
    let special = added.get_added_tokens_decoder();
    let size = inner.get_vocab(true).into_values().max().map_or(0, |id| id + 1);
    let texts = (0..size).map(|id| {
        if special.get(&id).is_some_and(|token| token.special) {
            return None;
        }
        added.simple_id_to_token(id).or_else(|| inner.get_model().id_to_token(id)).map(Cow::Owned)
    });
    Pieces::new(spelling, texts)
}

/// The ids that the post-processor puts before and after a text.
///
/// Read from the file and not from the processor, which panics where its template names a token that it does not list.
fn around(processor: Option<&Value>) -> Result<(Vec<u32>, Vec<u32>)> {
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    let Some(processor) = processor else { return Ok((prefix, suffix)) };
    match processor.get("type").and_then(Value::as_str).unwrap_or_default() {
        "ByteLevel" => {}
        "Sequence" => {
            // A later processor goes around what an earlier one has made.
            for inner in processor.get("processors").and_then(Value::as_array).into_iter().flatten() {
                let (before, after) = around(Some(inner))?;
                prefix.splice(0..0, before);
                suffix.extend(after);
            }
        }
        "TemplateProcessing" => {
            let mut text_seen = false;
            for piece in processor.get("single").and_then(Value::as_array).into_iter().flatten() {
                if piece.get("Sequence").is_some() {
                    text_seen = true;
                    continue;
                }
                let name = piece.pointer("/SpecialToken/id").and_then(Value::as_str);
                let ids = name.and_then(|name| processor.get("special_tokens")?.get(name)?.get("ids")?.as_array());
                let ids = ids.and_then(|ids| ids.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect::<Option<Vec<_>>>());
                let ids = ids.ok_or_else(|| invalid("post_processor: its template has a token without ids"))?;
                if text_seen { &mut suffix } else { &mut prefix }.extend(ids);
            }
        }
        other => return Err(invalid(&format!("post_processor: {other:?} is not supported"))),
    }
    Ok((prefix, suffix))
}

/// Lets an explicit `add_bos_token` or `add_eos_token` add or remove that id.
fn follow_flag(around: &mut Vec<u32>, id: Option<u32>, tokenizer_config: Option<&Value>, key: &str) {
    let (Some(wanted), Some(id)) = (tokenizer_config.and_then(|config| config.get(key)?.as_bool()), id) else {
        return;
    };
    if !wanted {
        around.retain(|&other| other != id);
    } else if !around.contains(&id) {
        around.push(id);
    }
}

/// A token that `tokenizer_config.json` names, as a string or as an object with `content`.
fn named_token(inner: &tokenizers::Tokenizer, config: Option<&Value>, key: &str) -> Result<Option<u32>> {
    let Some(value) = config.and_then(|config| config.get(key)).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let spelled = value.as_str().or_else(|| value.get("content")?.as_str()).ok_or_else(|| {
        Error::Tokenizer(format!("tokenizer_config.json: {key} is neither a string nor an object with content"))
    })?;
    inner.token_to_id(spelled).map(Some).ok_or_else(|| {
        Error::Tokenizer(format!("tokenizer_config.json: {key} {spelled:?} is not in the vocabulary of tokenizer.json"))
    })
}

/// An id or a list of ids; null and absent mean none.
fn ids(value: Option<&Value>, file: &str, key: &str, vocab_size: usize) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        value.as_u64().filter(|&id| id < vocab_size as u64).and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            Error::Tokenizer(format!("{file}: {key}: {value} is no token id below the vocabulary size {vocab_size}"))
        })
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}
