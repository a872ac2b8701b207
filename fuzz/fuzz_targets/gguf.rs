//! Any bytes as a GGUF file: opening and reading it ends, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moxel::weights::{Checkpoint, MemorySource};
use pollster::block_on;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let source = MemorySource::default().with("model.gguf", bytes);
    let Ok(checkpoint) = block_on(Checkpoint::open(Arc::new(source), "model.gguf")) else {
        return;
    };
    for tensor in checkpoint.tensors() {
        let read = block_on(checkpoint.read(tensor, 0..tensor.bytes())).expect("a listed tensor can be read");
        assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(read.len() as u64));
    }
});
