//! `--record-trace`: what tokens choose while a command runs, as a file when it ends.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use moxel::Engine;

use crate::output;

/// A recording under way, if one was asked for.
pub struct TraceFile<'a>(Option<(&'a Engine, PathBuf)>);

impl<'a> TraceFile<'a> {
    /// Begins to record. What makes writing impossible is said now, not after a long text.
    pub fn begin(engine: &'a Engine, model: &Path, file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self(None)) };
        check_place(file)?;
        let name = model.file_name().unwrap_or(model.as_os_str()).to_string_lossy();
        engine.start_trace(&name)?;
        Ok(Self(Some((engine, file.to_owned()))))
    }

    /// Writes what was recorded, as a whole or not at all.
    pub fn write(self) -> anyhow::Result<()> {
        let Some((engine, file)) = self.0 else { return Ok(()) };
        let Some(trace) = engine.take_trace() else { return Ok(()) };
        replace(&file, &trace.to_text()?)?;
        eprintln!("{} tokens, {}: {}", trace.tokens().len(), file.display(), output::bytes(fs::metadata(&file)?.len()));
        Ok(())
    }
}

/// Fails where no such file can be written.
pub fn check_place(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if file.is_dir() || !folder.is_dir() {
        bail!("cannot write {}: give a file in a folder that exists", file.display());
    }
    Ok(())
}

/// Writes a file under another name first: whoever finds it under its own finds all of it.
pub fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = OsString::from(file);
    name.push(".partial");
    let partial = PathBuf::from(name);
    let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, file));
    if written.is_err() {
        // It is the first error that matters.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write {}", file.display()))
}
