//! How long a kernel takes on the adapter at hand.

use std::time::Duration;

use web_time::Instant;

use super::attention::PromptAttention;
use super::subject::Subject;
use super::{TOKENS, Work};
use crate::gpu::{Buffer, Gpu, Program, Recorder, Slice};
use crate::kernels::{Activations, KernelChoice, Matrix, Output, can_gate, gated, matmul, swiglu};
use crate::packing::{GROUP_ROWS, Layout};
use crate::{Error, Result};

/// Packed bytes of the matrix that is measured, unless the model's own is smaller: first few, which a slow adapter has done in a
/// moment, then as many as a fast one needs to be busy. More say nothing else, and a phone need not find room for them.
const FEW_BYTES: u64 = 2 << 20;
const MOST_BYTES: u64 = 32 << 20;
/// What one token's product of the measured matrix may take at most, unless few bytes take longer: one of many tokens takes fifty
/// times as long on an adapter that has no more lanes to offer.
const MOMENT: Duration = Duration::from_micros(500);
/// A measurement shorter than this says more about the submission than about the kernel.
const SHORTEST: Duration = Duration::from_millis(3);
/// The most repetitions of a kernel in one measurement.
const MOST: usize = 256;

/// A matrix of zeros, activations to multiply it by, and attention. The times do not depend on the values.
pub(super) struct Bench<'a> {
    gpu: &'a Gpu,
    matrix: Matrix,
    x: Slice,
    y: Slice,
    activated: Slice,
    /// What is measured of it, and room for its results; `None` where only products are.
    attention: Option<(&'a PromptAttention, Slice)>,
    staging: Buffer,
}

impl<'a> Bench<'a> {
    /// A matrix of the subject's size, or as much of it as the adapter computes with `choice`, which is right, in a moment.
    pub(super) async fn new(
        gpu: &'a Gpu,
        subject: Subject,
        attention: Option<&'a PromptAttention>,
        choice: KernelChoice,
    ) -> Result<Self> {
        let most = MOST_BYTES.min(gpu.caps().max_binding_bytes);
        let few = Self::with_bytes(gpu, subject, attention, FEW_BYTES.min(most))?;
        if few.matrix.layout.rows >= subject.rows {
            return Ok(few);
        }
        let time = few.time(choice, Work::One, Duration::MAX).await?;
        let in_a_moment = MOMENT.as_secs_f64() / time.as_secs_f64().max(1e-9) * FEW_BYTES as f64;
        let bytes = (in_a_moment as u64).min(most);
        if bytes < 2 * FEW_BYTES { Ok(few) } else { Self::with_bytes(gpu, subject, attention, bytes) }
    }

    fn with_bytes(gpu: &'a Gpu, subject: Subject, attention: Option<&'a PromptAttention>, bytes: u64) -> Result<Self> {
        let group = Layout::new(subject.dtype, GROUP_ROWS, subject.cols);
        let room = usize::try_from(bytes / group.bytes()).unwrap_or(1);
        // Whole groups of gate and as many of up.
        let groups = subject.rows.div_ceil(GROUP_ROWS).min(room).max(2).next_multiple_of(2);
        let layout = Layout::new(subject.dtype, groups * GROUP_ROWS, subject.cols);
        let storage = |elements: usize| Ok::<_, Error>(gpu.storage("tuning", 4 * elements as u64)?.whole());
        Ok(Self {
            gpu,
            x: storage(TOKENS * layout.blocks() * 32)?,
            y: storage(TOKENS * layout.rows)?,
            activated: storage(layout.rows)?,
            attention: attention.map(|attention| Ok::<_, Error>((attention, attention.room(gpu)?))).transpose()?,
            staging: gpu.staging(4)?,
            matrix: Matrix::allocate(gpu, "tuning", layout, 1)?,
        })
    }

    /// Bytes of the matrix.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.matrix.layout.bytes()
    }

    /// Time of the work; gives up early on what is far from `fastest`.
    pub(super) async fn time(&self, choice: KernelChoice, work: Work, fastest: Duration) -> Result<Duration> {
        let mut repetitions = 1;
        self.run(&self.program(choice, work, 1)?).await?;
        loop {
            let program = self.program(choice, work, repetitions)?;
            let mut best = Duration::MAX;
            for _ in 0..3 {
                best = best.min(self.run(&program).await?);
                if best / repetitions as u32 / 2 > fastest {
                    break;
                }
            }
            if best >= SHORTEST || repetitions >= MOST {
                return Ok(best / repetitions as u32);
            }
            repetitions *= 4;
        }
    }

    fn program(&self, choice: KernelChoice, work: Work, repetitions: usize) -> Result<Program> {
        let mut r = Recorder::default();
        let tokens = if work == Work::Many { TOKENS } else { 1 };
        let bytes = work.multiplies_bytes(choice);
        let x = Activations { rows: self.x.clone(), bytes, undivided: None };
        let out = Output { y: self.y.clone(), stride: self.matrix.layout.rows, offset: 0, accumulate: false };
        for _ in 0..repetitions {
            if let (Work::Attention, Some((attention, out))) = (work, &self.attention) {
                attention.record(&mut r, choice, out);
                continue;
            }
            if work == Work::Gate && choice.fused && can_gate(&self.matrix) {
                gated(&mut r, choice.matvec, &self.matrix, &x, None, (&self.activated, bytes));
                continue;
            }
            matmul(&mut r, choice, &self.matrix, &x, tokens, &out);
            if work == Work::Gate {
                swiglu(&mut r, &self.y, None, (&self.activated, bytes), self.matrix.layout.rows / 2, 1);
            }
        }
        r.copy(self.y.words(0, 1), self.staging.whole().words(0, 1));
        self.gpu.prepare(&r.finish())
    }

    async fn run(&self, program: &Program) -> Result<Duration> {
        let begin = Instant::now();
        self.gpu.run(&[program.whole()])?;
        self.gpu.read(&self.staging, 4).await?;
        Ok(begin.elapsed())
    }
}
