//! Text to token ids and back.
//!
//! A [`Tokenizer`] comes from a Hugging Face `tokenizer.json` or from the metadata of a GGUF file. Encoding is done by
//! the `tokenizers` crate, so that the ids are the reference's own. Decoding is a table of bytes per id
//! (`pieces`): text is the concatenation of those bytes, which is what makes an incremental [`DecodeStream`] cost
//! the same for the first token and for the millionth.

mod end_ids;
mod file;
mod gguf;
mod huggingface;
mod pieces;
mod pre_tokenizer;
mod sentencepiece;
mod stop_strings;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use pieces::Pieces;

pub use stop_strings::StopStrings;
pub use stream::DecodeStream;

/// Token ids at or above this are refused: no vocabulary comes near it, and tables indexed by id stay small.
const MAX_VOCABULARY: usize = 1 << 24;

/// Text to token ids and back, as the model was trained with.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pieces: Arc<Pieces>,
    vocab_size: usize,
    /// Ids put before and after a text that is encoded with `special`.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    bos: Option<u32>,
    end_ids: Vec<u32>,
}

impl Tokenizer {
    /// Reads a Hugging Face `tokenizer.json`, with what its neighbours say about special tokens.
    ///
    /// `tokenizer_config` and `generation_config` are the parsed files of those names, `config` is `config.json`
    /// (`eos_token_id` may also lie in its `text_config`).
    ///
    /// # Errors
    /// Anything that `tokenizers` refuses, a model that is not byte-pair encoding, or a special token that is not in
    /// the vocabulary; the sentence names the file and the key.
    pub fn from_huggingface(
        tokenizer_json: &[u8],
        tokenizer_config: Option<&Value>,
        config: &Map<String, Value>,
        generation_config: Option<&Value>,
    ) -> Result<Self> {
        huggingface::build(tokenizer_json, tokenizer_config, config, generation_config)
    }

    /// Builds the tokenizer that a GGUF file describes under `tokenizer.ggml.*`.
    ///
    /// The models `gpt2` (byte-level byte-pair encoding, with the pre-tokenizer that `tokenizer.ggml.pre` names) and
    /// `llama` (SentencePiece pieces with scores) are known.
    ///
    /// # Errors
    /// A missing key, an array of the wrong length or type, an id outside the vocabulary, a duplicate token, a merge
    /// of unknown tokens, an unknown model or pre-tokenizer; the sentence names the key.
    pub fn from_gguf(metadata: &Map<String, Value>) -> Result<Self> {
        gguf::build(metadata)
    }

    /// Encodes `text`. Special tokens written out in the text (as chat templates do) become their ids.
    ///
    /// With `special`, the ids that the model expects around a text (usually one beginning-of-sequence id before it,
    /// for some models none) are added. A rendered chat template contains them already: pass `false`.
    ///
    /// # Errors
    /// Only if the vocabulary lacks a token that its own rules need.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|cause| Error::Tokenizer(format!("cannot encode the text: {cause}")))?;
        let body = encoding.get_ids();
        if !special {
            return Ok(body.to_vec());
        }
        Ok([&self.prefix, body, &self.suffix].concat())
    }

    /// Decodes `ids` into text. Special (control) tokens have no text; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// An id that is not below [`vocab_size`](Self::vocab_size).
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(Error::Request(format!("token id {id} is outside the vocabulary of {} tokens", self.vocab_size)));
        }
        let mut stream = DecodeStream::new(self);
        let mut text: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
        text.extend(stream.flush());
        Ok(text)
    }

    /// How many ids there are: the largest known id plus one, or the model's vocabulary where that is padded beyond it.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token by its exact spelling in the vocabulary, special tokens included.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// The spelling of a token in the vocabulary, special tokens included.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Every id that ends a generation, ascending: the configured ones and the well-known end markers that are added
    /// tokens (not ordinary pieces of text) in this vocabulary.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The beginning-of-sequence id, if the model has one (whether it is added is for `encode` to know).
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("bos", &self.bos)
            .field("end_ids", &self.end_ids)
            .finish_non_exhaustive()
    }
}
