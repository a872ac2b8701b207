use super::*;
use crate::{Error, weights::MemorySource};
use pollster::block_on;
use std::{
    fs, process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, SystemTime},
};

/// Four blocks and a bit.
const SIZE: u64 = 4 * BLOCK_BYTES + 77;

/// A file in memory that has a version and counts the bytes that are asked of it.
struct Remote {
    memory: MemorySource,
    version: Option<&'static str>,
    served: AtomicU64,
}

impl Remote {
    fn new(version: Option<&'static str>, seed: u64) -> Arc<Self> {
        let memory = MemorySource::default().with("f", content(seed));
        Arc::new(Self { memory, version, served: AtomicU64::new(0) })
    }

    /// The bytes that were asked for since the last call.
    fn served(&self) -> u64 {
        self.served.swap(0, Ordering::Relaxed)
    }
}

impl WeightSource for Remote {
    fn name(&self) -> String {
        "memory".into()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        self.memory.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Vec<u8>>> {
        self.served.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.memory.read(file, range)
    }

    fn version<'a>(&'a self, _file: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async { Ok(self.version.map(str::to_owned)) })
    }
}

fn content(seed: u64) -> Vec<u8> {
    (0..SIZE).map(|at| ((at * 31 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("moxel-cache-{test}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn cache(&self, remote: &Arc<Remote>, max_bytes: u64) -> DiskCache {
        let on_problem = Arc::new(|problem: &str| panic!("{problem}"));
        DiskCache::new(remote.clone(), CacheOptions { folder: self.0.clone(), max_bytes, on_problem })
    }

    fn files(&self) -> Vec<PathBuf> {
        let inside = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> = inside(self.0.clone()).flat_map(inside).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn check(cache: &DiskCache, seed: u64, range: Range<u64>) {
    let bytes = block_on(cache.read("f", range.clone())).unwrap();
    assert!(bytes == content(seed)[range.start as usize..range.end as usize], "{range:?}");
}

#[test]
fn what_was_read_once_is_not_fetched_again() {
    let (folder, remote) = (Folder::new("once"), Remote::new(Some("a"), 1));
    let cache = folder.cache(&remote, u64::MAX);
    check(&cache, 1, BLOCK_BYTES + 5..BLOCK_BYTES + 6);
    assert_eq!(remote.served(), BLOCK_BYTES, "whole blocks are fetched");
    check(&cache, 1, 0..SIZE);
    assert_eq!(remote.served(), SIZE - BLOCK_BYTES, "only what is missing is fetched");
    // Another run.
    let cache = folder.cache(&remote, u64::MAX);
    for range in
        [0..SIZE, 0..0, 7..7, SIZE..SIZE, SIZE - 1..SIZE, BLOCK_BYTES - 1..BLOCK_BYTES + 1, 0..BLOCK_BYTES, 9..3 * BLOCK_BYTES]
    {
        check(&cache, 1, range);
    }
    assert_eq!(remote.served(), 0);
    assert_eq!(folder.files().len(), 5);
    #[expect(clippy::reversed_empty_ranges, reason = "the wrong range is the test")]
    for range in [0..SIZE + 1, 3..2, u64::MAX - 1..u64::MAX] {
        let Error::Read { file, .. } = block_on(cache.read("f", range)).unwrap_err() else { panic!("another error") };
        assert_eq!(file, "memory/f");
    }
}

#[test]
fn another_version_is_another_file_and_none_is_not_kept() {
    let folder = Folder::new("version");
    for (version, seed) in [(Some("a"), 1), (Some("b"), 2), (Some("a"), 1)] {
        check(&folder.cache(&Remote::new(version, seed), u64::MAX), seed, 0..SIZE);
    }
    assert_eq!(folder.files().len(), 10);
    let remote = Remote::new(None, 3);
    let cache = folder.cache(&remote, u64::MAX);
    check(&cache, 3, 5..6);
    check(&cache, 3, 5..6);
    assert_eq!(remote.served(), 2);
    assert_eq!(folder.files().len(), 10);
}

#[test]
fn a_spoilt_block_is_fetched_again() {
    let (folder, remote) = (Folder::new("spoilt"), Remote::new(Some("a"), 1));
    let cache = folder.cache(&remote, u64::MAX);
    check(&cache, 1, 0..SIZE);
    remote.served();
    let files = folder.files();
    let block = fs::read(&files[1]).unwrap();
    let mut flipped = block.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut renamed = block.clone();
    let at = renamed.windows(5).position(|text| text == b"block").unwrap();
    renamed[at] ^= 1;
    let longer = [&block[..], &[0]].concat();
    let spoilt: [&[u8]; 6] = [&flipped, &renamed, &longer, &block[..block.len() - 1], &[], &fs::read(&files[2]).unwrap()];
    for spoilt in spoilt {
        fs::write(&files[1], spoilt).unwrap();
        check(&cache, 1, 0..SIZE);
        assert_eq!(remote.served(), BLOCK_BYTES);
        assert!(fs::read(&files[1]).unwrap() == block, "it is whole again");
    }
}

#[test]
fn the_least_recently_used_blocks_go_first() {
    let (folder, remote) = (Folder::new("evicts"), Remote::new(Some("a"), 1));
    let cache = folder.cache(&remote, 4 * BLOCK_BYTES);
    // What a process that died has left, what another one is writing, and what is not the cache's.
    let sub = folder.0.join("sub");
    fs::create_dir_all(&sub).unwrap();
    let day_ago = SystemTime::now() - Duration::from_secs(86400);
    for (name, time) in [("0.1-1.moxel-part", day_ago), ("0.1-2.moxel-part", SystemTime::now()), ("somebody.else", day_ago)] {
        fs::File::create(sub.join(name)).unwrap().set_modified(time).unwrap();
    }
    check(&cache, 1, 0..3 * BLOCK_BYTES);
    // As if they had been used long ago, the second before the first.
    let blocks: Vec<_> = folder.files().into_iter().filter(|path| !path.starts_with(&sub)).collect();
    for (path, hours) in blocks.iter().zip([2, 3, 1]) {
        let time = SystemTime::now() - Duration::from_secs(3600 * hours);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    // Using it keeps it.
    check(&cache, 1, 0..9);
    remote.served();
    check(&cache, 1, 3 * BLOCK_BYTES..4 * BLOCK_BYTES);
    let left: Vec<_> = folder.files().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(left, ["0.moxel-block", "2.moxel-block", "3.moxel-block", "0.1-2.moxel-part", "somebody.else"]);
    remote.served();
    check(&cache, 1, 0..9);
    check(&cache, 1, 2 * BLOCK_BYTES..4 * BLOCK_BYTES);
    assert_eq!(remote.served(), 0);
}

/// A limit below a single block keeps nothing, and harms nothing.
#[test]
fn a_tiny_limit_is_kept() {
    let (folder, remote) = (Folder::new("tiny"), Remote::new(Some("a"), 1));
    let cache = folder.cache(&remote, 10);
    check(&cache, 1, 0..SIZE);
    check(&cache, 1, 0..SIZE);
    assert_eq!(remote.served(), 2 * SIZE);
    assert_eq!(folder.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_folder_that_cannot_be_written_is_told_once() {
    let folder = Folder::new("unwritable");
    fs::create_dir_all(&folder.0).unwrap();
    // A file where the folder should be: refused even to root.
    let path = folder.0.join("in the way");
    fs::write(&path, "").unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&told);
    let on_problem = Arc::new(move |problem: &str| keep.lock().unwrap().push(problem.to_owned()));
    let remote = Remote::new(Some("a"), 1);
    let cache = DiskCache::new(remote.clone(), CacheOptions { folder: path, max_bytes: u64::MAX, on_problem });
    check(&cache, 1, 0..SIZE);
    check(&cache, 1, 0..SIZE);
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("in the way"), "{told:?}");
}

#[test]
fn many_may_use_one_folder_at_once() {
    let folder = Folder::new("many");
    let remote = Remote::new(Some("a"), 1);
    // So small that they evict each other's blocks, and folders, all the time.
    for limit in [u64::MAX, 2 * BLOCK_BYTES] {
        thread::scope(|scope| {
            for thread in 0..8 {
                let (folder, remote) = (&folder, &remote);
                scope.spawn(move || {
                    let cache = folder.cache(remote, limit);
                    for round in 0..20 {
                        let start = (thread * 7919 + round * 104_729) % SIZE;
                        check(&cache, 1, start..SIZE.min(start + 2 * BLOCK_BYTES));
                    }
                });
            }
        });
        let unfinished: Vec<_> =
            folder.files().into_iter().filter(|path| path.extension().is_none_or(|e| e != COMPLETE)).collect();
        assert_eq!(unfinished, Vec::<PathBuf>::new());
    }
}
