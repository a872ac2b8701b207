//! A recording with its pipelines, bind groups and uniforms made, ready to be submitted again and again.

use std::sync::Arc;

use super::record::Command;
use super::shader::Pipeline;
use super::{Buffer, Gpu, Recording, Slice};
use crate::{Error, Result};

/// WebGPU's guaranteed `minUniformBufferOffsetAlignment`.
const UNIFORM_ALIGNMENT: usize = 256;

/// Submitting a program allocates nothing but the command buffer itself.
pub(crate) struct Program {
    steps: Vec<Step>,
    cuts: Vec<usize>,
    /// What the bind groups name, which is freed with its last handle, theirs not counted.
    _bound: Vec<Buffer>,
}

/// Steps of a program that are submitted together.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a>(&'a [Step]);

/// What was submitted together: somewhere to wait for.
#[derive(Clone, Debug)]
pub(crate) struct Submission(pub(super) wgpu::SubmissionIndex);

pub(super) enum Step {
    Dispatch { pipeline: Arc<Pipeline>, bindings: wgpu::BindGroup, groups: [u32; 3], weight_bytes: u64 },
    Copy { from: Slice, to: Slice },
}

impl Program {
    /// All of it.
    pub(crate) fn whole(&self) -> Stretch<'_> {
        Stretch(&self.steps)
    }

    /// What lies between two cuts; `None` is the program's begin, or its end.
    pub(crate) fn between(&self, from: Option<usize>, to: Option<usize>) -> Stretch<'_> {
        let from = from.map_or(0, |cut| self.cuts[cut]);
        let to = to.map_or(self.steps.len(), |cut| self.cuts[cut]);
        Stretch(&self.steps[from..to])
    }
}

impl<'a> Stretch<'a> {
    /// Its steps, in order.
    pub(super) fn steps(self) -> &'a [Step] {
        self.0
    }

    /// The same in at most so many pieces, equally long but for the last.
    pub(crate) fn pieces(self, count: usize) -> impl Iterator<Item = Self> {
        self.0.chunks(self.0.len().div_ceil(count.max(1)).max(1)).map(Stretch)
    }
}

impl Stretch<'_> {
    /// Kernel calls.
    pub(crate) fn dispatches(self) -> usize {
        self.0.iter().filter(|step| matches!(step, Step::Dispatch { .. })).count()
    }

    /// Bytes of weights that the kernel calls have to read.
    pub(crate) fn weight_bytes(self) -> u64 {
        let bytes = |step: &Step| if let Step::Dispatch { weight_bytes, .. } = step { *weight_bytes } else { 0 };
        self.0.iter().map(bytes).sum()
    }
}

impl Gpu {
    /// Makes everything that running the recording needs.
    pub(crate) fn prepare(&self, recording: &Recording) -> Result<Program> {
        let mut uniforms = Vec::new();
        for dispatch in recording.dispatches() {
            uniforms.extend_from_slice(&dispatch.params);
            uniforms.resize(uniforms.len().next_multiple_of(UNIFORM_ALIGNMENT), 0);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = self.allocate("params", uniforms.len() as u64, usage)?;
        self.write(&params, 0, &uniforms);

        self.caught(wgpu::ErrorFilter::Validation, || self.bind(recording, &params)).map_err(|e| Error::Gpu(e.to_string()))?
    }

    fn bind(&self, recording: &Recording, params: &Buffer) -> Result<Program> {
        let pipelines = self.pipelines(recording.dispatches().map(|dispatch| &dispatch.shader))?;
        let mut offset = 0;
        let mut bound = vec![params.clone()];
        let mut steps = Vec::with_capacity(recording.commands.len());
        for command in &recording.commands {
            steps.push(match command {
                Command::Copy { from, to } => Step::Copy { from: from.clone(), to: to.clone() },
                Command::Dispatch(d) => {
                    let Some(pipeline) = pipelines.get(&d.shader).cloned() else {
                        unreachable!("the recording's shaders were asked for")
                    };
                    let uniform = (0, Slice { buffer: params.clone(), offset, size: d.params.len() as u64 });
                    offset += d.params.len().next_multiple_of(UNIFORM_ALIGNMENT) as u64;
                    bound.extend(d.bindings.iter().map(|(_, slice)| slice.buffer.clone()));
                    let entries: Vec<_> = std::iter::once(&uniform).chain(&d.bindings).map(entry).collect();
                    self.count_object();
                    let bindings = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                        label: Some(d.shader.label()),
                        layout: &pipeline.layout,
                        entries: &entries,
                    });
                    Step::Dispatch { pipeline, bindings, groups: d.groups, weight_bytes: d.weight_bytes }
                }
            });
        }
        Ok(Program { steps, cuts: recording.cuts.clone(), _bound: bound })
    }

    /// Submits stretches of programs one after the other: one encoder, one submit, as few passes as copies allow.
    pub(crate) fn run(&self, stretches: &[Stretch<'_>]) -> Result<Submission> {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("moxel") });
        let mut steps = stretches.iter().flat_map(|stretch| stretch.0).peekable();
        while let Some(step) = steps.peek() {
            if let Step::Copy { from, to } = step {
                encoder.copy_buffer_to_buffer(from.buffer.raw(), from.offset, to.buffer.raw(), to.offset, from.size);
                steps.next();
                continue;
            }
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            while let Some(Step::Dispatch { pipeline, bindings, groups, .. }) =
                steps.next_if(|s| matches!(s, Step::Dispatch { .. }))
            {
                pass.set_pipeline(&pipeline.raw);
                pass.set_bind_group(0, bindings, &[]);
                pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
            }
        }
        let submission = Submission(self.queue.submit([encoder.finish()]));
        self.check()?;
        Ok(submission)
    }
}

fn entry((binding, slice): &(u32, Slice)) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry {
        binding: *binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: slice.buffer.raw(),
            offset: slice.offset,
            size: std::num::NonZeroU64::new(slice.size),
        }),
    }
}
