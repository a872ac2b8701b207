//! What an adapter can do at best, measured by kernels that do nothing else: the yardsticks of a model's speed.

use web_time::Instant;

use crate::Result;
use crate::gpu::{Buffer, Gpu, Recorder, Slice};
use crate::kernels::{copy_memory, multiply_add};

/// Bytes that are copied: more than caches hold, and no more than every adapter can bind.
const COPY_BYTES: u64 = 128 << 20;
/// Lanes that compute: several for each that the largest GPUs have.
const LANES: u64 = 1 << 20;
/// Dispatches whose cost is measured together.
const DISPATCHES: usize = 256;
/// Read-backs of which the median counts.
const READBACKS: usize = 31;
/// Bytes that are uploaded, and at a time, as a model's weights are.
const UPLOAD_BYTES: u64 = 64 << 20;
const UPLOAD_PIECE: u64 = 4 << 20;
/// Seconds that a measurement takes at least: beside them a submission does not count.
const LONG: f64 = 0.03;
/// The most calls of a kernel in a measurement.
const MOST: usize = 4096;
/// Measurements of which the fastest counts.
const TRIES: usize = 3;

/// An adapter's measured abilities. What they are on paper does not matter to a program that cannot reach them.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Roofline {
    /// Bytes per second that a copy within the GPU's memory reads and writes, both counted.
    pub copy_bytes_per_second: f64,
    /// Multiplications and additions of f32 per second, each counted, outside of matrix units.
    pub f32_operations_per_second: f64,
    /// Microseconds that a dispatch adds to a submission, each waiting for the one before.
    pub dispatch_microseconds: f64,
    /// Microseconds from a submission of next to no work until its result is read.
    pub readback_microseconds: f64,
    /// Bytes per second from the CPU's memory to the GPU's.
    pub upload_bytes_per_second: f64,
}

impl Roofline {
    /// Measures an adapter, which takes about a second and 256 MiB of its memory. Nothing else should run on it.
    ///
    /// # Errors
    /// The device has no room for it, or fails.
    pub async fn measure(gpu: &Gpu) -> Result<Self> {
        let (from, to) = (gpu.storage("yardstick", COPY_BYTES)?, gpu.storage("yardstick", COPY_BYTES)?);
        let bench = Bench { gpu, staging: gpu.staging(4)?, result: to.slice(0, 4) };
        let upload = bench.upload(&from).await?;
        let copy = bench.repeated(|r| copy_memory(r, &from.whole(), &to.whole())).await?;
        let mut operations = 0;
        // Towards 1, so that no number leaves the range in which arithmetic is fast.
        let compute = bench.repeated(|r| operations = multiply_add(r, &to.slice(0, 4 * LANES), 0.99, 0.01)).await?;
        let small = |r: &mut Recorder| copy_memory(r, &from.slice(0, 16), &to.slice(0, 16));
        let (one, many) = (bench.median(1, small).await?, bench.median(1 + DISPATCHES, small).await?);
        Ok(Self {
            copy_bytes_per_second: 2.0 * COPY_BYTES as f64 / copy,
            f32_operations_per_second: operations as f64 / compute,
            dispatch_microseconds: 1e6 * (many - one).max(0.0) / DISPATCHES as f64,
            readback_microseconds: 1e6 * one,
            upload_bytes_per_second: UPLOAD_BYTES as f64 / upload,
        })
    }
}

struct Bench<'a> {
    gpu: &'a Gpu,
    staging: Buffer,
    /// A word that all kernels here have written when they are done.
    result: Slice,
}

impl Bench<'_> {
    /// Seconds of each of several submissions of `count` calls of a kernel, in ascending order; the first one is left out.
    async fn sorted(&self, count: usize, tries: usize, mut record: impl FnMut(&mut Recorder)) -> Result<Vec<f64>> {
        let mut r = Recorder::default();
        (0..count).for_each(|_| record(&mut r));
        r.copy(self.result.clone(), self.staging.whole().words(0, 1));
        let program = self.gpu.prepare(&r.finish())?;
        let mut times = Vec::with_capacity(tries);
        for run in 0..=tries {
            let begin = Instant::now();
            self.gpu.run(&[program.whole()])?;
            self.gpu.read(&self.staging, 4).await?;
            if run > 0 {
                times.push(begin.elapsed().as_secs_f64());
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    async fn median(&self, count: usize, record: impl FnMut(&mut Recorder)) -> Result<f64> {
        Ok(self.sorted(count, READBACKS, record).await?[READBACKS / 2])
    }

    /// Seconds of one call at best, of as many together as take long enough.
    async fn repeated(&self, mut record: impl FnMut(&mut Recorder)) -> Result<f64> {
        let mut count = 1;
        loop {
            let best = self.sorted(count, TRIES, &mut record).await?[0];
            if best >= LONG || count == MOST {
                return Ok(best / count as f64);
            }
            count = (4 * count).min(MOST);
        }
    }

    /// Seconds until all is there, at best.
    async fn upload(&self, to: &Buffer) -> Result<f64> {
        let piece = vec![1; UPLOAD_PIECE as usize];
        let mut best = f64::MAX;
        for _ in 0..TRIES {
            let begin = Instant::now();
            for offset in (0..UPLOAD_BYTES).step_by(UPLOAD_PIECE as usize) {
                self.gpu.write(to, offset, &piece);
            }
            self.gpu.flush().await;
            best = best.min(begin.elapsed().as_secs_f64());
        }
        self.gpu.check()?;
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;

    /// Not how fast, which no test knows, but that every figure is one.
    #[test]
    fn every_ability_is_measured() {
        let gpu = pollster::block_on(Gpu::new(&GpuOptions::default())).expect("an adapter");
        let found = pollster::block_on(Roofline::measure(&gpu)).expect("a measurement");
        let fields = [
            found.copy_bytes_per_second,
            found.f32_operations_per_second,
            found.readback_microseconds,
            found.upload_bytes_per_second,
        ];
        assert!(fields.iter().all(|field| field.is_finite() && *field > 0.0), "{found:?}");
        assert!(found.dispatch_microseconds.is_finite() && found.dispatch_microseconds >= 0.0, "{found:?}");
        assert_eq!(gpu.buffer_bytes(), 0, "the yardsticks were left behind");
        println!("{found:?}");
    }
}
