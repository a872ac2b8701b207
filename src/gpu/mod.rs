//! The only module that names `wgpu`: devices, buffers, pipelines, and turning a recorded list of commands into
//! submissions. It knows nothing of models, files or tokens.

mod adapter;
mod buffer;
mod caps;
mod compiling;
mod device;
mod pipelines;
mod profile;
mod program;
mod readback;
mod record;
mod shader;
#[cfg(any(unix, windows))]
mod workers;

pub use adapter::{AdapterDescription, AdapterSelector, adapters};
pub(crate) use buffer::{Buffer, Slice};
pub use caps::Caps;
pub(crate) use compiling::Compiling;
pub use device::{Gpu, GpuOptions};
pub use pipelines::PipelineWork;
pub(crate) use profile::TimedCall;
pub(crate) use program::{Program, Stretch, Submission};
pub(crate) use record::{Dispatch, Recorder, Recording};
pub(crate) use shader::{HALVES, MATRICES, SUBGROUPS, Shader, fingerprint};
