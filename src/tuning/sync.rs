//! What synchronising costs on an adapter, for streaming.

use std::time::Duration;

use web_time::Instant;

use crate::experts::SyncCosts;
use crate::gpu::{Gpu, Recorder};
use crate::kernels::add_bias;
use crate::{Error, Result};

/// Kernel calls that are skipped for measuring what it costs, and columns of each: as many workgroups as a usual product.
const SKIPPED: usize = 64;
const SKIPPED_COLS: u64 = 24 * 64;

/// What synchronising and skipping cost on an adapter.
pub(crate) async fn sync_costs(gpu: &Gpu) -> Result<SyncCosts> {
    let raised = gpu.upload("tuning", &1_u32.to_le_bytes())?.slice(0, 4);
    let (bias, y) = (gpu.storage("tuning", 4 * SKIPPED_COLS)?.whole(), gpu.storage("tuning", 4 * SKIPPED_COLS)?.whole());
    let staging = gpu.staging(4)?;
    let time = async |skipped: usize| {
        let mut r = Recorder::guarded(raised.clone());
        for _ in 0..skipped {
            add_bias(&mut r, &bias, &y, SKIPPED_COLS as usize, SKIPPED_COLS as usize, 0, 1);
        }
        r.copy(y.words(0, 1), staging.whole().words(0, 1));
        let program = gpu.prepare(&r.finish())?;
        let mut best = Duration::MAX;
        for _ in 0..8 {
            let begin = Instant::now();
            gpu.run(&[program.whole()])?;
            gpu.read(&staging, 4).await?;
            best = best.min(begin.elapsed());
        }
        Ok::<_, Error>(best.as_secs_f64())
    };
    let (few, many) = (time(1).await?, time(1 + SKIPPED).await?);
    Ok(SyncCosts { sync: few, skip: (many - few).max(0.0) / SKIPPED as f64 })
}
