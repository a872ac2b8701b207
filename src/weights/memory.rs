//! A source whose files are already in memory: for tests, and for programs that carry a model.

use super::source::{BoxFuture, WeightSource, past_the_end};
use crate::{Error, Result};
use std::{collections::BTreeMap, ops::Range};

/// Files held in memory, by name.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    files: BTreeMap<String, Vec<u8>>,
}

impl MemorySource {
    /// A source with these files.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { files }
    }

    /// Adds one file, replacing any of the same name.
    pub fn with(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.into(), bytes.into());
        self
    }

    fn slice(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let bytes = self
            .files
            .get(file)
            .ok_or_else(|| Error::Read { file: file.to_owned(), cause: "there is no such file in memory".to_owned() })?;
        let wanted = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        wanted
            .and_then(|(start, end)| bytes.get(start..end))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| past_the_end(file.to_owned(), &range, bytes.len() as u64))
    }
}

impl WeightSource for MemorySource {
    fn name(&self) -> String {
        String::new()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        let size = self.files.get(file).map(|bytes| bytes.len() as u64);
        Box::pin(async move { Ok(size) })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move { self.slice(file, range) })
    }

    fn is_local(&self) -> bool {
        true
    }
}
