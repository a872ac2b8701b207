//! The one place where data comes back from the GPU, and where it is waited for.

use super::{Buffer, Gpu, Submission};
use crate::{Error, Result};

/// Drives callbacks natively, where nobody else polls the device; in a browser the event loop does it.
pub(super) struct Poller {
    /// Where to ask the thread for a poll; `None` only while it ends.
    #[cfg(not(target_arch = "wasm32"))]
    requests: Option<std::sync::mpsc::Sender<wgpu::PollType>>,
    #[cfg(not(target_arch = "wasm32"))]
    thread: Option<std::thread::JoinHandle<()>>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Poller {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let (requests, wanted) = std::sync::mpsc::channel::<wgpu::PollType>();
        let device = device.clone();
        // Ends when the sender is dropped. If the thread cannot start, `poll` polls in place.
        let thread = std::thread::Builder::new().name("moxel-poll".into()).spawn(move || {
            while let Ok(until) = wanted.recv() {
                let _ = device.poll(until);
            }
        });
        Self { requests: Some(requests), thread: thread.ok() }
    }

    fn poll(&self, device: &wgpu::Device, until: wgpu::PollType) {
        if self.requests.as_ref().is_none_or(|requests| requests.send(until.clone()).is_err()) {
            let _ = device.poll(until);
        }
    }
}

/// Waits for the thread: it holds the device too, and a driver that is still destroying it while the program's own exit takes
/// the driver apart crashes.
#[cfg(not(target_arch = "wasm32"))]
impl Drop for Poller {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(target_arch = "wasm32")]
impl Poller {
    pub(super) fn new(_: &wgpu::Device) -> Self {
        Self {}
    }

    fn poll(&self, _: &wgpu::Device, _: wgpu::PollType) {}
}

impl Gpu {
    /// Waits until the GPU has done all that was written and submitted so far, which frees the memory that it was staged in.
    pub(crate) async fn flush(&self) {
        let (done, finished) = async_channel::bounded(1);
        self.queue.submit([]);
        self.queue.on_submitted_work_done(move || {
            let _ = done.try_send(());
        });
        self.poller.poll(&self.device, wgpu::PollType::wait_indefinitely());
        // Not answered by a device that was lost, which the next operation reports.
        let _ = finished.recv().await;
    }

    /// A buffer that the CPU can read once a program has copied into it.
    pub(crate) fn staging(&self, size: u64) -> Result<Buffer> {
        self.allocate("staging", size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    /// Waits for everything submitted so far and returns the first `size` bytes of a staging buffer.
    pub(crate) async fn read(&self, staging: &Buffer, size: u64) -> Result<Vec<u8>> {
        self.read_until(wgpu::PollType::wait_indefinitely(), staging, size).await
    }

    /// As [`Self::read`], of a buffer that this submission wrote: what was submitted behind it may still be under way.
    pub(crate) async fn read_of(&self, submission: Submission, staging: &Buffer, size: u64) -> Result<Vec<u8>> {
        let until = wgpu::PollType::Wait { submission_index: Some(submission.0), timeout: None };
        self.read_until(until, staging, size).await
    }

    async fn read_until(&self, until: wgpu::PollType, staging: &Buffer, size: u64) -> Result<Vec<u8>> {
        let (done, finished) = async_channel::bounded(1);
        let _mapping = Mapping(staging);
        staging.raw().map_async(wgpu::MapMode::Read, 0..size, move |result| {
            let _ = done.try_send(result);
        });
        self.poller.poll(&self.device, until);
        let mapped = finished.recv().await;
        if !matches!(mapped, Ok(Ok(()))) {
            // A browser may say that a device was lost only after it has given up what was asked of it.
            self.flush().await;
        }
        self.check()?;
        match mapped {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(Error::Gpu(format!("cannot read back {size} bytes: {e}"))),
            Err(_) => return Err(Error::DeviceLost("a read-back was never answered".into())),
        }
        let view = staging.raw().get_mapped_range(0..size);
        view.map(|view| view.to_vec()).map_err(|e| Error::Gpu(format!("cannot read back {size} bytes: {e}")))
    }
}

/// Ends the mapping of a staging buffer also where whoever waited for it has left: the next read-back finds it free.
struct Mapping<'a>(&'a Buffer);

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        self.0.raw().unmap();
    }
}
