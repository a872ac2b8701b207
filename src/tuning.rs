//! Choosing kernels by measuring them on the adapter at hand, at the model's own width and format.

use std::time::Duration;

use web_time::Instant;

use crate::engine::Precision;
use crate::experts::SyncCosts;
use crate::gpu::{Buffer, Gpu, Program, Recorder, Slice};
use crate::kernels::{
    Activations, KernelChoice, Matmul, Matrix, Matvec, Output, Part, add_bias, gated, is_quantized, matmul, swiglu,
};
use crate::models::ModelInfo;
use crate::packing::{GROUP_ROWS, Layout};
use crate::weights::DType;
use crate::{Error, Result};

/// Models below this size are not worth measuring for: any kernel computes them in no time.
const SMALLEST_MODEL: u64 = 32 << 20;
/// Packed bytes of the matrix that is measured: more than a cache line of every lane, less than a second on a slow CPU.
const MATRIX_BYTES: u64 = 2 << 20;
/// Tokens of the product of many tokens.
const TOKENS: usize = 32;
/// A measurement shorter than this says more about the submission than about the kernel.
const SHORTEST: Duration = Duration::from_millis(3);
/// The most repetitions of a kernel in one measurement.
const MOST: usize = 256;

/// Kernel calls that are skipped for measuring what it costs, and columns of each: as many workgroups as a usual product.
const SKIPPED: usize = 64;
const SKIPPED_COLS: u64 = 24 * 64;

/// How much faster products of bytes must be to be chosen: they cost accuracy (SmolLM2-135M: a mean KL divergence of 5e-3
/// from the reference instead of 1e-6).
const BYTES_GAIN: f64 = 1.2;

/// How much faster separate kernels must be to be chosen over fused ones. Both round differently, so that a device which is nearly
/// indifferent should choose alike each time.
const SEPARATE_GAIN: f64 = 1.1;

/// The fastest kernels for a model on an adapter. `Exact` only chooses among those with f32 activations.
pub(crate) async fn choose(gpu: &Gpu, info: &ModelInfo, precision: Precision) -> Result<KernelChoice> {
    let Some(dtype) = main_format(info).filter(|_| info.weight_bytes >= SMALLEST_MODEL) else {
        return Ok(KernelChoice::PLAIN);
    };
    let bench = Bench::new(gpu, dtype, info.hidden)?;
    let bytes = precision == Precision::Fast && is_quantized(dtype);
    let mut choice = KernelChoice::PLAIN;
    let handicap = |bytes: bool| if bytes { BYTES_GAIN } else { 1.0 };
    let mut fastest = Duration::MAX;
    for matvec in Matvec::ALL.into_iter().filter(|k| bytes || !k.bytes()) {
        let time =
            bench.time(KernelChoice { matvec, ..choice }, Work::Product(1), fastest).await?.mul_f64(handicap(matvec.bytes()));
        if time < fastest {
            (choice.matvec, fastest) = (matvec, time);
        }
    }
    let separate = bench.time(KernelChoice { fused: false, ..choice }, Work::Gate, Duration::MAX).await?;
    let fused = bench.time(KernelChoice { fused: true, ..choice }, Work::Gate, separate).await?;
    choice.fused = fused <= separate.mul_f64(SEPARATE_GAIN);
    fastest = Duration::MAX;
    for matmul in Matmul::ALL.into_iter().filter(|k| bytes || !k.bytes()) {
        let time = bench
            .time(KernelChoice { matmul, ..choice }, Work::Product(TOKENS), fastest)
            .await?
            .mul_f64(handicap(matmul.bytes()));
        if time < fastest {
            (choice.matmul, fastest) = (matmul, time);
        }
    }
    Ok(choice)
}

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

/// The format that most of the weights have.
fn main_format(info: &ModelInfo) -> Option<DType> {
    let (name, _) = info.formats.iter().max_by_key(|(_, elements)| **elements)?;
    DType::ALL.into_iter().find(|dtype| dtype.name() == name)
}

/// What is measured.
#[derive(Clone, Copy)]
enum Work {
    /// One product of this many tokens.
    Product(usize),
    /// One token's product and the activation behind it, half of the rows being a gate: the part of a layer whose kernels may be
    /// one.
    Gate,
}

/// A matrix of zeros in a format, and activations to multiply it by. The time of a product does not depend on the values.
struct Bench<'a> {
    gpu: &'a Gpu,
    matrix: Matrix,
    x: Slice,
    y: Slice,
    activated: Slice,
    staging: Buffer,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Gpu, dtype: DType, cols: usize) -> Result<Self> {
        let cols = cols.next_multiple_of(dtype.block_len());
        let group = Layout::new(dtype, GROUP_ROWS, cols);
        let groups = usize::try_from(MATRIX_BYTES / group.bytes()).unwrap_or(1).max(2).next_multiple_of(2);
        let layout = Layout::new(dtype, groups * GROUP_ROWS, cols);
        let storage = |bytes: usize| Ok::<_, Error>(gpu.storage("tuning", bytes as u64)?.whole());
        let quants = storage(4 * groups * layout.group_quants())?;
        let side = (layout.group_side() > 0).then(|| storage(4 * groups * layout.group_side())).transpose()?;
        let elements = TOKENS * layout.blocks() * 32;
        Ok(Self {
            gpu,
            x: storage(4 * elements)?,
            y: storage(4 * TOKENS * layout.rows)?,
            activated: storage(4 * layout.rows)?,
            staging: gpu.staging(4)?,
            matrix: Matrix { layout, parts: vec![Part { first_group: 0, end_group: groups, quants, side }], most_groups: groups },
        })
    }

    /// Time of the work; gives up early on what is far from `fastest`.
    async fn time(&self, choice: KernelChoice, work: Work, fastest: Duration) -> Result<Duration> {
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
        let tokens = if let Work::Product(tokens) = work { tokens } else { 1 };
        let bytes = if tokens > 1 { choice.matmul.bytes() } else { choice.matvec.bytes() };
        let x = Activations { rows: self.x.clone(), bytes, undivided: None };
        let out = Output { y: self.y.clone(), stride: self.matrix.layout.rows, offset: 0, accumulate: false };
        for _ in 0..repetitions {
            if matches!(work, Work::Gate) && choice.fused {
                gated(&mut r, choice.matvec, &self.matrix, &x, None, (&self.activated, bytes));
                continue;
            }
            matmul(&mut r, choice, &self.matrix, &x, tokens, &out);
            if matches!(work, Work::Gate) {
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
