//! Which modules of the crate a file refers to.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;

/// The module that a file of `src/` is: `src/gpu/buffer.rs` and `src/gpu/mod.rs` belong to `gpu`, `src/lib.rs` to none.
pub fn module(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/")?;
    let first = inner.split(['/', '.']).next()?;
    (first != "lib").then_some(first)
}

/// What the crate's root re-exports: name to module.
pub fn exports(root: &Source) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for at in root.code.match_indices("pub use ").map(|(at, text)| at + text.len()) {
        for path in tree(&root.code[at..]) {
            if let [module, .., name] = path.as_slice() {
                exports.insert(name.clone(), module.clone());
            }
        }
    }
    exports
}

/// The top-level modules other than its own that a file names, by `crate::`, by `super::` or by a re-exported name.
pub fn references(file: &Source, exports: &BTreeMap<String, String>) -> BTreeSet<String> {
    let depth = depth(&file.path);
    let mut found = BTreeSet::new();
    for (word, up) in [("crate::", usize::MAX), ("super::", 1)] {
        for (at, _) in file.code.match_indices(word) {
            // `$crate::` in a macro means the same; `xcrate::` and the second of `super::super::` are not ours.
            let before = file.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || (word == "super::" && c == ':')) {
                continue;
            }
            let mut rest = &file.code[at + word.len()..];
            let mut up = up;
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, up) = (further, up + 1);
            }
            if up < depth {
                continue;
            }
            found.extend(tree(rest).into_iter().filter_map(|path| path.into_iter().next()));
        }
    }
    let own = module(&file.path);
    found.into_iter().map(|name| exports.get(&name).cloned().unwrap_or(name)).filter(|name| Some(name.as_str()) != own).collect()
}

/// How many `super` lead from a file's module to the crate's root.
fn depth(path: &str) -> usize {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if inner == "lib" { 0 } else { inner.split('/').count() }
}

/// The paths of a use tree such as `gpu::{Buffer, record::Recorder as R}`, up to whatever ends it.
fn tree(text: &str) -> Vec<Vec<String>> {
    let (paths, _) = branch(text.trim_start());
    paths
}

/// The paths of one branch and what follows it.
fn branch(text: &str) -> (Vec<Vec<String>>, &str) {
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut all = Vec::new();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            match rest.strip_prefix('}') {
                Some(after) => return (all, after),
                None if rest.is_empty() => return (all, rest),
                None => {}
            }
            let (paths, after) = branch(rest);
            all.extend(paths);
            // Past `as name`, or past anything else that cannot be read: never stay where we are.
            let skip = after.find([',', '}']).unwrap_or(after.len());
            rest = &after[skip..];
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(further) = rest.strip_prefix("::") else { return (vec![vec![name.to_owned()]], rest) };
    let (paths, after) = branch(further.trim_start());
    let paths = paths.into_iter().map(|path| std::iter::once(name.to_owned()).chain(path).collect()).collect();
    (paths, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, code: &str, expected: &[&str]) {
        let root = Source::new("src/lib.rs", "pub use gpu::{Caps, device::Gpu}; pub use error::Error;");
        let found = references(&Source::new(path, code), &exports(&root));
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{path}: {code}");
    }

    #[test]
    fn references_are_found() {
        check("src/a.rs", "use crate::gpu::Buffer;", &["gpu"]);
        check("src/a.rs", "use crate::{Error, gpu::{Buffer, Slice}, weights::DType as D,\n};", &["error", "gpu", "weights"]);
        check("src/a.rs", "fn f() { super::gpu::open(); crate::weights::x() }", &["gpu", "weights"]);
        check("src/a.rs", "use crate::Gpu; pub(crate) fn f() {} // crate::weights", &["gpu"]);
        check("src/gpu/buffer.rs", "use super::Gpu; use super::device::resolved; use crate::gpu::Caps;", &[]);
        check("src/gpu/mod.rs", "use super::weights;", &["weights"]);
        check("src/gpu/deep/er.rs", "use super::super::x; use super::super::super::layers::Pass;", &["layers"]);
        check("src/lib.rs", "", &[]);
    }
}
