//! The tokens of a template's tags, cut as the engine's own lexer cuts them.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name that is a value, and not a word of the language.
    Name,
    /// `if`, `in`, `and` and the like.
    Word,
    Number,
    Text,
    Open,
    Close,
    Operator,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

const WORDS: [&str; 22] = [
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "elif",
    "for",
    "set",
    "block",
    "macro",
    "call",
    "filter",
    "with",
    "do",
    "import",
    "from",
    "include",
    "extends",
    "recursive",
    "autoescape",
];

/// The tokens from `from` up to `close`, and where the source goes on. As in the engine's own lexer, the end of a
/// tag counts only outside of brackets.
pub(super) fn tokens_of_tag(source: &str, from: usize, close: &str) -> (Vec<Token>, usize) {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut depth = 0_i64;
    let mut position = from;
    // `{%-` and `{%+` belong to the tag's start.
    if matches!(bytes.get(position), Some(b'-' | b'+')) {
        position += 1;
    }
    while let Some(&byte) = bytes.get(position) {
        let rest = &bytes[position..];
        if depth == 0 {
            if rest.starts_with(close.as_bytes()) {
                return (tokens, position + close.len());
            }
            if matches!(byte, b'-' | b'+') && rest[1..].starts_with(close.as_bytes()) {
                return (tokens, position + 1 + close.len());
            }
        }
        let (kind, length) = match byte {
            _ if byte.is_ascii_whitespace() => {
                position += 1;
                continue;
            }
            b'\'' | b'"' => (Kind::Text, quoted_length(rest)),
            b'0'..=b'9' => (Kind::Number, number_length(rest)),
            b'(' | b'[' | b'{' => {
                depth += 1;
                (Kind::Open, 1)
            }
            b')' | b']' | b'}' => {
                depth -= 1;
                (Kind::Close, 1)
            }
            _ if is_name(byte) => {
                let length = rest.iter().take_while(|&&byte| is_name(byte)).count();
                let word = WORDS.contains(&&source[position..position + length]);
                (if word { Kind::Word } else { Kind::Name }, length)
            }
            _ if [&b"=="[..], b"!=", b"<=", b">=", b"//", b"**"].iter().any(|two| rest.starts_with(two)) => (Kind::Operator, 2),
            _ => (Kind::Operator, 1),
        };
        tokens.push(Token { kind, start: position, end: position + length });
        position += length;
    }
    (tokens, source.len())
}

/// The bracket that closes the one at `open`.
pub(super) fn close_of(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

fn is_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// The length of the quoted text that `bytes` starts with; a backslash takes the next character along.
fn quoted_length(bytes: &[u8]) -> usize {
    let mut escaped = false;
    for (index, &byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == bytes[0] => return index + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// The length of the number that `bytes` starts with: a dot belongs to it only in front of a digit.
fn number_length(bytes: &[u8]) -> usize {
    let mut length = bytes.iter().take_while(|&&byte| is_name(byte)).count();
    if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
        length += 1 + bytes[length + 1..].iter().take_while(|&&byte| is_name(byte)).count();
    }
    length
}
