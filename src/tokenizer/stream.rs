//! Incremental detokenisation.

use std::sync::Arc;

use super::Tokenizer;
use super::pieces::{LeadingSpaces, Pieces};

/// Turns ids into text one at a time, never cutting a character in half.
///
/// The concatenation of everything it returns is what [`Tokenizer::decode`] gives for the same ids, and each id costs
/// only its own bytes.
pub struct DecodeStream {
    pieces: Arc<Pieces>,
    leading: LeadingSpaces,
    /// The start of a character whose other bytes have not come yet: at most three bytes between calls.
    pending: Vec<u8>,
}

impl DecodeStream {
    /// A stream for a text of its own, such as an answer in a chat: where the tokenizer puts a space before a text,
    /// that space is taken off.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { pieces: Arc::clone(&tokenizer.pieces), leading: tokenizer.pieces.leading, pending: Vec::new() }
    }

    /// A stream for text that continues other text, such as the completion of a prompt: a leading space is meant.
    pub fn continuing(tokenizer: &Tokenizer) -> Self {
        Self { leading: LeadingSpaces::Keep, ..Self::new(tokenizer) }
    }

    /// Takes the next id and returns the text that is complete with it, if any.
    ///
    /// Special tokens, and ids that a padded vocabulary has beyond the tokenizer's, have no text.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let piece = strip(&mut self.leading, self.pieces.get(id));
        self.pending.extend_from_slice(piece);
        let (text, complete) = complete_characters(&self.pending);
        self.pending.drain(..complete);
        (!text.is_empty()).then_some(text)
    }

    /// Ends the text: bytes that still wait for the rest of their character become one U+FFFD.
    pub fn flush(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// `piece` without the spaces that the start of a text loses; afterwards `leading` says what the next piece may lose.
fn strip<'a>(leading: &mut LeadingSpaces, piece: &'a [u8]) -> &'a [u8] {
    if piece.is_empty() {
        return piece;
    }
    let spaces = piece.iter().take_while(|&&byte| byte == b' ').count();
    let cut = match *leading {
        LeadingSpaces::Keep => 0,
        LeadingSpaces::StripUpTo(most) => spaces.min(most),
        LeadingSpaces::StripFirstPiece => spaces,
    };
    *leading = match *leading {
        LeadingSpaces::StripUpTo(most) if cut == piece.len() && cut < most => LeadingSpaces::StripUpTo(most - cut),
        _ => LeadingSpaces::Keep,
    };
    &piece[cut..]
}

/// The characters that `bytes` holds completely, U+FFFD for what can never become one (as `String::from_utf8_lossy`
/// does), and how many bytes that took; the rest is the start of a character.
fn complete_characters(bytes: &[u8]) -> (String, usize) {
    let mut text = String::new();
    let mut done = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        done += chunk.valid().len();
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let unfinished =
            done + invalid.len() == bytes.len() && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if unfinished {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        done += invalid.len();
    }
    (text, done)
}
