//! What the driver made of our shaders, kept for the next run.

use std::sync::Arc;

use moxel::Gpu;

use crate::args::Common;
use crate::kept::KeptFile;

/// A driver adds to what it is given and takes nothing away: above this it begins anew.
const MOST_BYTES: usize = 64 << 20;

/// The kept pipelines of an adapter.
pub struct KeptPipelines {
    gpu: Arc<Gpu>,
    file: KeptFile,
    earlier: Option<Vec<u8>>,
}

impl KeptPipelines {
    /// Hands an adapter what an earlier run kept; `None` where nothing can be kept.
    pub fn begin(common: &Common, gpu: &Arc<Gpu>) -> Option<Self> {
        let file = KeptFile::new(common, &format!("{}.bin", gpu.pipelines_key()?))?;
        let earlier = file.read().filter(|kept| kept.len() <= MOST_BYTES);
        // SAFETY: `write` kept them, in a folder of the user's.
        unsafe { gpu.keep_pipelines(earlier.as_deref()) };
        Some(Self { gpu: Arc::clone(gpu), file, earlier })
    }

    /// Keeps what there is now, if it is something new.
    pub fn write(&self) {
        if let Some(now) = self.gpu.kept_pipelines().filter(|now| self.earlier.as_ref() != Some(now)) {
            self.file.write(&now);
        }
    }
}
