//! A kernel that computes wrong numbers is not used, and that it does is noticed.

use std::sync::Arc;

use super::{Bench, Check, Subject, choose};
use crate::gpu::{Gpu, GpuOptions};
use crate::kernels::{KernelChoice, is_quantized};
use crate::weights::DType;
use crate::{Error, Result};

fn gpu() -> Arc<Gpu> {
    pollster::block_on(Gpu::new(&GpuOptions::default())).unwrap()
}

fn subject(dtype: DType) -> Subject {
    let cols = if dtype.block_len() == 1 { 100 } else { 3 * dtype.block_len() };
    Subject { dtype, rows: 96, cols }
}

fn dropped(check: &Check<'_>, bench: &Bench<'_>) -> Result<(Vec<String>, KernelChoice)> {
    let report = pollster::block_on(choose(check, bench, true))?;
    let names = report.candidates.into_iter().filter(|c| c.dropped.is_some()).map(|c| c.kernel).collect();
    Ok((names, report.kernels))
}

#[test]
fn right_kernels_of_every_format_pass() {
    let gpu = gpu();
    for dtype in DType::ALL {
        let check = Check::new(&gpu, subject(dtype), 1).unwrap();
        let bench = pollster::block_on(Bench::new(&gpu, subject(dtype))).unwrap();
        let report = pollster::block_on(choose(&check, &bench, is_quantized(dtype))).unwrap();
        for candidate in &report.candidates {
            assert_eq!(candidate.dropped, None, "{dtype}: {candidate:?}");
        }
        assert_eq!(report.candidates.len(), if is_quantized(dtype) { 11 } else { 6 });
        assert_eq!(report.candidates.iter().filter(|c| c.chosen).count(), 3);
    }
}

/// Bytes that are not what the CPU multiplied: as if the kernels for them were wrong, and the others right.
#[test]
fn a_wrong_kernel_is_dropped() {
    let (gpu, subject) = (gpu(), subject(DType::Q4_1));
    let mut check = Check::new(&gpu, subject, 1).unwrap();
    check.bytes = Check::new(&gpu, subject, 2).unwrap().bytes;
    let bench = pollster::block_on(Bench::new(&gpu, subject)).unwrap();
    let (dropped, kernels) = dropped(&check, &bench).unwrap();
    assert_eq!(
        dropped,
        ["rows, bytes", "rows of four lanes, bytes", "cooperative, bytes", "rows, bytes", "rows of four lanes, bytes"]
    );
    assert!(!kernels.uses_bytes());
}

#[test]
fn an_adapter_without_a_right_kernel_is_refused() {
    let (gpu, subject) = (gpu(), subject(DType::Q8_0));
    let mut check = Check::new(&gpu, subject, 1).unwrap();
    let other = Check::new(&gpu, subject, 2).unwrap();
    (check.bytes, check.floats) = (other.bytes, other.floats);
    let bench = pollster::block_on(Bench::new(&gpu, subject)).unwrap();
    match dropped(&check, &bench) {
        Err(Error::Adapter(why)) => assert!(why.contains("product of one token") && why.contains("rows, f32"), "{why}"),
        other => panic!("{other:?}"),
    }
}
