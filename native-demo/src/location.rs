//! Finding a model by its path or URL, and the cache for what comes from the web.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moxel::weights::{CacheOptions, WeightSource, open as open_location};

use crate::args::Common;

/// The model's source, and what to open in it.
pub fn open(common: &Common, location: &Path) -> moxel::Result<(Arc<dyn WeightSource>, String)> {
    pollster::block_on(open_location(location, cache(common)))
}

/// The cache that the options ask for; none where the system has no place for one either.
fn cache(common: &Common) -> Option<CacheOptions> {
    let on_problem = Arc::new(|problem: &str| eprintln!("warning: {problem}"));
    Some(CacheOptions { folder: cache_folder(common)?, max_bytes: common.cache.size, on_problem })
}

/// The folder of what is kept for the next run, unless nothing is to be kept or the system has no place for it.
pub fn cache_folder(common: &Common) -> Option<PathBuf> {
    let options = &common.cache;
    if options.no_cache {
        return None;
    }
    options.folder.clone().or_else(|| default_folder().map(|folder| folder.join("moxel")))
}

/// Where the system wants caches to be.
fn default_folder() -> Option<PathBuf> {
    let from = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    if cfg!(windows) {
        return from("LOCALAPPDATA");
    }
    let in_home = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(in_home)))
}
