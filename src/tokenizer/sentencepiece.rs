//! SentencePiece vocabularies of GGUF files: pieces with scores instead of merges.
//!
//! SentencePiece joins, again and again, the two neighbours whose piece has the highest score. Byte-pair encoding does
//! the same with a list of merges, best first, which the scores imply; `transformers` converts such models the same
//! way (`generate_merges`).

use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{ModelWrapper, NormalizerWrapper};

use super::gguf::{TokenType, Vocabulary};
use super::pieces::{LeadingSpaces, Spelling};
use crate::error::{Error, Result};

/// SentencePiece's visible space, U+2581.
const SPACE: &str = "▁";

/// Builds the model; `add_space` puts a space before every text.
pub(super) fn build(
    vocabulary: &Vocabulary,
    scores: &[f32],
    unknown: Option<u32>,
    add_space: bool,
) -> Result<tokenizers::Tokenizer> {
    let refused = |cause: tokenizers::Error| Error::Tokenizer(format!("tokenizer.ggml.tokens: {cause}"));
    let mut bpe =
        BPE::builder().vocab_and_merges(vocabulary.by_token(), merges(vocabulary, scores)).fuse_unk(true).byte_fallback(true);
    if let Some(unknown) = unknown.and_then(|id| vocabulary.tokens.get(id as usize)) {
        bpe = bpe.unk_token(unknown.to_string());
    }
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(bpe.build().map_err(refused)?));
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if add_space {
        steps.push(Prepend::new(SPACE.to_owned()).into());
    }
    steps.push(Replace::new(" ", SPACE).map_err(refused)?.into());
    inner.with_normalizer(Some(Sequence::new(steps))).map_err(refused)?;
    Ok(inner)
}

/// How pieces spell text.
pub(super) fn spelling(add_space: bool) -> Spelling {
    Spelling {
        byte_level: false,
        byte_fallback: true,
        replacements: vec![(SPACE.to_owned(), " ".to_owned())],
        leading: if add_space { LeadingSpaces::StripUpTo(1) } else { LeadingSpaces::Keep },
    }
}

/// Every way to join two pieces into a third, the best score first; among equals the order of `generate_merges`.
fn merges(vocabulary: &Vocabulary, scores: &[f32]) -> Merges {
    let ids: std::collections::HashMap<&str, usize> = vocabulary
        .tokens
        .iter()
        .enumerate()
        .filter(|&(id, _)| joins(vocabulary.types[id]))
        .map(|(id, token)| (&**token, id))
        .collect();
    struct Merge<'a> {
        score: f32,
        lengths: (usize, usize),
        parts: (&'a str, &'a str),
    }
    let mut merges = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate().filter(|&(id, _)| joins(vocabulary.types[id])) {
        let characters = token.chars().count();
        let mut ways: Vec<_> = token
            .char_indices()
            .enumerate()
            .skip(1)
            .filter_map(|(left, (position, _))| {
                let parts = token.split_at(position);
                let order = (ids.get(parts.0)?, ids.get(parts.1)?);
                Some((order, Merge { score: scores[id], lengths: (left, characters - left), parts }))
            })
            .collect();
        ways.sort_by_key(|&(order, _)| order);
        merges.extend(ways.into_iter().map(|(_, merge)| merge));
    }
    merges.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.lengths.cmp(&a.lengths)));
    merges.into_iter().map(|merge| (merge.parts.0.to_owned(), merge.parts.1.to_owned())).collect()
}

/// Whether a piece of this type takes part in joining: control tokens and spelled-out bytes are never made from text.
fn joins(kind: TokenType) -> bool {
    matches!(kind, TokenType::Normal | TokenType::UserDefined | TokenType::Unused)
}
