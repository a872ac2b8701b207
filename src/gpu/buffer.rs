//! GPU memory: a named buffer and a range of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Gpu;
use crate::{Error, Result};

/// The largest buffer by which it is tried whether there is memory.
const PROBE_BYTES: u64 = 256 << 20;

/// A storage buffer. Cloning shares it; the memory is freed with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    memory: Arc<Memory>,
    label: &'static str,
}

#[derive(Debug)]
struct Memory {
    raw: wgpu::Buffer,
    held: Arc<AtomicU64>,
}

/// Natively dropping the handle would do; a browser keeps the memory until it collects garbage, which it sees no hurry for.
impl Drop for Memory {
    fn drop(&mut self) {
        self.raw.destroy();
        self.held.fetch_sub(self.raw.size(), Ordering::Relaxed);
    }
}

/// A byte range of a buffer, as a kernel binds it.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(super) buffer: Buffer,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Buffer {
    pub(crate) fn size(&self) -> u64 {
        self.memory.raw.size()
    }

    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.memory.raw
    }

    pub(crate) fn slice(&self, offset: u64, size: u64) -> Slice {
        debug_assert!(offset + size <= self.size(), "{}: {offset}+{size} of {}", self.label, self.size());
        Slice { buffer: self.clone(), offset, size }
    }

    pub(crate) fn whole(&self) -> Slice {
        self.slice(0, self.size())
    }
}

impl Slice {
    /// The buffer that it is a part of.
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// `count` 32-bit words of it, from word `first` on.
    pub(crate) fn words(&self, first: usize, count: usize) -> Self {
        let (offset, size) = (4 * first as u64, 4 * count as u64);
        debug_assert!(offset + size <= self.size, "{}: words {first}+{count} of {} bytes", self.buffer.label, self.size);
        Self { buffer: self.buffer.clone(), offset: self.offset + offset, size }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Gpu {
    /// Allocates `size` bytes (rounded up to 16) of zeroed storage.
    ///
    /// Fails with the buffer's name where the device's limits or its memory do not allow it.
    pub(crate) fn buffer(&self, label: &'static str, size: u64) -> Result<Buffer> {
        self.allocate(label, size, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC)
    }

    /// As [`Self::buffer`], for what a kernel binds whole: fails where it exceeds the largest binding.
    pub(crate) fn storage(&self, label: &'static str, size: u64) -> Result<Buffer> {
        if size > self.caps().max_binding_bytes {
            return Err(Error::Adapter(format!(
                "{label} needs {size} bytes in one binding, the adapter allows {}; a smaller context may help",
                self.caps().max_binding_bytes
            )));
        }
        self.buffer(label, size)
    }

    /// Tries whether this many bytes can be allocated besides what is there.
    ///
    /// # Errors
    /// They cannot.
    pub async fn has_room(&self, bytes: u64) -> Result<()> {
        let most = self.caps().max_buffer_bytes.min(PROBE_BYTES);
        let piece = |first: u64| self.buffer("memory that will be needed", (bytes - first).min(most));
        let pieces = || (0..bytes).step_by(most as usize).map(piece).collect::<Result<Vec<_>>>();
        drop(self.in_memory(&format!("{bytes} bytes of weights and a session's buffers"), pieces).await?);
        // Freed only once the device has seen that nothing uses them.
        self.flush().await;
        Ok(())
    }

    pub(super) fn allocate(&self, label: &'static str, size: u64, usage: wgpu::BufferUsages) -> Result<Buffer> {
        let size = size.max(16).next_multiple_of(16);
        if size > self.caps().max_buffer_bytes {
            return Err(Error::Adapter(format!(
                "{label} needs a buffer of {size} bytes, the adapter allows {}",
                self.caps().max_buffer_bytes
            )));
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let raw = self
            .caught(wgpu::ErrorFilter::OutOfMemory, || self.device.create_buffer(&descriptor))
            .map_err(|error| Error::Memory(format!("cannot allocate {size} bytes for {label}: {error}")))?;
        self.held.fetch_add(size, Ordering::Relaxed);
        self.count_object();
        Ok(Buffer { memory: Arc::new(Memory { raw, held: Arc::clone(&self.held) }), label })
    }

    /// Copies bytes into a buffer before anything that is submitted later. Offset and length are multiples of 4.
    pub(crate) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        self.queue.write_buffer(buffer.raw(), offset, bytes);
    }

    /// As [`Self::write`], from byte `offset` of a slice on.
    pub(crate) fn write_slice(&self, slice: &Slice, offset: u64, bytes: &[u8]) {
        debug_assert!(offset + bytes.len() as u64 <= slice.size, "{}: {offset}+{}", slice.buffer.label, bytes.len());
        self.write(&slice.buffer, slice.offset + offset, bytes);
    }

    /// A new buffer with this content.
    pub(crate) fn upload(&self, label: &'static str, bytes: &[u8]) -> Result<Buffer> {
        let buffer = self.buffer(label, bytes.len() as u64)?;
        self.write(&buffer, 0, bytes);
        Ok(buffer)
    }
}
