//! A device with its queue, whether Moxel made it or an application shares its own.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Caps;
use super::adapter::{AdapterDescription, AdapterSelector, choose, instance};
use super::caps::{MATRIX_FEATURES, usable_size};
use super::pipelines::Pipelines;
use super::readback::Poller;
use crate::{Error, Result};

/// How a device is made and used.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Which adapter.
    pub adapter: AdapterSelector,
    /// Pretend that bindings are limited to this many bytes, if the adapter allows more. Tests use it to split small
    /// tensors as large ones are split.
    pub max_binding_bytes: Option<u64>,
}

/// A GPU device that engines and sessions run on. Share it with [`Arc`]: several engines may use one.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) poller: Poller,
    description: AdapterDescription,
    pub(super) pipelines: Pipelines,
    fault: Arc<Mutex<Option<Fault>>>,
    /// Bytes of the buffers that were made here and are still there.
    pub(super) held: Arc<AtomicU64>,
    /// See [`Gpu::objects_made`].
    objects: AtomicU64,
    /// Errors are not known when a call returns, as in a browser, whose GPU is another process.
    answers_later: bool,
}

/// The first thing that went wrong on the device outside an error scope.
#[derive(Clone)]
enum Fault {
    Lost(String),
    Memory(String),
    Error(String),
}

impl From<wgpu::Error> for Fault {
    fn from(error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::Memory(error.to_string()),
            other => Self::Error(other.to_string()),
        }
    }
}

impl Gpu {
    /// Opens a device on the chosen adapter, with its limits raised to what large tensors need.
    ///
    /// # Errors
    /// No adapter, none that matches, or the driver refuses a device.
    pub async fn new(options: &GpuOptions) -> Result<Arc<Self>> {
        let adapter = choose(&instance(), &options.adapter).await?;
        let allowed = adapter.limits();
        let optional = wgpu::Features::SHADER_F16
            | wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        let mut matrices = adapter.cooperative_matrix_properties();
        let request = |(experimental, experimental_features)| {
            adapter.request_device(&wgpu::DeviceDescriptor {
                label: Some("moxel"),
                required_features: adapter.features() & (optional | experimental),
                experimental_features,
                required_limits: wgpu::Limits {
                    max_buffer_size: allowed.max_buffer_size,
                    max_storage_buffer_binding_size: allowed.max_storage_buffer_binding_size,
                    ..wgpu::Limits::default()
                },
                ..Default::default()
            })
        };
        let mut opened = request(experimental(adapter.features(), &matrices)).await;
        if opened.is_err() {
            // What is not finished may be what the driver does not get on with.
            matrices.clear();
            opened = request(experimental(adapter.features(), &matrices)).await;
        }
        let (device, queue) =
            opened.map_err(|e| Error::Adapter(format!("{}: cannot open a device: {e}", adapter.get_info().name)))?;
        let fault = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&fault);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note(&seen, error.into())));
        let seen = Arc::clone(&fault);
        device.set_device_lost_callback(move |_, why| note(&seen, Fault::Lost(why)));
        Ok(Arc::new(Self::wrap(device, queue, fault, &matrices, options.max_binding_bytes)))
    }

    /// As [`Gpu::new`], waiting until the device is open.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(unix, windows))]
    pub fn open(options: &GpuOptions) -> Result<Arc<Self>> {
        pollster::block_on(Self::new(options))
    }

    /// Uses an application's own device and queue, which its renderer goes on using.
    ///
    /// The device's error and loss callbacks stay the application's: errors of Moxel's own making reach them.
    #[must_use]
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Arc<Self> {
        Arc::new(Self::wrap(device, queue, Arc::default(), &[], None))
    }

    fn wrap(
        device: wgpu::Device,
        queue: wgpu::Queue,
        fault: Arc<Mutex<Option<Fault>>>,
        matrices: &[wgpu::CooperativeMatrixProperties],
        max_binding: Option<u64>,
    ) -> Self {
        let info = device.adapter_info();
        let mut caps = Caps::new(device.features(), &device.limits(), &info, matrices);
        if let Some(bytes) = max_binding {
            caps.max_binding_bytes = caps.max_binding_bytes.min(bytes);
        }
        Self {
            poller: Poller::new(&device),
            description: AdapterDescription::new(0, &info, caps),
            pipelines: Pipelines::default(),
            held: Arc::default(),
            objects: AtomicU64::default(),
            answers_later: info.backend == wgpu::Backend::BrowserWebGpu,
            device,
            queue,
            fault,
        }
    }

    /// The adapter's name, backend, driver and tier.
    #[must_use]
    pub fn description(&self) -> &AdapterDescription {
        &self.description
    }

    /// Whether a browser stands between the device and this program.
    pub(super) fn in_browser(&self) -> bool {
        self.answers_later
    }

    /// What the device can do.
    #[must_use]
    pub fn caps(&self) -> &Caps {
        &self.description.caps
    }

    /// Bytes of the buffers that Moxel holds on this device now.
    #[must_use]
    pub fn buffer_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Buffers, bind groups and pipelines that Moxel has made on this device so far. Work that is repeated makes none: a token needs
    /// what the one before it needed, but for the first one behind each power of two of positions. Pipelines that loading began to
    /// compile are counted once they are done, be it while tokens are computed. What wgpu makes for itself, such as the memory that
    /// writes are staged in, is not known.
    #[must_use]
    pub fn objects_made(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Says that one of those was made.
    pub(super) fn count_object(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of GPU memory that all buffers of this device take now, where the backend can tell.
    #[must_use]
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// Waits until the GPU is idle and frees what was dropped. Does nothing in a browser.
    pub fn wait_idle(&self) {
        // A failed wait means a lost device, which the next operation reports.
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
    }

    /// Fails if the device was lost or reported an error since it was made. It goes on failing then, and so does whatever is
    /// computed on the device: open another one.
    ///
    /// # Errors
    /// What was reported first, or that the device was lost.
    pub fn check(&self) -> Result<()> {
        match self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            None => Ok(()),
            Some(Fault::Lost(why)) => Err(Error::DeviceLost(why)),
            Some(Fault::Memory(what)) => Err(Error::Memory(what)),
            Some(Fault::Error(what)) => Err(Error::Gpu(what)),
        }
    }

    /// Does `work` and returns what the device found wrong with it, where it tells at once. In a browser that reaches the
    /// handler of uncaptured errors later, and so [`Self::check`].
    pub(super) fn caught<T>(&self, filter: wgpu::ErrorFilter, work: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        if self.answers_later {
            return Ok(work());
        }
        let scope = self.device.push_error_scope(filter);
        let done = work();
        match resolved(scope.pop()) {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    /// As `work`, which the device may refuse; also where it tells later, no other work suffers from that.
    pub(crate) async fn tried<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (done, refused, broken) = {
            let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
            let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let done = work();
            (done, validation.pop(), internal.pop())
        };
        match refused.await.or(broken.await) {
            Some(error) => Err(Error::Gpu(error.to_string())),
            None => done,
        }
    }

    /// As `make`, which allocates `what`; fails also where a device that tells later had no memory for it.
    pub(crate) async fn in_memory<T>(&self, what: &str, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let (made, answer) = {
            let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            (make(), scope.pop())
        };
        match answer.await {
            Some(_) => Err(Error::Memory(format!(
                "the adapter has no room for {what}; a shorter context, a smaller expert budget or a smaller model may fit"
            ))),
            None => made,
        }
    }
}

/// What is asked of a device beyond what wgpu calls finished: matrix units, where the kernels can use those that there are.
fn experimental(
    features: wgpu::Features,
    matrices: &[wgpu::CooperativeMatrixProperties],
) -> (wgpu::Features, wgpu::ExperimentalFeatures) {
    if !features.contains(MATRIX_FEATURES) || usable_size(matrices).is_none() {
        return (wgpu::Features::empty(), wgpu::ExperimentalFeatures::disabled());
    }
    // SAFETY: wgpu wants to hear that its checks of such features may have holes. Our own shaders alone reach them; one of these uses
    // matrices, and loads and stores them within arrays of workgroup memory at indices that follow from constants. wgpu does not
    // mark that memory as shared between lanes, as SPIR-V's Vulkan memory model wants it: a driver that minds computes wrong
    // numbers, never outside of that memory. The tuner looks for them before it takes the kernel.
    (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, unsafe { wgpu::ExperimentalFeatures::enabled() })
}

fn note(slot: &Mutex<Option<Fault>>, fault: Fault) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // The first error is the cause; a loss outranks it, because then everything has to be rebuilt.
    if slot.is_none() || matches!(fault, Fault::Lost(_)) {
        *slot = Some(fault);
    }
}

/// The value of a future that is ready without waiting, as error scopes are on native backends.
fn resolved<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => None,
    }
}
