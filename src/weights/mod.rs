//! Checkpoints on disk, in memory or behind a URL: bytes and names, never the GPU.
//!
//! A [`WeightSource`] hands out byte ranges of named files; a [`Checkpoint`] reads only the headers
//! through it and lists what the checkpoint holds (name, format, shape, byte range) next to the
//! model's configuration. All understood layouts, Hugging Face directories, GGUF files and what
//! `moxel pack` makes of either, end in the same list, so a model never asks where its tensors came
//! from; only the experts of a packed model are listed apart, as records.
//!
//! Everything here reads data that somebody else made. A number from a header is compared with the
//! size of the file before anything is allocated for it.

mod checkpoint;
mod decode;
// Disks, sockets and threads that may block are not there in the browser, whose sources read through fetch.
#[cfg(any(unix, windows))]
mod disk_cache;
mod dtype;
#[cfg(any(unix, windows))]
mod file;
mod gguf;
#[cfg(any(unix, windows))]
mod http;
mod huggingface;
mod json;
#[cfg(any(unix, windows))]
mod locate;
mod memory;
mod packed;
mod safetensors;
mod shard_index;
mod source;
mod tensors;
mod text;

pub use checkpoint::{Checkpoint, Format};
pub(crate) use decode::decode;
pub use dtype::DType;
#[cfg(any(unix, windows))]
pub(crate) use huggingface::{CONFIG, INDEX};
pub use memory::MemorySource;
#[cfg(any(unix, windows))]
pub(crate) use packed::{MANIFEST, Manifest, PAGE, StoredExperts, StoredFile, StoredTensor};
pub use packed::{PackedLayer, PackedMatrix, RecordInfo, packed_expert_name};
pub use source::{BoxFuture, MaybeSend, MaybeSync, OnProgress, WeightSource};
pub use tensors::TensorInfo;
pub(crate) use text::shown;
#[cfg(any(unix, windows))]
pub use {
    disk_cache::{CacheOptions, DiskCache},
    file::FileSource,
    http::{HttpOptions, HttpSource},
    locate::{open, open_path},
};
