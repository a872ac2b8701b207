//! How GGUF's byte-level vocabularies cut text before merging: the names of `tokenizer.ggml.pre`.
//!
//! The expressions are those of the models' own tokenizers (GPT-2's `encoder.py`, Llama 3's and Llama 4's
//! `tokenizer.py`, Qwen2's `tokenizer.json`); which names share one is llama.cpp's table in `llama-vocab.cpp`.

use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::error::{Error, Result};

/// Letters with up to one sign before them, numbers in groups of at most three digits.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// As Llama 3, but every digit by itself.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Words end where lower case turns into upper case; shared by GPT-4o and Llama 4.
const LLAMA4: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// The families of pre-tokenizers, each with the names that mean it.
const NAMES: [(Family, &[&str]); 5] = [
    (Family::Gpt2, &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"]),
    (Family::SmolLm, &["smollm", "starcoder", "refact", "codeshell"]),
    (Family::Llama3, &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"]),
    (Family::Llama4, &["llama4", "gpt-4o", "kanana2"]),
    (Family::Qwen2, &["qwen2", "deepseek-r1-qwen"]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Gpt2,
    SmolLm,
    Llama3,
    Llama4,
    Qwen2,
}

/// What a name in `tokenizer.ggml.pre` stands for.
pub(super) struct PreTokenizer {
    family: Family,
    /// Whether a beginning-of-sequence id is added where the file does not say.
    pub(super) adds_bos: bool,
}

impl PreTokenizer {
    /// Finds the pre-tokenizer by its name.
    pub(super) fn named(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, names)| names.contains(&name));
        let Some(&(family, _)) = found else {
            let known: Vec<&str> = NAMES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
            return Err(Error::Tokenizer(format!(
                "tokenizer.ggml.pre: unknown pre-tokenizer {name:?}; known are {}",
                known.join(", ")
            )));
        };
        // llama.cpp's default for Llama 3. Llama 4's own tokenizer.json asks for it too, GPT-4o's does not.
        let adds_bos = family == Family::Llama3 || name == "llama4";
        Ok(Self { family, adds_bos })
    }

    /// Whether a word that is in the vocabulary is taken whole even if no merges lead to it: what tiktoken does, from
    /// which these families come.
    pub(super) fn ignores_merges(&self) -> bool {
        matches!(self.family, Family::Llama3 | Family::Llama4)
    }

    /// Qwen2's text is composed before it is cut.
    pub(super) fn normalizer(&self) -> Option<NormalizerWrapper> {
        (self.family == Family::Qwen2).then(|| NFC.into())
    }

    pub(super) fn build(&self) -> Result<PreTokenizerWrapper> {
        let bytes = |cut: bool| ByteLevel::new(false, false, cut).into();
        let parts: Vec<PreTokenizerWrapper> = match self.family {
            Family::Gpt2 => return Ok(bytes(true)),
            Family::SmolLm => vec![Digits::new(true).into(), bytes(true)],
            Family::Llama3 => vec![split(LLAMA3)?, bytes(false)],
            Family::Llama4 => vec![split(LLAMA4)?, bytes(false)],
            Family::Qwen2 => vec![split(QWEN2)?, bytes(false)],
        };
        Ok(Sequence::new(parts).into())
    }
}

fn split(expression: &str) -> Result<PreTokenizerWrapper> {
    Split::new(SplitPattern::Regex(expression.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map(Into::into)
        .map_err(|cause| Error::Tokenizer(format!("pre-tokenizer expression: {cause}")))
}
