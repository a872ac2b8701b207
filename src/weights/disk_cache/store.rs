//! The cache's folder: blocks go in, and those that were not used for longest go out.

use super::{CacheOptions, block::Block, eviction};
use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The folder is measured again after this part of its limit was written: other processes write too.
const PARTS_BETWEEN_SWEEPS: u64 = 16;

/// The folder, its limit, and how far it is from that.
pub(super) struct Store {
    options: CacheOptions,
    /// Set once nothing can be written.
    full: AtomicBool,
    /// Bytes that may be written before the folder is measured again.
    allowance: Mutex<u64>,
}

impl Store {
    pub fn new(options: CacheOptions) -> Self {
        Self { options, full: AtomicBool::new(false), allowance: Mutex::new(0) }
    }

    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// Writes a block if there is room; makes room if there is none.
    pub fn save(&self, block: &Block, data: &[u8]) {
        if self.full.load(Ordering::Relaxed) {
            return;
        }
        match block.save(data) {
            Ok(bytes) => self.account(bytes),
            // Only a first failure is worth telling.
            Err(error) => {
                if !self.full.swap(true, Ordering::Relaxed) {
                    let folder = self.options.folder.display();
                    (self.options.on_problem)(&format!("nothing more is kept in the cache {folder}: {error}"));
                }
            }
        }
    }

    fn account(&self, bytes: u64) {
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes <= *allowance {
            *allowance -= bytes;
            return;
        }
        // The block is there already and counted with the others.
        let limit = self.options.max_bytes;
        let held = eviction::sweep(&self.options.folder, limit);
        *allowance = limit.saturating_sub(held).min(limit / PARTS_BETWEEN_SWEEPS);
    }
}
