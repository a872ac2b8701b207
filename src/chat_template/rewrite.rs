//! Puts guards into a template's source before it is compiled.
//!
//! The engine limits instructions, but one instruction can double a string, and some panic on odd input. The places
//! where values grow are few and can be found without parsing the whole language, so they are rewritten to go through
//! the filters and methods of [`guard`](super::guard):
//!
//! | in the template | becomes | because |
//! |---|---|---|
//! | `a ~ b`, `a + b` | `a\|__bounded ~ b\|__bounded` | joining adds up sizes |
//! | `a * b` | `a\|__factor * b\|__factor` | texts and lists could be repeated |
//! | `{% set a = b %}` | `{% set a = (b)\|__bounded %}` | what is kept must be small and flat |
//! | `{% set a.b = c %}` | `{% set a.b = (c)\|__kept %}` | a namespace must not hold itself |
//! | `a[b:c:d]` | `a.__slice(b, c, d)` | the engine's slices differ from Python's and can panic |
//! | long plain text | the same with `{{ length\|__written }}` in it | loops repeat it |
//! | `{% generation %}` | `{% if true %}` | transformers' mark for training, which writes nothing |

use std::collections::BTreeSet;

use super::lexer::{Kind, Token, close_of, tokens_of_tag};

/// Plain text up to this many bytes is not counted: the limit on instructions keeps it small.
const UNCOUNTED_TEXT: usize = 64;
/// White space cannot be counted without changing what `{%-` takes away, so long runs of it are refused.
const MAX_WHITE_SPACE: usize = 512;

/// How deep blocks (each `elif` is one) and, within a tag, brackets and chains of operators may go: the engine recurses
/// over them, and templates written by people stay far below.
const MAX_BLOCKS: usize = 100;
const MAX_CHAIN: usize = 200;

/// The guarded source, or why there can be none.
pub(super) fn guarded(source: &str) -> Result<String, String> {
    let mut rewriter = Rewriter { source, edits: Vec::new(), blocks: Vec::new() };
    rewriter.run()?;
    Ok(rewriter.apply())
}

struct Rewriter<'a> {
    source: &'a str,
    edits: Vec<Edit>,
    /// The open blocks, each with the number of its `elif`s.
    blocks: Vec<usize>,
}

/// Replaces `source[start..end]`.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

impl<'a> Rewriter<'a> {
    fn run(&mut self) -> Result<(), String> {
        let mut position = 0;
        while let Some(offset) = self.next_tag(position) {
            self.plain_text(position, offset)?;
            let close = match &self.source[offset..offset + 2] {
                "{#" => {
                    position = self.source[offset..].find("#}").map_or(self.source.len(), |end| offset + end + 2);
                    continue;
                }
                "{{" => "}}",
                _ => "%}",
            };
            let (tokens, end) = tokens_of_tag(self.source, offset + 2, close);
            position = end;
            let first = tokens.first().map_or("", |token| self.text(*token));
            self.chains(&tokens)?;
            if close == "%}" {
                self.block(first)?;
                match (first, tokens.len()) {
                    ("raw", 1) => position = self.after_raw(end),
                    ("generation", 1) => self.replace(tokens[0], "if true"),
                    ("endgeneration", 1) => self.replace(tokens[0], "endif"),
                    _ => {}
                }
            }
            self.slices(&tokens);
            self.operands(&tokens);
            if close == "%}" && first == "set" {
                self.assignment(&tokens);
            }
        }
        self.plain_text(position, self.source.len())
    }

    fn text(&self, token: Token) -> &'a str {
        &self.source[token.start..token.end]
    }

    fn replace(&mut self, token: Token, text: &str) {
        self.edits.push(Edit { start: token.start, end: token.end, text: text.to_owned() });
    }

    fn insert(&mut self, position: usize, text: impl Into<String>) {
        self.edits.push(Edit { start: position, end: position, text: text.into() });
    }

    /// Where the next `{{`, `{%` or `{#` starts.
    fn next_tag(&self, from: usize) -> Option<usize> {
        let rest = self.source.get(from..)?;
        rest.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#")).map(|offset| from + offset)
    }

    /// Behind the `{% endraw %}` that belongs to a `{% raw %}` ending at `from`.
    fn after_raw(&self, from: usize) -> usize {
        let mut position = from;
        while let Some(offset) = self.source[position..].find("{%") {
            let (tokens, end) = tokens_of_tag(self.source, position + offset + 2, "%}");
            if tokens.len() == 1 && self.text(tokens[0]) == "endraw" {
                return end;
            }
            position += offset + 2;
        }
        self.source.len()
    }

    /// Counts a stretch of plain text where it is long.
    fn plain_text(&mut self, start: usize, end: usize) -> Result<(), String> {
        let text = &self.source[start..end];
        if text.len() <= UNCOUNTED_TEXT {
            return Ok(());
        }
        let visible = text.trim_end();
        match visible.char_indices().next_back() {
            // In front of the last visible character: there, no rule about white space around tags applies.
            Some((last, _)) => self.insert(start + last, format!("{{{{ {}|__written }}}}", text.len())),
            None if text.len() > MAX_WHITE_SPACE => return Err("it has too long a run of white space".to_owned()),
            None => {}
        }
        Ok(())
    }

    /// Keeps count of open blocks.
    fn block(&mut self, word: &str) -> Result<(), String> {
        match word {
            "if" | "for" | "macro" | "call" | "filter" | "with" | "block" | "autoescape" | "generation" => self.blocks.push(0),
            "elif" => {
                if let Some(branches) = self.blocks.last_mut() {
                    *branches += 1;
                }
            }
            _ if word.starts_with("end") && !matches!(word, "endset" | "endraw") => drop(self.blocks.pop()),
            _ => {}
        }
        if self.blocks.len() + self.blocks.iter().sum::<usize>() > MAX_BLOCKS {
            return Err("it nests its blocks too deeply".to_owned());
        }
        Ok(())
    }

    /// Refuses expressions that would make the engine recurse too deeply.
    fn chains(&self, tokens: &[Token]) -> Result<(), String> {
        let mut open = Vec::new();
        let mut chain = 0;
        for token in tokens {
            match (token.kind, self.text(*token)) {
                (Kind::Open, _) => {
                    open.push(chain);
                    chain += 1;
                }
                // A call or a subscript is a link of the chain itself.
                (Kind::Close, _) => chain = open.pop().unwrap_or(0) + 1,
                // Items stand side by side.
                (Kind::Operator, ",") => chain = open.last().copied().unwrap_or(0),
                (Kind::Operator | Kind::Word, _) => chain += 1,
                _ => {}
            }
            if chain > MAX_CHAIN {
                return Err("it has an expression that is too long".to_owned());
            }
        }
        Ok(())
    }

    fn slices(&mut self, tokens: &[Token]) {
        let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            match (token.kind, self.text(*token)) {
                (Kind::Open, _) => open.push((index, Vec::new())),
                (Kind::Operator, ":") => {
                    if let Some((_, colons)) = open.last_mut() {
                        colons.push(index);
                    }
                }
                (Kind::Close, bracket) => {
                    let Some((first, colons)) = open.pop() else { continue };
                    // Nothing else has a colon between square brackets; a dictionary has braces of its own.
                    if bracket == "]" && self.text(tokens[first]) == "[" && !colons.is_empty() {
                        self.slice(tokens, first, &colons, index);
                    }
                }
                _ => {}
            }
        }
    }

    fn slice(&mut self, tokens: &[Token], open: usize, colons: &[usize], close: usize) {
        let mut before = open;
        self.replace(tokens[open], ".__slice(");
        for &bound in colons.iter().chain([&close]) {
            if bound == before + 1 {
                self.insert(tokens[bound].start, "none");
            }
            self.replace(tokens[bound], if bound == close { ")" } else { "," });
            before = bound;
        }
    }

    fn operands(&mut self, tokens: &[Token]) {
        let mut guards: BTreeSet<(usize, &str)> = BTreeSet::new();
        for (index, token) in tokens.iter().enumerate() {
            let guard = match (token.kind, self.text(*token)) {
                (Kind::Operator, "~" | "+") => "|__bounded",
                (Kind::Operator, "*") => "|__factor",
                _ => continue,
            };
            let Some(left) = index.checked_sub(1).map(|left| tokens[left]) else { continue };
            // Without a value on its left it is a sign, or the star of `f(*arguments)`.
            match left.kind {
                Kind::Name | Kind::Close => guards.insert((left.end, guard)),
                // Literals are as small as the source, unless they are multiplied.
                Kind::Number | Kind::Text => guard == "|__factor" && guards.insert((left.end, guard)),
                Kind::Word | Kind::Open | Kind::Operator => continue,
            };
            if let Some(end) = self.operand_end(tokens, index + 1, guard == "|__factor") {
                guards.insert((end, guard));
            }
        }
        for (position, guard) in guards {
            self.insert(position, guard);
        }
    }

    /// Where the operand that starts at `index` ends, with its attributes, calls and filters; `None` if there is none, or
    /// if it is a literal and those do not count.
    fn operand_end(&self, tokens: &[Token], mut index: usize, literals: bool) -> Option<usize> {
        while matches!(tokens.get(index), Some(token) if matches!(self.text(*token), "-" | "+")) {
            index += 1;
        }
        let first = *tokens.get(index)?;
        let mut last = match first.kind {
            Kind::Open => close_of(tokens, index)?,
            Kind::Name | Kind::Number | Kind::Text => index,
            Kind::Word | Kind::Close | Kind::Operator => return None,
        };
        while let Some(next) = tokens.get(last + 1) {
            last = match (next.kind, self.text(*next)) {
                (Kind::Open, "(" | "[") => close_of(tokens, last + 1)?,
                (Kind::Operator, "." | "|") if last + 2 < tokens.len() => last + 2,
                _ => break,
            };
        }
        let bare = last == index && matches!(first.kind, Kind::Number | Kind::Text);
        (literals || !bare).then(|| tokens[last].end)
    }

    fn assignment(&mut self, tokens: &[Token]) {
        let mut depth = 0_i64;
        let mut guard = ")|__bounded";
        for (index, token) in tokens.iter().enumerate() {
            match (token.kind, self.text(*token)) {
                (Kind::Open, _) => depth += 1,
                (Kind::Close, _) => depth -= 1,
                (Kind::Operator, ".") => guard = ")|__kept",
                (Kind::Operator, "=") if depth == 0 && index + 1 < tokens.len() => {
                    self.insert(token.end, " (");
                    self.insert(tokens[tokens.len() - 1].end, guard);
                    return;
                }
                _ => {}
            }
        }
    }

    fn apply(mut self) -> String {
        // Stable: what was inserted first at one place stays first there.
        self.edits.sort_by_key(|edit| edit.start);
        let mut result = String::with_capacity(self.source.len() * 2);
        let mut position = 0;
        for edit in &self.edits {
            result.push_str(&self.source[position..edit.start]);
            result.push_str(&edit.text);
            position = edit.end;
        }
        result.push_str(&self.source[position..]);
        result
    }
}
