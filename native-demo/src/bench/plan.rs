//! What is measured: processing a prompt or generating, at a depth of the context.

use std::fmt;

/// One test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    pub kind: Kind,
    /// Tokens that are timed.
    pub count: usize,
    /// Tokens that are in the context before.
    pub depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tokens given together.
    Prompt,
    /// Tokens one by one.
    Generation,
}

impl Test {
    pub fn prompt(count: usize, depth: usize) -> Self {
        Self { kind: Kind::Prompt, count, depth }
    }

    pub fn generation(count: usize, depth: usize) -> Self {
        Self { kind: Kind::Generation, count, depth }
    }

    /// Positions that the context needs.
    pub fn positions(&self) -> usize {
        self.depth + self.count
    }
}

impl fmt::Display for Test {
    /// As llama-bench calls it: `pp512`, `tg128 @ d4096`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Prompt { "pp" } else { "tg" };
        write!(f, "{kind}{}", self.count)?;
        if self.depth > 0 { write!(f, " @ d{}", self.depth) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Test;

    #[test]
    fn tests_are_named_as_elsewhere() {
        assert_eq!(Test::prompt(512, 0).to_string(), "pp512");
        assert_eq!(Test::generation(32, 4096).to_string(), "tg32 @ d4096");
    }
}
