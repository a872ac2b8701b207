//! Tiny checkpoints against the logits, routing and greedy tokens that transformers computes in float32.

mod common;

use std::path::Path;

use common::wide::top2_wide;
use common::{Expected, golden, load, load_with, load_with_kernels};
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{Engine, EngineOptions, Error, Gpu, GpuOptions, KernelChoice, KvType, Logits, Precision, Tuning};

/// Largest difference of logits that is accepted, in units of their standard deviation.
const BOUND: f32 = 2e-3;

struct Case {
    name: &'static str,
    expected: Expected,
}

impl Case {
    fn new(name: &'static str) -> Self {
        Self { name, expected: Expected::read(&golden(name).join("expected.safetensors")) }
    }

    /// Largest difference of logits in units of the reference's standard deviation.
    fn difference(&self, logits: &[f32]) -> f32 {
        let expected = self.expected.floats("logits");
        assert_eq!(logits.len(), expected.len(), "{}: number of logits", self.name);
        let mean = expected.iter().map(|&v| f64::from(v)).sum::<f64>() / expected.len() as f64;
        let variance = expected.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / expected.len() as f64;
        let largest = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        // A NaN must not get lost in the maximum.
        largest.fold(0.0, |most, d| if d.is_nan() { f32::INFINITY } else { d.max(most) }) / variance.sqrt() as f32
    }

    fn check(&self, what: &str, got: &Logits) {
        let difference = self.difference(&got.logits);
        println!("{} {what}: {difference:.2e} of the standard deviation", self.name);
        assert!(difference <= BOUND, "{} {what}: {difference} of the standard deviation", self.name);
        for routing in &got.routing {
            let layer = routing.layer;
            assert_eq!(
                routing.ids,
                self.expected.ids(&format!("router.{layer}.ids")),
                "{} {what}: experts of layer {layer}",
                self.name
            );
            let weights = self.expected.floats(&format!("router.{layer}.weights"));
            for (got, expected) in routing.weights.iter().zip(&weights) {
                assert!((got - expected).abs() <= 1e-4, "{} {what}: weights of layer {layer}: {got} for {expected}", self.name);
            }
        }
    }
}

/// The whole prompt at once, in odd chunks and token by token give the reference's logits and experts, and the greedy
/// continuation is the reference's.
fn check(name: &'static str) {
    check_at(name, &golden(name));
}

/// The same of a model at this path, which computes what the golden model does.
fn check_at(name: &'static str, path: &Path) {
    let case = Case::new(name);
    let tokens = case.expected.ids("tokens");
    for chunk in [128, 7, 1] {
        let engine = load(path, Precision::Exact, chunk);
        let mut session = engine.session().expect("session");
        let logits = pollster::block_on(session.logits(&tokens)).expect("logits");
        case.check(&format!("in chunks of {chunk}"), &logits);
        assert_eq!(logits.routing.is_empty(), !case.expected.has(&format!("router.{}.ids", first_moe_layer(&engine))));
    }
    // Several tokens twice, and the last one alone, by each kernel that may be chosen.
    for kernels in KernelChoice::each(common::gpu().caps()).into_iter().filter(|kernels| !kernels.rounds_activations()) {
        let engine = load_with_kernels(path, Precision::Exact, tokens.len() / 2, kernels);
        assert_eq!(engine.kernel_choice(), kernels);
        let logits = pollster::block_on(engine.session().expect("session").logits(&tokens)).expect("logits");
        case.check(&kernels.to_string(), &logits);
    }
    let engine = load(path, Precision::Exact, 128);
    let mut session = engine.session().expect("session");
    let mut sampler = Sampler::new(SamplingOptions::default()).expect("greedy");
    let mut next = pollster::block_on(session.next(&tokens, &mut sampler)).expect("next");
    let mut greedy = vec![next];
    while greedy.len() < 24 {
        next = pollster::block_on(session.next(&[next], &mut sampler)).expect("next");
        greedy.push(next);
    }
    assert_eq!(greedy, case.expected.ids("greedy"), "{name}: greedy tokens");
}

fn first_moe_layer(engine: &moxel::Engine) -> usize {
    engine.info().moe_layers.first().copied().unwrap_or(usize::MAX)
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*
    };
}

cases![llama_bias, llama_quants, llama_tied, llama_untied, maverick, nested, scout, scout_gguf, top2];

/// Wide enough for every kernel.
#[test]
fn top2_with_wide_experts() {
    check_at("top2", top2_wide());
}

#[test]
fn llama_tied_gguf() {
    let case = Case::new("llama_tied");
    let engine = load(&golden("llama_tied").join("model.gguf"), Precision::Exact, 128);
    let tokens = case.expected.ids("tokens");
    case.check("gguf", &pollster::block_on(engine.session().expect("session").logits(&tokens)).expect("logits"));
}

/// Otherwise exact, with caches that round keys and values: to 11 bits, and in blocks to 8.
#[test]
fn every_cache_stays_close() {
    for (kv, bound) in [(KvType::F32, BOUND), (KvType::F16, 1e-2), (KvType::Q8, 1.5e-1)] {
        for name in ["llama_bias", "llama_quants", "llama_tied", "llama_untied"] {
            let case = Case::new(name);
            let tokens = case.expected.ids("tokens");
            for prefill_chunk in [128, 7, 1] {
                let options = EngineOptions {
                    precision: Precision::Exact,
                    prefill_chunk: Some(prefill_chunk),
                    kv: Some(kv),
                    ..EngineOptions::default()
                };
                let path = golden(name);
                if !can_hold(name, kv) {
                    match Engine::load_path(&common::gpu(), &path, &options, &mut |_| {}) {
                        Err(Error::Request(why)) => assert!(why.contains("q8") && why.contains("f16"), "{why}"),
                        _ => panic!("{name} in {kv} was not refused"),
                    }
                    continue;
                }
                let engine = load_with(&path, &options);
                assert_eq!(engine.kv_type(), kv);
                let logits = pollster::block_on(engine.session().expect("session").logits(&tokens)).expect("logits").logits;
                let difference = case.difference(&logits);
                println!("{name} in {kv} in chunks of {prefill_chunk}: {difference:.2e} of the standard deviation");
                assert!(difference <= bound, "{name} in {kv}: {difference}");
                assert!(kv == KvType::F32 || difference > 2e-5, "{name}: {kv} rounds nothing");
            }
        }
    }
}

/// Blocks of 32 bytes divide the heads of `llama_quants` only.
fn can_hold(name: &str, kv: KvType) -> bool {
    kv != KvType::Q8 || name == "llama_quants"
}

/// Kernels that round activations are refused where nothing may be rounded.
#[test]
fn exact_precision_refuses_what_rounds() {
    for kernels in KernelChoice::each(common::gpu().caps()).into_iter().filter(KernelChoice::rounds_activations) {
        let options = EngineOptions { precision: Precision::Exact, tuning: Tuning::Known(kernels), ..EngineOptions::default() };
        match Engine::load_path(&common::gpu(), &golden("scout"), &options, &mut |_| {}) {
            Err(Error::Request(why)) => assert!(why.contains("bytes") && why.contains("exact"), "{why}"),
            _ => panic!("{kernels} was not refused"),
        }
    }
}

/// The harness notices another model's numbers, a single wrong logit, and a NaN.
#[test]
fn harness_fails_where_it_must() {
    let case = Case::new("scout");
    let right = case.expected.floats("logits");
    assert!(case.difference(&right) <= BOUND);
    let mut wrong = right.clone();
    wrong[100] += 0.1;
    assert!(case.difference(&wrong) > BOUND);
    wrong[100] = f32::NAN;
    assert!(case.difference(&wrong) > BOUND);
}

/// Weights cut into pieces of 40 KiB, the embedding, the head and single experts among them, give the same numbers.
#[test]
fn split_over_many_bindings() {
    let small = GpuOptions { max_binding_bytes: Some(40 << 10), ..GpuOptions::default() };
    let small = pollster::block_on(Gpu::new(&small)).expect("an adapter");
    for name in ["scout", "llama_quants"] {
        let case = Case::new(name);
        let tokens = case.expected.ids("tokens");
        let options =
            EngineOptions { precision: Precision::Exact, prefill_chunk: Some(5), context: Some(76), ..EngineOptions::default() };
        let path = golden(name);
        let path = if path.join("model.gguf").exists() { path.join("model.gguf") } else { path };
        let engine = Engine::load_path(&small, &path, &options, &mut |_| {}).unwrap_or_else(|e| panic!("{name}: {e}"));
        case.check("split", &pollster::block_on(engine.session().expect("session").logits(&tokens)).expect("logits"));
    }
}
