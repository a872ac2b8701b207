//! A folder that appears under its name when it is whole, or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::shard::write_error;
use crate::weights::MANIFEST;
use crate::{Error, Result};

/// Names tried for the unfinished folder: others may be left from processes that were killed.
const MOST_NAMES: u32 = 1000;

/// A folder beside its destination. Dropping it removes it with everything inside.
pub(super) struct Partial {
    path: PathBuf,
    destination: PathBuf,
    replace: bool,
    published: bool,
}

impl Partial {
    /// # Errors
    /// The destination exists and may not be replaced, or nothing can be made beside it.
    pub(super) fn create(destination: &Path, replace: bool) -> Result<Self> {
        let Some(name) = destination.file_name() else {
            return Err(Error::Request(format!("{} is not the name of a new folder", destination.display())));
        };
        check_free(destination, replace)?;
        for number in 0..MOST_NAMES {
            let mut partial = name.to_owned();
            partial.push(format!(".partial-{}-{number}", std::process::id()));
            let path = destination.with_file_name(partial);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, destination: destination.to_owned(), replace, published: false }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(write_error(&path, &error)),
            }
        }
        Err(write_error(destination, &io::Error::other("too many unfinished folders lie beside it; remove them")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of this name goes.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a small file, and waits until the disk has it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.file(name);
        let written = File::create_new(&path).and_then(|mut file| {
            io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        });
        written.map_err(|error| write_error(&path, &error))
    }

    /// Gives the folder its name.
    pub(super) fn publish(mut self) -> Result<()> {
        let fail = |error: io::Error| write_error(&self.destination, &error);
        sync_folder(&self.path).map_err(fail)?;
        check_free(&self.destination, self.replace)?;
        let mut old = self.path.clone().into_os_string();
        old.push(".replaced");
        let old = PathBuf::from(old);
        let replaced = self.replace && self.destination.exists();
        if replaced {
            fs::rename(&self.destination, &old).map_err(fail)?;
        }
        if let Err(error) = fs::rename(&self.path, &self.destination) {
            if replaced {
                fs::rename(&old, &self.destination).map_err(fail)?;
            }
            return Err(fail(error));
        }
        self.published = true;
        let parent = self.destination.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_folder(parent.unwrap_or(Path::new("."))).map_err(|error| write_error(&self.destination, &error))?;
        if replaced {
            fs::remove_dir_all(&old).map_err(|error| write_error(&old, &error))?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // There is nobody to tell, and the error that led here matters more.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// That nothing would be lost at `destination`.
fn check_free(destination: &Path, replace: bool) -> Result<()> {
    if destination.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    let shown = destination.display();
    if !replace {
        return Err(Error::Request(format!("{shown} exists already; choose another name, or have it replaced (--force)")));
    }
    if !destination.join(MANIFEST).is_file() {
        return Err(Error::Request(format!("{shown} is not a packed model, and nothing else is replaced")));
    }
    Ok(())
}

/// Makes sure that the disk knows the folder's entries.
fn sync_folder(path: &Path) -> io::Result<()> {
    // Windows has no such call for folders.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
