//! Reading checkpoints: files that other programs made, files that lie, and files that change.

mod allocation;
mod build;
mod hostile_gguf;
mod hostile_safetensors;
mod local_files;
mod mutations;
mod real_files;

use moxel::{
    Result,
    weights::{Checkpoint, MemorySource},
};
use pollster::block_on;
use std::sync::Arc;

/// Opens `entry` of files in memory.
fn open(source: MemorySource, entry: &str) -> Result<Checkpoint> {
    block_on(Checkpoint::open(Arc::new(source), entry))
}

/// Fails unless opening fails with a message that contains every one of `words`.
#[track_caller]
fn refused(case: &str, source: MemorySource, entry: &str, words: &[&str]) {
    match open(source, entry) {
        Ok(checkpoint) => panic!("{case}: was opened as {checkpoint:?}"),
        Err(error) => {
            let message = error.to_string();
            for word in words {
                assert!(message.contains(word), "{case}: {message:?} does not say {word:?}");
            }
            assert!(message.len() < 1000, "{case}: a message of {} bytes", message.len());
        }
    }
}

/// An engine loads its checkpoint on whichever thread it likes.
#[test]
fn opening_can_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let checkpoint = block_on(is_send(Checkpoint::open(Arc::new(build::safetensors_directory()), ""))).unwrap();
    let checkpoint = is_send(checkpoint);
    let tensor = checkpoint.tensor("a").unwrap();
    block_on(is_send(checkpoint.read(tensor, 0..4))).unwrap();
}
