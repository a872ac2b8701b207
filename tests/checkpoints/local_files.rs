//! The file system: finding a checkpoint by its path, and files that change while they are read.

use crate::build::{CONFIG, SAFETENSORS_HEADER, SHARD_INDEX, gguf, safetensors_file};
use moxel::weights::{Checkpoint, FileSource, WeightSource, open_path};
use pollster::block_on;
use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("moxel-{test}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Folder {
        fs::write(self.0.join(name), content).unwrap();
        self
    }

    /// What `open_path` makes of `name` in this folder.
    fn entry(&self, name: &str) -> Result<String, String> {
        open_path(&self.0.join(name)).map(|(_, entry)| entry).map_err(|error| error.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn paths_lead_to_checkpoints() {
    let folder = Folder::new("paths").with("config.json", CONFIG);
    let message = folder.entry("").unwrap_err();
    assert!(message.contains("no model here"), "{message}");
    let message = folder.entry("nowhere").unwrap_err();
    assert!(message.contains("nowhere"), "{message}");

    // A config.json beside a GGUF file does not make a Hugging Face directory.
    let folder = folder.with("m.gguf", gguf().bytes());
    assert_eq!(folder.entry("").unwrap(), "m.gguf");
    assert_eq!(folder.entry("m.gguf").unwrap(), "m.gguf");
    let folder = folder.with("p-00001-of-00002.gguf", "").with("p-00002-of-00002.gguf", "");
    let message = folder.entry("").unwrap_err();
    assert!(message.contains("m.gguf, p-00001-of-00002.gguf"), "{message}");
    fs::remove_file(folder.0.join("m.gguf")).unwrap();
    assert_eq!(folder.entry("").unwrap(), "p-00001-of-00002.gguf");

    let folder = folder.with("x-00001-of-00002.safetensors", "");
    assert_eq!(folder.entry("x-00001-of-00002.safetensors").unwrap(), "x-00001-of-00002.safetensors");
    let folder = folder.with("model.safetensors.index.json", SHARD_INDEX);
    assert_eq!(folder.entry("").unwrap(), "");
    assert_eq!(folder.entry("x-00001-of-00002.safetensors").unwrap(), "");
    let folder = folder.with("model.safetensors", safetensors_file(SAFETENSORS_HEADER, 32));
    assert_eq!(folder.entry("model.safetensors").unwrap(), "");
    let (source, entry) = open_path(&folder.0).unwrap();
    assert_eq!(block_on(Checkpoint::open(source, &entry)).unwrap().tensors().count(), 2);
}

#[test]
fn a_file_that_shrinks_is_a_named_error() {
    let folder = Folder::new("shrinks").with("m.gguf", gguf().bytes());
    let (source, entry) = open_path(&folder.0.join("m.gguf")).unwrap();
    let checkpoint = block_on(Checkpoint::open(source, &entry)).unwrap();
    let tensor = checkpoint.tensor("b").unwrap();
    assert_eq!(block_on(checkpoint.read(tensor, 0..3)).unwrap(), [10, 11, 12]);

    let file = fs::OpenOptions::new().write(true).open(folder.0.join("m.gguf")).unwrap();
    file.set_len(tensor.range.start + 50).unwrap();
    assert_eq!(block_on(checkpoint.read(tensor, 40..50)).unwrap().len(), 10);
    let message = block_on(checkpoint.read(tensor, 40..60)).unwrap_err().to_string();
    assert!(message.contains("m.gguf") && message.contains("cut off"), "{message}");
}

#[test]
fn a_source_stays_in_its_folder_and_in_its_files() {
    let folder = Folder::new("stays").with("inside", "12345");
    fs::create_dir(folder.0.join("sub")).unwrap();
    let source = FileSource::new(folder.0.join("sub"));
    for name in ["../inside", "/etc/passwd", "", ".", "..", "a/b"] {
        assert!(block_on(source.size(name)).is_err(), "{name}");
    }
    assert_eq!(block_on(source.size("inside")).unwrap(), None);
    let source = FileSource::new(&folder.0);
    assert!(block_on(source.size("sub")).is_err(), "a folder is no file");
    assert_eq!(block_on(source.size("inside")).unwrap(), Some(5));
    assert_eq!(block_on(source.read("inside", 1..3)).unwrap(), b"23");
    assert_eq!(block_on(source.read("inside", 5..5)).unwrap(), b"");
    #[expect(clippy::reversed_empty_ranges, reason = "the wrong range is the test")]
    for range in [4..6, 3..2, 0..u64::MAX, u64::MAX..u64::MAX] {
        assert!(block_on(source.read("inside", range.clone())).is_err(), "{range:?}");
    }
    assert!(block_on(source.read("absent", 0..0)).is_err());
    assert_eq!(source.name(), Path::new(&folder.0).display().to_string());
}
