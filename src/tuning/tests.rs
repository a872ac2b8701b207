//! A kernel that computes wrong numbers is not used, and that it does is noticed.

use std::sync::Arc;

use super::attention::{Heads, PromptAttention};
use super::check::Check;
use super::checks::Checks;
use super::subject::{Subject, Use};
use super::{Work, choose, may_win};
use crate::gpu::{Gpu, GpuOptions};
use crate::kernels::{KernelChoice, KvType, Matmul, Matvec, is_quantized};
use crate::weights::DType;
use crate::{Error, Result};

fn gpu() -> Arc<Gpu> {
    pollster::block_on(Gpu::new(&GpuOptions::default())).unwrap()
}

fn subject(dtype: DType) -> Subject {
    let cols = if dtype.block_len() == 1 { 100 } else { 3 * dtype.block_len() };
    Subject { dtype, rows: 96, cols, experts: true, heads: HEADS }
}

/// Sizes that are no power of two.
const HEADS: Heads = Heads { of_keys: 2, sharing: 3, size: 20 };

fn alone(main: Check<'_>) -> Checks<'_> {
    with(main, Vec::new())
}

fn with<'a>(main: Check<'a>, further: Vec<(Use, Check<'a>)>) -> Checks<'a> {
    let attention = PromptAttention::new(main.gpu, HEADS, KvType::F32, 1).unwrap();
    Checks { main, further, attention }
}

fn dropped(checks: &Checks<'_>) -> Result<(Vec<String>, KernelChoice)> {
    let report = pollster::block_on(choose(checks, true))?;
    let names = report.candidates.into_iter().filter(|c| c.dropped.is_some()).map(|c| c.kernel).collect();
    Ok((names, report.kernels))
}

#[test]
fn right_kernels_of_every_format_pass() {
    let gpu = gpu();
    for dtype in DType::ALL {
        let checks = alone(Check::new(&gpu, subject(dtype), 1).unwrap());
        let report = pollster::block_on(choose(&checks, is_quantized(dtype))).unwrap();
        for candidate in &report.candidates {
            assert_eq!(candidate.dropped, None, "{dtype}: {candidate:?}");
        }
        let rounding = is_quantized(dtype);
        let matvecs = Matvec::on(gpu.caps()).filter(|kernel| rounding || !kernel.bytes()).count();
        let worth = |&kernel: &Matmul| (rounding || !kernel.rounds()) && may_win(kernel, report.kernels.matvec);
        assert_eq!(report.candidates.len(), matvecs + 2 + Matmul::on(gpu.caps()).filter(worth).count() + 2);
        assert_eq!(report.candidates.iter().filter(|c| c.chosen).count(), 4);
    }
}

/// Bytes that are not what the CPU multiplied: as if the kernels for them were wrong, and the others right.
#[test]
fn a_wrong_kernel_is_dropped() {
    let (gpu, subject) = (gpu(), subject(DType::Q4_1));
    let mut check = Check::new(&gpu, subject, 1).unwrap();
    check.bytes = Check::new(&gpu, subject, 2).unwrap().bytes;
    let (dropped, kernels) = dropped(&alone(check)).unwrap();
    let matvecs = Matvec::on(gpu.caps()).filter(|kernel| kernel.bytes()).map(|kernel| kernel.to_string());
    let worth = |kernel: &Matmul| kernel.bytes() && may_win(*kernel, kernels.matvec);
    let matmuls = Matmul::ALL.into_iter().filter(worth).map(|kernel| kernel.to_string());
    assert_eq!(dropped, matvecs.chain(matmuls).collect::<Vec<_>>());
    assert!(!kernels.matvec.bytes() && !kernels.matmul.bytes());
}

/// Right for the format that is measured, and wrong for another one of the model.
#[test]
fn a_kernel_that_is_wrong_elsewhere_is_not_chosen() {
    let gpu = gpu();
    let used = Use { rounded: true, floats: false, layers: true };
    let mut other = Check::new(&gpu, subject(DType::Q6K), 1).unwrap();
    other.bytes = Check::new(&gpu, subject(DType::Q6K), 2).unwrap().bytes;
    let checks = with(Check::new(&gpu, subject(DType::Q4_1), 1).unwrap(), vec![(used, other)]);
    let (dropped, kernels) = dropped(&checks).unwrap();
    assert!(dropped.iter().all(|name| name.contains("bytes")), "{dropped:?}");
    assert!(!kernels.matvec.bytes() && !kernels.matmul.bytes());

    // Whichever is fastest here, it makes way for the next, and in the end for none.
    let mut other = Check::new(&gpu, subject(DType::Q6K), 1).unwrap();
    let wrong = Check::new(&gpu, subject(DType::Q6K), 2).unwrap();
    (other.bytes, other.floats) = (wrong.bytes, wrong.floats);
    let checks = with(checks.main, vec![(used, other)]);
    assert!(self::dropped(&checks).is_err());
}

/// Experts' products of several tokens have shapes of their own.
#[test]
fn tiles_of_experts_are_checked() {
    let gpu = gpu();
    for dtype in [DType::Q4_1, DType::Q8_0, DType::BF16] {
        let right = Check::new(&gpu, subject(dtype), 1).unwrap();
        let mut wrong = Check::new(&gpu, subject(dtype), 1).unwrap();
        let other = Check::new(&gpu, subject(dtype), 2).unwrap();
        (wrong.floats, wrong.bytes) = (other.floats, other.bytes);
        for matmul in Matmul::on(gpu.caps()).filter(|kernel| is_quantized(dtype) || !kernel.bytes()) {
            let choice = KernelChoice { matmul, ..KernelChoice::PLAIN };
            let fault = |check: &Check<'_>| pollster::block_on(check.fault_in_tiles(choice, matmul.bytes())).unwrap();
            assert_eq!(fault(&right), None, "{dtype}, {matmul}");
            let found = fault(&wrong).unwrap();
            assert!(found.contains("element ") && found.starts_with("in tiles of "), "{found}");
        }
    }
}

/// Which products of the model a choice is checked with: those that it has, in the kernel's form.
#[test]
fn formats_are_checked_as_they_are_used() {
    let gpu = gpu();
    let bytes = KernelChoice { matvec: Matvec::RowsBytes, ..KernelChoice::PLAIN };
    let fault = |used: Use, wrong_bytes: bool, work: Work, choice: KernelChoice| {
        let mut other = Check::new(&gpu, subject(DType::Q6K), 1).unwrap();
        let wrong = Check::new(&gpu, subject(DType::Q6K), 2).unwrap();
        if wrong_bytes {
            other.bytes = wrong.bytes
        } else {
            other.floats = wrong.floats
        }
        let checks = with(Check::new(&gpu, subject(DType::Q4_1), 1).unwrap(), vec![(used, other)]);
        let fault = pollster::block_on(checks.fault_elsewhere(work, choice)).unwrap();
        assert!(fault.iter().all(|why| why.starts_with("Q6_K: element ")), "{fault:?}");
        fault.is_some()
    };
    let layers = Use { rounded: true, floats: false, layers: true };
    for work in [Work::One, Work::Gate] {
        assert!(fault(layers, true, work, bytes));
        assert!(!fault(layers, false, work, bytes));
        assert!(fault(layers, false, work, KernelChoice::PLAIN));
        assert!(fault(Use { floats: true, ..layers }, false, work, bytes));
    }
    assert!(fault(layers, false, Work::Many, bytes));
    let head = Use { layers: false, ..layers };
    assert!(fault(head, true, Work::One, bytes));
    assert!(!fault(head, true, Work::Gate, bytes));
    let router = Use { rounded: false, floats: true, layers: false };
    assert!(!fault(router, true, Work::One, bytes));
    assert!(fault(router, false, Work::One, bytes));
    assert!(fault(router, false, Work::Many, bytes));
}

/// Four lanes for many tokens where they won for one.
#[test]
fn what_cannot_win_is_not_compiled() {
    for matvec in Matvec::ALL {
        let worth = Matmul::ALL.into_iter().filter(|&kernel| may_win(kernel, matvec)).count();
        assert_eq!(worth, Matmul::ALL.len() - usize::from(matvec != Matvec::QuadsBytes), "{matvec}");
    }
}

#[test]
fn an_adapter_without_a_right_kernel_is_refused() {
    let (gpu, subject) = (gpu(), subject(DType::Q8_0));
    let mut check = Check::new(&gpu, subject, 1).unwrap();
    let other = Check::new(&gpu, subject, 2).unwrap();
    (check.bytes, check.floats) = (other.bytes, other.floats);
    match dropped(&alone(check)) {
        Err(Error::Adapter(why)) => assert!(why.contains("product of one token") && why.contains("rows, f32"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Other queries than those of which the CPU computed the results: as if the kernels were wrong.
#[test]
fn wrong_attention_is_refused() {
    let gpu = gpu();
    let f16 = KvType::F16;
    for (size, kv) in [(64, f16), (96, f16), (128, f16), (256, f16), (64, KvType::F32), (100, KvType::F32)] {
        let mut attention = PromptAttention::new(&gpu, Heads { size, ..HEADS }, kv, 1).unwrap();
        let other = PromptAttention::new(&gpu, Heads { size, ..HEADS }, kv, 2).unwrap();
        let choices = [false, true].map(|four_rows| KernelChoice { four_rows, ..KernelChoice::PLAIN });
        let faults =
            |attention: &PromptAttention| choices.map(|choice| pollster::block_on(attention.fault(&gpu, choice)).unwrap());
        assert_eq!(faults(&attention), [None, None], "{size}");
        attention.q = other.q;
        for fault in faults(&attention) {
            assert!(fault.unwrap().contains("of a prompt's attention is "), "{size}");
        }
    }
    let mut checks = alone(Check::new(&gpu, subject(DType::Q4_1), 1).unwrap());
    checks.attention.q = PromptAttention::new(&gpu, HEADS, KvType::F32, 2).unwrap().q;
    match dropped(&checks) {
        Err(Error::Adapter(why)) => assert!(why.contains("every kernel for the attention of a prompt computes wrong"), "{why}"),
        other => panic!("{other:?}"),
    }
}
