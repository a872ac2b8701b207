//! Files that are kept for the next run, in the folder of the cache: what is missing or damaged is made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use crate::args::Common;
use crate::location;

/// A file in the cache's folder.
pub struct KeptFile(PathBuf);

impl KeptFile {
    /// `None` where nothing is to be kept.
    pub fn new(common: &Common, name: &str) -> Option<Self> {
        location::cache_folder(common).map(|folder| Self(folder.join(name)))
    }

    /// Its content, where there is any.
    pub fn read(&self) -> Option<Vec<u8>> {
        fs::read(&self.0).ok()
    }

    /// Replaces it as a whole: another process sees the old content or the new one. A problem is told and does not matter otherwise.
    pub fn write(&self, content: &[u8]) {
        if let Err(error) = replace(&self.0, content) {
            eprintln!("warning: cannot keep {}: {error}; it will be made anew", self.0.display());
        }
    }
}

fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let temporary = path.with_extension(format!("{}.tmp", process::id()));
    let written = fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
