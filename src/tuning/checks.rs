//! Everything that kernels are checked with: the matrix that is measured, and a small one of each format that the model has.

use super::Work;
use super::attention::PromptAttention;
use super::check::Check;
use super::subject::{Subject, Use, uses};
use crate::Result;
use crate::gpu::Gpu;
use crate::kernels::{KernelChoice, KvType};
use crate::model_files::ModelFiles;

/// Columns of the small matrices: whole superblocks of any format, and more blocks than lanes share a row.
const COLS: usize = 5 * 256;

pub(super) struct Checks<'a> {
    /// The format and the width of what is measured: every kernel is checked with it.
    pub(super) main: Check<'a>,
    /// What else the model multiplies: kernels are checked with it before they are chosen.
    pub(super) further: Vec<(Use, Check<'a>)>,
    pub(super) attention: PromptAttention,
}

impl<'a> Checks<'a> {
    pub(super) fn new(gpu: &'a Gpu, subject: Subject, files: &ModelFiles, kv: KvType) -> Result<Self> {
        let small = |(dtype, used): (_, Use)| {
            Ok((used, Check::new(gpu, Subject { dtype, rows: 0, cols: COLS, experts: false, ..subject }, 1)?))
        };
        let more = uses(files)?.into_iter().filter(|(dtype, used)| *dtype != subject.dtype || used.floats);
        let further = more.map(small).collect::<Result<_>>()?;
        let attention = PromptAttention::new(gpu, subject.heads, kv, 0)?;
        Ok(Self { main: Check::new(gpu, subject, 0)?, further, attention })
    }

    /// Why kernels must not do this work; `None` where they are right for the main format.
    pub(super) async fn fault(&self, work: Work, choice: KernelChoice) -> Result<Option<String>> {
        match work {
            Work::Attention => self.attention.fault(self.main.gpu, choice).await,
            _ => self.main.fault(work, choice).await,
        }
    }

    /// Why kernels that are right for the main format must not do this work in the model; `None` where they may.
    pub(super) async fn fault_elsewhere(&self, work: Work, choice: KernelChoice) -> Result<Option<String>> {
        if work == Work::Attention {
            return Ok(None);
        }
        let prefers_bytes = work.multiplies_bytes(choice);
        if work == Work::Many && self.main.subject.experts {
            let fault = self.main.fault_in_tiles(choice, prefers_bytes).await?;
            if fault.is_some() {
                return Ok(fault);
            }
        }
        for (used, check) in &self.further {
            // A prompt has one row of logits, which is one token's product.
            if !(work == Work::One || used.layers || (work == Work::Many && used.floats)) {
                continue;
            }
            let is_main = check.subject.dtype == self.main.subject.dtype;
            for bytes in [true, false] {
                let wanted = if bytes { used.rounded && prefers_bytes } else { used.floats || (used.rounded && !prefers_bytes) };
                if !wanted || (is_main && bytes == prefers_bytes) {
                    continue;
                }
                if let Some(fault) = check.fault_with(work, choice, bytes).await? {
                    return Ok(Some(format!("{}: {fault}", check.subject.dtype)));
                }
            }
        }
        Ok(None)
    }
}
