//! Any bytes as a Hugging Face directory: opening and reading it ends, and never panics.
//!
//! The input is cut at its 0xff bytes (which no UTF-8 has) into config.json, the index, the header, the data of the tensors
//! and the manifest of a packed model, so that one corpus reaches all four parsers; the tensors' eight bytes of length are added here,
//! since a fuzzer would hardly ever guess them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moxel::weights::{Checkpoint, MemorySource};
use pollster::block_on;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0xff);
    let mut next = || parts.next().unwrap_or_default();
    let (config, index, header, data, manifest) = (next(), next(), next(), next(), next());
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(data);
    let mut source = MemorySource::default().with("config.json", config);
    if !manifest.is_empty() {
        source = source.with("moxel.json", manifest);
    }
    source = if index.is_empty() {
        source.with("model.safetensors", file)
    } else {
        source.with("model.safetensors.index.json", index).with("x.safetensors", file)
    };
    let Ok(checkpoint) = block_on(Checkpoint::open(Arc::new(source), "")) else {
        return;
    };
    for tensor in checkpoint.tensors() {
        let read = block_on(checkpoint.read(tensor, 0..tensor.bytes())).expect("a listed tensor can be read");
        assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(read.len() as u64));
    }
});
