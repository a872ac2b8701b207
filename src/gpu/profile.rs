//! How long each kernel call of a program takes on the GPU.

use super::program::Step;
use super::{Gpu, Stretch};
use crate::Result;

/// Queries that a set may hold.
const SET: usize = 4096;
/// Bytes of a timestamp.
const STAMP: u64 = 8;

/// A kernel call with its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimedCall {
    /// The kernel and its conditions, joined by dots.
    pub(crate) kernel: String,
    pub(crate) seconds: f64,
    /// Bytes of weights that it read.
    pub(crate) weight_bytes: u64,
}

impl Gpu {
    /// As [`Self::run`], but each kernel call is a pass of its own between two timestamps, and it waits until all is done: for
    /// looking at, not for speed. `None`, and nothing done, where the device has no timestamps.
    pub(crate) async fn run_timed(&self, stretch: Stretch<'_>) -> Result<Option<Vec<TimedCall>>> {
        if !self.caps().timestamps {
            return Ok(None);
        }
        let calls = stretch.dispatches();
        let sets: Vec<_> = (0..(2 * calls).div_ceil(SET))
            .map(|set| {
                let count = (2 * calls - set * SET).min(SET) as u32;
                let kind = wgpu::QueryType::Timestamp;
                self.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("profile"), ty: kind, count })
            })
            .collect();
        let size = (2 * calls).max(1) as u64 * STAMP;
        let resolved = self.allocate("profile", size, wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC)?;
        let staging = self.staging(size)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("profile") });
        let mut timed = Vec::with_capacity(calls);
        for step in stretch.steps() {
            let query = 2 * timed.len();
            match step {
                Step::Copy { from, to } => {
                    encoder.copy_buffer_to_buffer(from.buffer.raw(), from.offset, to.buffer.raw(), to.offset, from.size);
                }
                Step::Dispatch { pipeline, bindings, groups, weight_bytes } => {
                    let within = (query % SET) as u32;
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                            query_set: &sets[query / SET],
                            beginning_of_pass_write_index: Some(within),
                            end_of_pass_write_index: Some(within + 1),
                        }),
                    });
                    pass.set_pipeline(&pipeline.raw);
                    pass.set_bind_group(0, bindings, &[]);
                    pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
                    timed.push(TimedCall { kernel: pipeline.name.clone(), seconds: 0.0, weight_bytes: *weight_bytes });
                }
            }
        }
        for (set, queries) in (0..).zip(&sets) {
            encoder.resolve_query_set(queries, 0..queries.count(), resolved.raw(), set * SET as u64 * STAMP);
        }
        encoder.copy_buffer_to_buffer(resolved.raw(), 0, staging.raw(), 0, size);
        self.queue.submit([encoder.finish()]);
        self.check()?;
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&staging, size).await?);
        let tick = f64::from(self.queue.get_timestamp_period()) * 1e-9;
        for (call, stamps) in timed.iter_mut().zip(stamps.chunks_exact(2)) {
            // A clock that goes backwards, as some do between power states, has measured nothing.
            call.seconds = stamps[1].saturating_sub(stamps[0]) as f64 * tick;
        }
        Ok(Some(timed))
    }
}
