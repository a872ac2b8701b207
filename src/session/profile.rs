//! Looking into a pass: the time of its kernels.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Session;
use super::recording::{Mode, Tail};
use crate::gpu::TimedCall;
use crate::{Error, Result};

/// What a kernel took in a pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelTime {
    /// The kernel and its conditions, joined by dots, such as `matvec.q4_1.quantized`.
    pub kernel: String,
    /// How often it was called.
    pub calls: usize,
    /// Microseconds of all calls together.
    pub microseconds: f64,
    /// Bytes of weights that they read.
    pub weight_bytes: u64,
}

impl Session {
    /// Appends tokens, at most as many as are computed together, with the likeliest next one as in [`Session::next`], and returns
    /// what each kernel took on the GPU, the longest first. Each call is timed alone, so that together they take longer than
    /// without being watched. `None`, and nothing appended, where the adapter has no timestamps, or experts may be missing.
    ///
    /// # Errors
    /// As [`Session::prefill`], no token, or too many.
    pub async fn profile(&mut self, tokens: &[u32]) -> Result<Option<Vec<KernelTime>>> {
        self.check(tokens)?;
        let most = self.engine.first_chunk;
        if tokens.is_empty() || tokens.len() > most {
            return Err(Error::Request(format!("{} tokens cannot be profiled together, 1 to {most} can", tokens.len())));
        }
        if !self.engine.experts.complete() {
            return Ok(None);
        }
        self.begin(tokens).await?;
        let shape = self.shape(self.tokens.len(), tokens.len(), Tail::Greedy, Mode::Resident);
        let programs = self.programs(shape)?;
        let calls = self.engine.gpu.run_timed(programs.work.whole()).await;
        self.keep(shape, programs);
        let Some(calls) = calls? else { return Ok(None) };
        self.tokens.extend_from_slice(tokens);
        Ok(Some(by_kernel(calls)))
    }
}

fn by_kernel(calls: Vec<TimedCall>) -> Vec<KernelTime> {
    let mut kernels: BTreeMap<String, (usize, f64, u64)> = BTreeMap::new();
    for TimedCall { kernel, seconds, weight_bytes } in calls {
        let (count, time, bytes) = kernels.entry(kernel).or_default();
        (*count, *time, *bytes) = (*count + 1, *time + seconds, *bytes + weight_bytes);
    }
    let mut times: Vec<_> = kernels
        .into_iter()
        .map(|(kernel, (calls, time, weight_bytes))| KernelTime { kernel, calls, microseconds: 1e6 * time, weight_bytes })
        .collect();
    times.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_kernel_are_added_up() {
        let call = |kernel: &str, seconds, weight_bytes| TimedCall { kernel: kernel.into(), seconds, weight_bytes };
        let times = by_kernel(vec![call("a", 0.5, 1), call("b", 2.0, 0), call("a", 0.25, 2)]);
        let time = |kernel: &str, calls, microseconds, weight_bytes| KernelTime {
            kernel: kernel.into(),
            calls,
            microseconds,
            weight_bytes,
        };
        assert_eq!(times, [time("b", 1, 2e6, 0), time("a", 2, 0.75e6, 3)]);
    }
}
