//! Source files as the rules see them: what is code, what is in string literals, what is test code.

use std::path::Path;

/// One file of the repository, or a made-up one that a rule must find fault with.
pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Without comments, test modules and what string literals hold; empty for files that are not Rust.
    pub code: String,
    /// The content of the string literals outside comments and test modules.
    pub strings: Vec<String>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, strings) = if path.ends_with(".rs") { split(text) } else { Default::default() };
        Self { path: path.into(), text: text.into(), code, strings }
    }

    /// Code of the library, be it a twin of a kernel, but not a test file.
    pub fn is_library(&self) -> bool {
        self.path.starts_with("src/") && self.path.ends_with(".rs") && !self.is_test()
    }

    /// Library code that ships: twins are compiled for tests only.
    pub fn ships(&self) -> bool {
        self.is_library() && !self.path.starts_with("src/reference/")
    }

    /// `tests.rs` and everything in folders named `tests`.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.split('/').any(|folder| folder == "tests")
    }

    /// Whether `word` occurs in the code as a whole identifier.
    pub fn names(&self, word: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        self.code
            .match_indices(word)
            .any(|(at, _)| !self.code[..at].ends_with(part) && !self.code[at + word.len()..].starts_with(part))
    }
}

/// Every file below the repository's `folders` whose name ends in one of `endings`.
///
/// A folder that is missing is an error: a test of nothing would pass.
pub fn read(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in folders {
        walk(root, &root.join(folder), endings, &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(root: &Path, folder: &Path, endings: &[&str], found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(root, &path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push(Source::new(&relative, &text));
        }
    }
}

/// Code with comments, string contents and test modules left out, and the strings of what remains.
fn split(text: &str) -> (String, Vec<String>) {
    let mut code = String::with_capacity(text.len());
    let mut strings: Vec<(usize, String)> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (kind, len) = token(rest, code.chars().next_back());
        match kind {
            Token::Comment => {}
            Token::Text { open, close } => {
                strings.push((code.len(), rest[open..len - close].to_owned()));
                code.push_str("\"\"");
            }
            Token::Other => code.push(c),
        }
        // A comment or string that spans lines keeps words on either side of it apart.
        if !matches!(kind, Token::Other) {
            code.extend(rest[..len].matches('\n'));
        }
        rest = &rest[len..];
    }
    while let Some((from, to)) = test_module(&code) {
        code.replace_range(from..to, "");
        strings.retain(|(at, _)| !(from..to).contains(at));
        for (at, _) in strings.iter_mut().filter(|(at, _)| *at >= to) {
            *at -= to - from;
        }
    }
    (code, strings.into_iter().map(|(_, content)| content).collect())
}

enum Token {
    Comment,
    /// A string or character literal whose content begins at `open` and ends `close` before its end.
    Text {
        open: usize,
        close: usize,
    },
    Other,
}

/// What `rest` begins with, and its length in bytes.
fn token(rest: &str, before: Option<char>) -> (Token, usize) {
    if rest.starts_with("//") {
        return (Token::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Token::Comment, block_comment(rest));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word {
        let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
        let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
        if prefix <= 2 && rest[prefix + hashes..].starts_with('"') {
            let raw = rest[..prefix].contains('r');
            if raw || hashes == 0 {
                return string(rest, prefix + hashes + 1, raw.then_some(hashes));
            }
        }
    }
    // 'x' and '\n' are characters, 'static is a lifetime.
    let mut chars = rest.chars();
    if chars.next() == Some('\'') {
        match (chars.next(), chars.next()) {
            (Some('\\'), Some(escaped)) => {
                let skip = 2 + escaped.len_utf8();
                if let Some(end) = rest[skip..].find('\'') {
                    return (Token::Text { open: 1, close: 1 }, skip + end + 1);
                }
            }
            (Some(c), Some('\'')) => return (Token::Text { open: 1, close: 1 }, c.len_utf8() + 2),
            _ => {}
        }
    }
    (Token::Other, rest.chars().next().map_or(1, char::len_utf8))
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// A string literal whose content begins at `open`; `hashes` for raw ones.
fn string(rest: &str, open: usize, hashes: Option<usize>) -> (Token, usize) {
    if let Some(hashes) = hashes {
        let end = format!("\"{}", "#".repeat(hashes));
        let len = rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len());
        return (Token::Text { open, close: end.len().min(len - open) }, len);
    }
    let mut escaped = false;
    for (at, c) in rest[open..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (Token::Text { open, close: 1 }, open + at + 1),
            _ => {}
        }
    }
    (Token::Text { open, close: 0 }, rest.len())
}

/// Where the next item that only tests compile is in code without strings and comments.
fn test_module(code: &str) -> Option<(usize, usize)> {
    const MARK: &str = "#[cfg(test)]";
    let from = code.find(MARK)?;
    let mut depth = 0;
    for (at, c) in code[from + MARK.len()..].char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == '}' || c == ';') {
            return Some((from, from + MARK.len() + at + 1));
        }
    }
    Some((from, code.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_strings_are_told_apart() {
        let source = Source::new(
            "src/a.rs",
            "use x; // wgpu\n/* wgpu /* wgpu */ wgpu */ let a = \"wgpu \\\" b\"; let c = '\"'; fn f<'a>(r#in: &'a str) {}\n\
             let raw = r#\"one \" two\"#; let b = b\"three\"; after",
        );
        assert!(!source.names("wgpu"), "{}", source.code);
        assert_eq!(source.strings, ["wgpu \\\" b", "\"", "one \" two", "three"]);
        assert!(source.names("after") && source.names("f") && !source.names("afte"));
    }

    #[test]
    fn test_code_is_left_out() {
        let source = Source::new(
            "src/a.rs",
            "one \"1\"; #[cfg(test)]\nmod tests { fn f() { x[0]; \"2\" } }\n#[cfg(test)]\nconst A: [u8; 2] = [1, 2]; two \"3\"",
        );
        assert!(source.names("one") && source.names("two") && !source.names("x") && !source.names("A"));
        assert_eq!(source.strings, ["1", "3"]);
        assert!(Source::new("src/kernels/tests/attention.rs", "").is_test());
        assert!(Source::new("src/sampler/tests.rs", "").is_test() && !Source::new("src/sampler.rs", "").is_test());
    }
}
