//! Keeping the cache's folder below its limit.

use super::block::{COMPLETE, TEMPORARY};
use std::{
    fs::{self, DirEntry},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A file that was being written so long ago belongs to a process that has died.
const ABANDONED: Duration = Duration::from_secs(3600);

struct Found {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Removes the blocks that were not used for longest, if there are more than `limit` bytes, until a
/// tenth of it is free; and what processes that died have left. The bytes that remain.
///
/// What cannot be read or removed, because another process was faster, counts as gone. Files that are
/// not the cache's own are left alone: somebody may have named a folder with other things in it.
pub(super) fn sweep(folder: &Path, limit: u64) -> u64 {
    let mut blocks = Vec::new();
    for subfolder in entries(folder) {
        if subfolder.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&subfolder.path(), &mut blocks);
        }
    }
    let mut held: u64 = blocks.iter().map(|block| block.bytes).sum();
    if held <= limit {
        return held;
    }
    blocks.sort_by_key(|block| block.used);
    for block in blocks {
        if held <= limit - limit / 10 {
            break;
        }
        let _ = fs::remove_file(&block.path);
        // Succeeds with the last file only.
        let _ = block.path.parent().map(fs::remove_dir);
        held -= block.bytes;
    }
    held
}

fn collect(subfolder: &Path, blocks: &mut Vec<Found>) {
    for entry in entries(subfolder) {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let has_extension = |wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
        if has_extension(COMPLETE) {
            blocks.push(Found { path, bytes: metadata.len(), used });
        } else if has_extension(TEMPORARY) && used.elapsed().is_ok_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(path);
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}
