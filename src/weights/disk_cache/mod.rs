//! Keeps what was read from a slow source on the local disk, for this run and the next ones.

mod block;
mod eviction;
mod store;

use super::source::{BoxFuture, WeightSource, past_the_end, read_exactly};
use crate::{Result, weights::source::display_name};
use block::{Block, COMPLETE};
use blocking::unblock;
use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use store::Store;
use twox_hash::XxHash3_128;

/// What is fetched and kept at once. Larger blocks would fetch much that nobody asked for at both ends
/// of an expert of a megabyte; smaller ones would make too many files.
const BLOCK_BYTES: u64 = 256 << 10;

/// Blocks that are fetched together at most, so that a failure loses little.
const MOST_MISSING: u64 = 64;

/// Where a [`DiskCache`] keeps things, and how much.
#[derive(Clone)]
pub struct CacheOptions {
    /// The cache's own folder; it is made when there is something to keep.
    pub folder: PathBuf,
    /// Bytes that the folder may hold, more or less: all programs that use it at the same time notice
    /// each other's blocks with some delay. Above it the blocks that were not used for longest go.
    pub max_bytes: u64,
    /// Told in a sentence, once, if nothing more can be kept, as where the disk is full. Reading goes
    /// on without.
    pub on_problem: Arc<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheOptions").field("folder", &self.folder).field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

/// A source whose bytes are fetched once, and from then on read from the disk.
///
/// They are kept in blocks under the source's name, the file's and its
/// [`version`](WeightSource::version): a file that changes is fetched anew, and one without a version
/// is not kept at all. Each block has a hash; one that is spoilt is dropped and fetched again. Several
/// processes may use one folder.
pub struct DiskCache {
    inner: Arc<dyn WeightSource>,
    store: Arc<Store>,
    kept: Mutex<HashMap<String, Arc<Kept>>>,
}

/// A file that is kept.
struct Kept {
    folder: PathBuf,
    /// Its source, name, version and size.
    identity: String,
    size: u64,
}

impl Kept {
    fn block(&self, index: u64) -> Block {
        Block {
            path: self.folder.join(format!("{index:x}.{COMPLETE}")),
            identity: format!("{}\nblock {index} of {BLOCK_BYTES} bytes", self.identity),
        }
    }

    /// The bytes of the blocks `blocks`, counted from the start of the file.
    fn bytes_of(&self, blocks: Range<u64>) -> Range<u64> {
        blocks.start * BLOCK_BYTES..blocks.end.saturating_mul(BLOCK_BYTES).min(self.size)
    }

    fn length_of(&self, block: u64) -> usize {
        let bytes = self.bytes_of(block..block + 1);
        (bytes.end - bytes.start) as usize
    }

    /// The blocks that are here from the first of `blocks` on, one after the other, up to one that is missing.
    fn load(&self, blocks: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for index in blocks {
            match self.block(index).load(self.length_of(index)) {
                Some(block) => bytes.extend(block),
                None => break,
            }
        }
        bytes
    }

    /// The blocks from the first of `blocks`, which is missing, up to one that seems to be here.
    fn missing(&self, blocks: Range<u64>) -> Range<u64> {
        let end = blocks.clone().skip(1).take(MOST_MISSING as usize - 1).find(|&index| self.block(index).path.is_file());
        blocks.start..end.unwrap_or_else(|| blocks.end.min(blocks.start + MOST_MISSING))
    }
}

impl DiskCache {
    /// Keeps what is read from `inner`. Nothing happens on the disk before something is read.
    pub fn new(inner: Arc<dyn WeightSource>, options: CacheOptions) -> Self {
        Self { inner, store: Arc::new(Store::new(options)), kept: Mutex::default() }
    }

    /// How `file` is kept; `None` if nothing would tell that it has changed.
    async fn kept(&self, file: &str) -> Result<Option<Arc<Kept>>> {
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(file) {
            return Ok(Some(Arc::clone(kept)));
        }
        let (Some(size), Some(version)) = (self.inner.size(file).await?, self.inner.version(file).await?) else {
            return Ok(None);
        };
        let identity = format!("{}\n{file}\n{version}\n{size} bytes", self.inner.name());
        let folder = self.store.folder().join(format!("{:032x}", XxHash3_128::oneshot(identity.as_bytes())));
        let kept = Arc::new(Kept { folder, identity, size });
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned(), Arc::clone(&kept));
        Ok(Some(kept))
    }

    async fn read_range(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let Some(kept) = self.kept(file).await? else {
            return self.inner.read(file, range).await;
        };
        if range.start > range.end || range.end > kept.size {
            return Err(past_the_end(display_name(&*self.inner, file), &range, kept.size));
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let end = range.end.div_ceil(BLOCK_BYTES);
        let mut next = range.start / BLOCK_BYTES;
        let skip = (range.start - next * BLOCK_BYTES) as usize;
        let mut bytes = Vec::new();
        while next < end {
            let (at, blocks) = (Arc::clone(&kept), next..end);
            let (loaded, missing) = unblock(move || {
                let loaded = at.load(blocks.clone());
                let first = blocks.start + (loaded.len() as u64).div_ceil(BLOCK_BYTES);
                (loaded, at.missing(first..blocks.end))
            })
            .await;
            append(&mut bytes, loaded);
            if !missing.is_empty() {
                append(&mut bytes, self.fetch(file, &kept, missing.clone()).await?);
            }
            next = missing.end;
        }
        bytes.drain(..skip);
        bytes.truncate((range.end - range.start) as usize);
        Ok(bytes)
    }

    /// Reads blocks from the source, and keeps them.
    async fn fetch(&self, file: &str, kept: &Arc<Kept>, blocks: Range<u64>) -> Result<Vec<u8>> {
        let bytes = read_exactly(&*self.inner, file, kept.bytes_of(blocks.clone())).await?;
        let (store, kept) = (Arc::clone(&self.store), Arc::clone(kept));
        // Waited for, so that a disk slower than the network does not let blocks pile up in memory.
        let bytes = unblock(move || {
            for (index, block) in blocks.zip(bytes.chunks(BLOCK_BYTES as usize)) {
                store.save(&kept.block(index), block);
            }
            bytes
        });
        Ok(bytes.await)
    }
}

impl WeightSource for DiskCache {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        self.inner.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(self.read_range(file, range))
    }

    fn version<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        self.inner.version(file)
    }
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCache")
            .field("source", &self.inner.name())
            .field("folder", &self.store.folder())
            .finish_non_exhaustive()
    }
}

fn append(bytes: &mut Vec<u8>, more: Vec<u8>) {
    if bytes.is_empty() { *bytes = more } else { bytes.extend_from_slice(&more) }
}

#[cfg(test)]
mod tests;
