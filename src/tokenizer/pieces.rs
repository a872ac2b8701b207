//! What each token id means as text: a table of bytes.
//!
//! Every decoder of byte-pair tokenizers is a map from token to bytes, plus at most a rule about the spaces at the very
//! start of the text. Reducing them to that table makes decoding incremental, exact and linear.

use tokenizers::DecoderWrapper;

use crate::error::{Error, Result};

/// The bytes of every token, and what happens to spaces at the start of a text.
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// `bytes[ends[id - 1]..ends[id]]` is the text of `id`; empty for special tokens and gaps.
    ends: Vec<usize>,
    pub(super) leading: LeadingSpaces,
}

/// SentencePiece puts a space before the text when encoding; decoding takes it off again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeadingSpaces {
    /// The text is what the tokens say.
    Keep,
    /// Up to so many spaces at the start of the text are not part of it.
    StripUpTo(usize),
    /// All leading spaces of the first token that has text are not part of it.
    StripFirstPiece,
}

/// How tokens spell bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spelling {
    /// GPT-2's printable stand-ins for bytes.
    pub(super) byte_level: bool,
    /// `<0x0A>` is the byte 10.
    pub(super) byte_fallback: bool,
    /// Replaced in this order, for example `▁` by a space.
    pub(super) replacements: Vec<(String, String)>,
    pub(super) leading: LeadingSpaces,
}

impl Spelling {
    pub(super) fn byte_level() -> Self {
        Self { byte_level: true, byte_fallback: false, replacements: Vec::new(), leading: LeadingSpaces::Keep }
    }

    /// Reads the rules out of a `tokenizer.json`'s decoder.
    pub(super) fn of_decoder(decoder: Option<&DecoderWrapper>) -> Result<Self> {
        let mut spelling = Self { byte_level: false, ..Self::byte_level() };
        let Some(decoder) = decoder else {
            return Err(unsupported("there is none, so the text between tokens is undefined"));
        };
        spelling.read(decoder)?;
        Ok(spelling)
    }

    fn read(&mut self, decoder: &DecoderWrapper) -> Result<()> {
        match decoder {
            DecoderWrapper::ByteLevel(_) => self.byte_level = true,
            DecoderWrapper::ByteFallback(_) => self.byte_fallback = true,
            DecoderWrapper::Fuse(_) => {}
            DecoderWrapper::Sequence(sequence) => {
                for decoder in sequence.get_decoders() {
                    self.read(decoder)?;
                }
            }
            DecoderWrapper::Metaspace(metaspace) => {
                self.replacements.push((metaspace.get_replacement().to_string(), " ".to_owned()));
                if metaspace.get_prepend_scheme() != tokenizers::pre_tokenizers::metaspace::PrependScheme::Never {
                    self.leading = LeadingSpaces::StripFirstPiece;
                }
            }
            DecoderWrapper::Strip(strip) if strip.content == ' ' && strip.stop == 0 => {
                self.leading = LeadingSpaces::StripUpTo(strip.start);
            }
            DecoderWrapper::Replace(replace) => {
                // The pattern is private; its serialised form is the file's own.
                let value = serde_json::to_value(replace).map_err(|cause| unsupported(&cause.to_string()))?;
                let (Some(pattern), Some(content)) = (value["pattern"]["String"].as_str(), value["content"].as_str()) else {
                    return Err(unsupported("Replace with a regular expression is not supported"));
                };
                self.replacements.push((pattern.to_owned(), content.to_owned()));
            }
            DecoderWrapper::Strip(_) => return Err(unsupported("Strip of anything but leading spaces is not supported")),
            DecoderWrapper::BPE(_) => return Err(unsupported("BPEDecoder is not supported")),
            DecoderWrapper::WordPiece(_) => return Err(unsupported("WordPiece is not supported")),
            DecoderWrapper::CTC(_) => return Err(unsupported("CTC is not supported")),
        }
        Ok(())
    }

    fn append(&self, token: &str, bytes: &mut Vec<u8>) {
        if self.byte_fallback
            && let Some(byte) = byte_of_fallback(token)
        {
            bytes.push(byte);
            return;
        }
        let start = bytes.len();
        if self.byte_level {
            for char in token.chars() {
                let Some(byte) = byte_of_char(char) else {
                    // An added token in plain spelling: the whole token stands for itself, as `tokenizers` has it.
                    bytes.truncate(start);
                    bytes.extend_from_slice(token.as_bytes());
                    return;
                };
                bytes.push(byte);
            }
            return;
        }
        let mut text = token.to_owned();
        for (from, to) in &self.replacements {
            text = text.replace(from, to);
        }
        bytes.extend_from_slice(text.as_bytes());
    }
}

impl Pieces {
    /// Builds the table from each id's token, `None` for an id without text (special tokens, gaps).
    pub(super) fn new<'a>(spelling: &Spelling, tokens: impl Iterator<Item = Option<std::borrow::Cow<'a, str>>>) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for token in tokens {
            if let Some(token) = token {
                spelling.append(&token, &mut bytes);
            }
            ends.push(bytes.len());
        }
        Self { bytes, ends, leading: spelling.leading }
    }

    /// The bytes that `id` stands for; empty for special tokens and for ids beyond the table.
    pub(super) fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..end]
    }
}

fn byte_of_fallback(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// The byte that GPT-2's alphabet spells as `char`: printable Latin-1 is itself, the 68 others are U+0100 and up in
/// ascending order (`bytes_to_unicode` in the GPT-2 sources).
fn byte_of_char(char: char) -> Option<u8> {
    match u32::from(char) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

fn unsupported(why: &str) -> Error {
    Error::Tokenizer(format!("tokenizer.json: decoder: {why}"))
}
