//! One block of a cached file, on disk: what it is a part of, its bytes, and a hash of both.
//!
//! A block is written under a temporary name and then renamed, so that nobody ever sees a part of
//! one, and two processes that write the same block leave one whole block. What a crash or a failing
//! disk makes of it is noticed by the hash.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};
use twox_hash::XxHash3_128;

/// Of the file's format, its last digit being the version.
const MAGIC: &[u8; 8] = b"moxelbk1";
const HASH_BYTES: usize = 16;
const HEAD_BYTES: usize = MAGIC.len() + HASH_BYTES + 4;
/// How the names of whole blocks end, and of those that are being written.
pub(super) const COMPLETE: &str = "moxel-block";
pub(super) const TEMPORARY: &str = "moxel-part";

/// A block: its place on disk, and the text that says what it is a part of.
pub(super) struct Block {
    pub path: PathBuf,
    /// Names the file, its version and the block: the path holds only a hash of that, and whoever
    /// makes another file's hash the same must not get his bytes taken for it.
    pub identity: String,
}

impl Block {
    /// The block's bytes, or `None` if they are not there. What is there and spoilt is removed.
    pub fn load(&self, len: usize) -> Option<Vec<u8>> {
        let mut content = Vec::with_capacity(HEAD_BYTES + self.identity.len() + len);
        // One byte more than a whole block has shows a file that is too long.
        let most = content.capacity() as u64 + 1;
        // Windows sets times only of files that are open for writing.
        let mut file = File::options().read(true).write(cfg!(windows)).open(&self.path).ok()?;
        Read::by_ref(&mut file).take(most).read_to_end(&mut content).ok()?;
        let Some(start) = self.data_start(&content, len) else {
            drop(file);
            let _ = fs::remove_file(&self.path);
            return None;
        };
        // The time of the latest use decides what is evicted; where it cannot be set, that of writing does.
        let _ = file.set_modified(SystemTime::now());
        content.drain(..start);
        Some(content)
    }

    /// Where the data begins, if everything about the block is right.
    fn data_start(&self, content: &[u8], len: usize) -> Option<usize> {
        let (magic, rest) = content.split_at_checked(MAGIC.len())?;
        let (hash, hashed) = rest.split_at_checked(HASH_BYTES)?;
        let (identity_len, rest) = hashed.split_at_checked(4)?;
        let identity_len = usize::try_from(u32::from_le_bytes(identity_len.try_into().ok()?)).ok()?;
        let (identity, data) = rest.split_at_checked(identity_len)?;
        let right = magic == MAGIC && hash == hash_of(hashed) && identity == self.identity.as_bytes() && data.len() == len;
        right.then(|| HEAD_BYTES + identity_len)
    }

    /// Writes the block; the bytes that it takes on disk.
    ///
    /// # Errors
    /// The system's, and then nothing of the block is left.
    pub fn save(&self, data: &[u8]) -> io::Result<u64> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("{}-{}.{TEMPORARY}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.path.with_extension(unique);
        let written = self.write(&temporary, data).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            // Another process may have evicted the folder meanwhile; and Windows does not replace a file
            // that somebody reads, which is then as good as ours.
            let harmless = error.kind() == ErrorKind::NotFound || self.path.is_file();
            return if harmless { Ok(0) } else { Err(error) };
        }
        Ok((HEAD_BYTES + self.identity.len() + data.len()) as u64)
    }

    fn write(&self, temporary: &Path, data: &[u8]) -> io::Result<()> {
        let identity_len = u32::try_from(self.identity.len()).map_err(io::Error::other)?;
        let hashed = [&identity_len.to_le_bytes(), self.identity.as_bytes(), data].concat();
        let mut file = match File::create_new(temporary) {
            // The folder is not there yet, or another process has just evicted all that it held.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                temporary.parent().map_or(Ok(()), fs::create_dir_all)?;
                File::create_new(temporary)?
            }
            opened => opened?,
        };
        file.write_all(MAGIC)?;
        file.write_all(&hash_of(&hashed))?;
        file.write_all(&hashed)
    }
}

fn hash_of(bytes: &[u8]) -> [u8; HASH_BYTES] {
    XxHash3_128::oneshot(bytes).to_le_bytes()
}
