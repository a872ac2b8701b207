//! A source that reads a folder of the local file system.

use super::source::{BoxFuture, WeightSource, past_the_end};
use crate::{Error, Result};
use blocking::unblock;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The files of one local folder, read at given positions.
///
/// Files are not mapped into memory: with a map, a file that shrinks while it is read kills the
/// process, where a positioned read returns an error. Each file is opened once, so that a checkpoint
/// replaced on disk meanwhile is still read from one consistent file. Reading happens on worker
/// threads and begins with the call, so that several reads can be on their way at once.
#[derive(Debug)]
pub struct FileSource {
    folder: Arc<Folder>,
}

impl FileSource {
    /// The files in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Arc::new(Folder { path: folder.into(), open: Mutex::default() }) }
    }
}

impl WeightSource for FileSource {
    fn name(&self) -> String {
        self.folder.path.display().to_string()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        let (folder, file) = (Arc::clone(&self.folder), file.to_owned());
        Box::pin(unblock(move || folder.file_size(&file)))
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>> {
        let (folder, file) = (Arc::clone(&self.folder), file.to_owned());
        Box::pin(unblock(move || folder.read_range(&file, range)))
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// The folder and the files of it that were opened.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    open: Mutex<HashMap<String, Arc<File>>>,
}

impl Folder {
    fn path_of(&self, file: &str) -> Result<PathBuf> {
        let mut components = Path::new(file).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) => Ok(self.path.join(name)),
            _ => Err(Error::Read {
                file: self.path.join(file).display().to_string(),
                cause: "the name leads out of the checkpoint's folder".to_owned(),
            }),
        }
    }

    fn handle(&self, file: &str) -> Result<Option<Arc<File>>> {
        let path = self.path_of(file)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = open.get(file) {
            return Ok(Some(handle.clone()));
        }
        match open_regular(&path) {
            Ok(handle) => {
                let handle = Arc::new(handle);
                open.insert(file.to_owned(), handle.clone());
                Ok(Some(handle))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(read_error(&path, &error)),
        }
    }

    fn file_size(&self, file: &str) -> Result<Option<u64>> {
        let Some(handle) = self.handle(file)? else {
            return Ok(None);
        };
        handle.metadata().map(|metadata| Some(metadata.len())).map_err(|error| read_error(&self.path.join(file), &error))
    }

    fn read_range(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let path = self.path.join(file);
        // The size is asked for again before anything is allocated: the range may stem from a
        // header, and the file may have changed since that was checked.
        let size = self.file_size(file)?;
        let (Some(size), Some(handle)) = (size, self.handle(file)?) else {
            return Err(read_error(&path, &ErrorKind::NotFound.into()));
        };
        let too_far = || past_the_end(path.display().to_string(), &range, size);
        if range.start > range.end || range.end > size {
            return Err(too_far());
        }
        let length = usize::try_from(range.end - range.start).map_err(|_| too_far())?;
        let mut bytes = vec![0; length];
        match read_at(&handle, &mut bytes, range.start) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let size = self.file_size(file)?.unwrap_or(0);
                Err(past_the_end(path.display().to_string(), &range, size))
            }
            Err(error) => Err(read_error(&path, &error)),
        }
    }
}

/// Opens a file after looking at what it is: opening a named pipe would wait for a writer.
fn open_regular(path: &Path) -> io::Result<File> {
    if path.metadata()?.is_file() { File::open(path) } else { Err(io::Error::other("it is not a regular file")) }
}

pub(super) fn read_error(path: &Path, error: &io::Error) -> Error {
    Error::Read { file: path.display().to_string(), cause: error.to_string() }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = bytes.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
