//! A forward pass as a list of commands over buffer handles, before any of it reaches the GPU.

use super::{Shader, Slice};

/// One kernel call.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    /// Shader variant.
    pub(crate) shader: Shader,
    /// The kernel's `Params` uniform (binding 0).
    pub(crate) params: Vec<u8>,
    /// Storage bindings by number.
    pub(crate) bindings: Vec<(u32, Slice)>,
    /// Workgroups in x, y, z.
    pub(crate) groups: [u32; 3],
    /// Bytes of weights that the call has to read.
    pub(crate) weight_bytes: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Dispatch(Dispatch),
    Copy { from: Slice, to: Slice },
}

/// A finished list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    pub(super) commands: Vec<Command>,
    /// Where the list may be cut: commands before each cut.
    pub(super) cuts: Vec<usize>,
}

/// Binding of the flag that lets a kernel do nothing.
const GUARD_BINDING: u32 = 8;

/// Where the layers and kernels write their commands.
#[derive(Default)]
pub(crate) struct Recorder {
    recording: Recording,
    guard: Option<Slice>,
}

impl Recorder {
    /// A recording whose kernels do nothing once one of them has raised the flag, a word.
    pub(crate) fn guarded(flag: Slice) -> Self {
        Self { guard: Some(flag), ..Self::default() }
    }

    pub(crate) fn dispatch(&mut self, mut dispatch: Dispatch) {
        if let Some(flag) = &self.guard {
            dispatch.shader = dispatch.shader.with("guarded");
            dispatch.bindings.push((GUARD_BINDING, flag.clone()));
        }
        self.recording.commands.push(Command::Dispatch(dispatch));
    }

    /// What follows may be submitted by itself.
    pub(crate) fn cut(&mut self) {
        self.recording.cuts.push(self.recording.commands.len());
    }

    /// Copies between buffers; offsets and sizes are multiples of 4.
    pub(crate) fn copy(&mut self, from: Slice, to: Slice) {
        debug_assert_eq!(from.size, to.size);
        self.recording.commands.push(Command::Copy { from, to });
    }

    pub(crate) fn finish(self) -> Recording {
        self.recording
    }
}

impl Recording {
    pub(crate) fn dispatches(&self) -> impl Iterator<Item = &Dispatch> {
        self.commands.iter().filter_map(|c| match c {
            Command::Dispatch(d) => Some(d),
            Command::Copy { .. } => None,
        })
    }
}
