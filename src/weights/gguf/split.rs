//! Split files: `name-00001-of-00003.gguf` and so on, as llama.cpp's gguf-split writes them.

use serde_json::{Map, Value};

/// The name of one part of a split file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::weights) struct SplitName {
    prefix: String,
    /// How many parts there are, at least 1.
    pub count: u32,
}

impl SplitName {
    /// Takes apart a name that ends like a part's; `None` for every other name.
    pub fn parse(file: &str) -> Option<SplitName> {
        let (rest, count) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<u32>().ok()).flatten()
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (1..=count).contains(&number).then(|| SplitName { prefix: prefix.to_owned(), count })
    }

    /// The name of part `number`, counted from 1.
    pub fn part(&self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count)
    }
}

/// Checks that a file says about itself what its name says, and returns how many tensors all parts
/// together should hold if it says that.
pub(super) fn check(metadata: &Map<String, Value>, name: &Option<SplitName>, part: u32) -> Result<Option<u64>, String> {
    let number = |key: &str| match metadata.get(key) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("{key} is {value}, which is no count")),
    };
    let stored_count = number("split.count")?;
    let expected_count = name.as_ref().map_or(1, |name| u64::from(name.count));
    if stored_count.unwrap_or(1).max(1) != expected_count {
        return Err(match (name, stored_count) {
            (None, Some(count)) => {
                format!("this is one of {count} parts, but it is not named like one (…-00001-of-{count:05}.gguf)")
            }
            (_, stored) => format!(
                "by its name it is one of {expected_count} parts, but its split.count is {}",
                stored.map_or("missing".to_owned(), |count| count.to_string())
            ),
        });
    }
    // Numbered from 0 inside, from 1 in the name.
    if let Some(stored) = number("split.no")?
        && stored != u64::from(part - 1)
    {
        return Err(format!("by its name it is part {part}, but its split.no is {stored}"));
    }
    number("split.tensors.count")
}
