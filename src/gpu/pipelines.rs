//! The pipelines of a device, each compiled at its first use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use web_time::Instant;

use super::Gpu;
use super::shader::{Pipeline, Shader};
use crate::Result;

/// What a device has compiled.
#[derive(Default)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<Shader, Arc<Pipeline>>>,
    work: Mutex<PipelineWork>,
}

/// The pipelines that were compiled on a device, and what that took of the time of whoever waited for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PipelineWork {
    /// How many.
    pub count: usize,
    /// How long, in a browser without what its GPU process does later.
    pub time: Duration,
}

impl Gpu {
    /// The pipelines that were compiled so far.
    #[must_use]
    pub fn pipeline_work(&self) -> PipelineWork {
        *self.pipelines.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipeline of a shader variant, compiled at its first use.
    pub(super) fn pipeline(&self, shader: &Shader) -> Result<Arc<Pipeline>> {
        let mut made = self.pipelines.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.get(shader) {
            return Ok(Arc::clone(found));
        }
        let begin = Instant::now();
        let pipeline = Arc::new(Pipeline::compile(self, shader)?);
        let mut work = self.pipelines.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.count += 1;
        work.time += begin.elapsed();
        made.insert(shader.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
    }
}
