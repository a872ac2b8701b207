//! A real model, SmolLM2-135M-Instruct in Q4_1, against its weights dequantised to float32 in transformers.
//!
//! `tests/golden/smollm2.py` makes the numbers and says what they are. Without the model the tests say so and return,
//! except where `CI` or `MOXEL_REQUIRE_MODEL` is set.

mod common;
#[path = "common/demo_model.rs"]
mod demo_model;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Expected, golden, load, load_with, load_with_kernels};
use demo_model::demo_model;
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{Engine, EngineOptions, KernelChoice, KvType, Precision};

/// Next tokens that the reference lists for each position.
const TOP: usize = 256;
/// A greedy token whose lead over the second is smaller than this may be another in a correct program.
const CLEAR_MARGIN: f32 = 0.02;

/// What the reference says about every position of a sequence.
struct Sequence {
    name: &'static str,
    ids: Vec<u32>,
    top_ids: Vec<u16>,
    top_logprobs: Vec<f32>,
    rest_logprob: Vec<f32>,
    argmax: Vec<u32>,
}

/// How far a model's logits are from the reference, summed over positions.
#[derive(Default)]
struct Distance {
    positions: usize,
    divergence: f64,
    /// Positions where the likeliest token is the reference's.
    agreeing: usize,
}

impl Sequence {
    fn all(expected: &Expected) -> [Self; 4] {
        ["chat", "code", "multilingual", "prose"].map(|name| Self {
            name,
            ids: expected.ids(&format!("{name}.ids")),
            top_ids: expected.u16s(&format!("{name}.top_ids")),
            top_logprobs: expected.floats(&format!("{name}.top_logprobs")),
            rest_logprob: expected.floats(&format!("{name}.rest_logprob")),
            argmax: expected.ids(&format!("{name}.argmax")),
        })
    }

    /// Adds up the divergence of `logits`, [tokens, vocab], from the reference at the first `tokens` positions.
    fn compare(&self, logits: &[f32], tokens: usize, distance: &mut Distance) {
        let vocab = logits.len() / tokens;
        assert_eq!(logits.len(), tokens * vocab, "{}: one row of logits for each token", self.name);
        for (t, row) in logits.chunks_exact(vocab).enumerate() {
            let top = t * TOP..(t + 1) * TOP;
            distance.divergence += divergence(&self.top_ids[top.clone()], &self.top_logprobs[top], self.rest_logprob[t], row);
            let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a vocabulary");
            distance.agreeing += usize::from(best as u32 == self.argmax[t]);
            distance.positions += 1;
        }
    }
}

/// The Kullback-Leibler divergence from the reference to softmax(`logits`), all tokens beyond the listed ones as one.
fn divergence(ids: &[u16], logprobs: &[f32], rest: f32, logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
    let exp = |logit: f32| f64::from(logit - largest).exp();
    let total: f64 = logits.iter().map(|&logit| exp(logit)).sum();
    let mut listed = vec![false; logits.len()];
    let mut sum = 0.0;
    for (&id, &logprob) in ids.iter().zip(logprobs) {
        let p = f64::from(logprob);
        sum += p.exp() * (p - (exp(logits[usize::from(id)]) / total).ln());
        listed[usize::from(id)] = true;
    }
    let others: f64 = logits.iter().zip(&listed).filter(|(_, listed)| !**listed).map(|(&logit, _)| exp(logit)).sum();
    let p = f64::from(rest);
    sum + p.exp() * (p - (others / total).ln())
}

impl Distance {
    fn measure(engine: &Engine, expected: &Expected) -> Self {
        let mut distance = Self::default();
        let mut session = engine.session().expect("session");
        for sequence in Sequence::all(expected) {
            session.rewind(0);
            let logits = pollster::block_on(session.logits(&sequence.ids)).expect("logits").logits;
            let (before, positions) = (distance.divergence, distance.positions);
            sequence.compare(&logits, sequence.ids.len(), &mut distance);
            let mean = (distance.divergence - before) / (distance.positions - positions) as f64;
            println!("{}: mean divergence {mean:.2e} over {} positions", sequence.name, sequence.ids.len());
        }
        distance
    }

    /// Whether the mean divergence is within `bound` and the likeliest tokens agree often enough,
    /// on at least this many `positions`.
    fn check(&self, bound: f64, agreement: f64, positions: usize) -> Result<(), String> {
        let mean = self.divergence / self.positions as f64;
        let agreeing = self.agreeing as f64 / self.positions as f64;
        let found = format!("mean divergence {mean:.2e}, the likeliest token agrees at {:.2} %", 100.0 * agreeing);
        println!("{found}");
        // A NaN is within no bound.
        if self.positions >= positions && mean <= bound && agreeing >= agreement { Ok(()) } else { Err(found) }
    }
}

fn engine(precision: Precision, chunk: usize) -> Option<Engine> {
    demo_model(Path::new(env!("CARGO_MANIFEST_DIR"))).map(|path| load(&path, precision, chunk))
}

fn expected() -> Expected {
    Expected::read(&golden("smollm2.safetensors"))
}

#[test]
fn exact_precision_is_the_reference() {
    let Some(engine) = engine(Precision::Exact, 128) else { return };
    Distance::measure(&engine, &expected()).check(1e-3, 0.99, 300).expect("the reference");
}

#[test]
fn fast_precision_is_close() {
    // Tokens that come one at a time are computed by other kernels.
    for chunk in [128, 1] {
        let Some(engine) = engine(Precision::Fast, chunk) else { return };
        println!("{}", engine.kernels());
        Distance::measure(&engine, &expected()).check(1e-2, 0.9, 300).expect("close to the reference");
    }
}

/// What the cache alone costs, and with it all that is fast.
#[test]
fn every_cache_is_close() {
    let Some(path) = demo_model(Path::new(env!("CARGO_MANIFEST_DIR"))) else { return };
    let cases = [
        (Precision::Exact, KvType::F16, 1e-5, 0.99),
        (Precision::Exact, KvType::Q8, 2e-3, 0.97),
        (Precision::Fast, KvType::Q8, 1e-2, 0.9),
    ];
    for (precision, kv, bound, agreement) in cases {
        // Tokens that come one at a time are appended and read by other kernels.
        for prefill_chunk in [128, 1] {
            println!("{precision:?}, {kv}, in chunks of {prefill_chunk}");
            let engine = load_with(
                &path,
                &EngineOptions { precision, kv: Some(kv), prefill_chunk: Some(prefill_chunk), ..EngineOptions::default() },
            );
            Distance::measure(&engine, &expected()).check(bound, agreement, 300).expect("close to the reference");
        }
    }
}

/// Whatever is chosen on another adapter: each kernel for one token, and each for several, at the begin of every sequence. Some
/// of them are slow here.
#[test]
fn every_choice_of_kernels_is_close() {
    const POSITIONS: usize = 24;
    let Some(path) = demo_model(Path::new(env!("CARGO_MANIFEST_DIR"))) else { return };
    let expected = expected();
    let mut seen = BTreeSet::new();
    for choice in KernelChoice::each(common::gpu().caps()) {
        let text = choice.to_string();
        let (one, several) = text.split_once("; ").expect("kernels for one token; for several");
        for (kernel, chunk) in [(one, 1), (several, POSITIONS)] {
            if seen.insert(kernel.to_owned()) {
                let engine = load_with_kernels(&path, Precision::Fast, chunk, choice);
                let mut distance = Distance::default();
                let mut session = engine.session().expect("session");
                for sequence in Sequence::all(&expected) {
                    session.rewind(0);
                    let logits = pollster::block_on(session.logits(&sequence.ids[..POSITIONS])).expect("logits").logits;
                    sequence.compare(&logits, POSITIONS, &mut distance);
                }
                println!("{kernel}");
                distance.check(1e-2, 0.9, 4 * POSITIONS).unwrap_or_else(|e| panic!("{kernel}: {e}"));
            }
        }
    }
    // What every device can run: five kernels for one token, what follows them by itself, and six for several, one of them with four
    // rows in a lane of attention.
    assert!(seen.len() >= 5 + 2 + 6, "{seen:?}");
}

#[test]
fn greedy_text_is_the_references() {
    let Some(engine) = engine(Precision::Exact, 128) else { return };
    let expected = expected();
    let mut session = engine.session().expect("session");
    for n in 0..5 {
        let prompt = expected.ids(&format!("greedy.{n}.prompt"));
        let ids = expected.ids(&format!("greedy.{n}.ids"));
        let margins = expected.floats(&format!("greedy.{n}.margins"));
        session.rewind(0);
        let mut sampler = Sampler::new(SamplingOptions::default()).expect("greedy");
        let mut input = prompt;
        for (step, (&id, &margin)) in ids.iter().zip(&margins).enumerate() {
            let next = pollster::block_on(session.next(&input, &mut sampler)).expect("next");
            if next != id {
                assert!(margin < CLEAR_MARGIN, "prompt {n}, token {step}: {next} for {id}, which leads by {margin}");
                println!("prompt {n} goes on differently from token {step}, which leads by only {margin}");
                break;
            }
            input = vec![next];
        }
    }
}

/// The measure is 0 for the reference itself and notices a wrong distribution; NaN is not within any bound.
#[test]
fn divergence_notices_what_is_wrong() {
    let probabilities = [0.5f32, 0.25, 0.125, 0.0625, 0.0625];
    let logits = probabilities.map(f32::ln);
    let (ids, logprobs, rest) = ([0, 1, 2], &logits[..3], 0.125f32.ln());
    assert!(divergence(&ids, logprobs, rest, &logits).abs() < 1e-6);
    // log-probabilities of the reference against a uniform distribution, by hand: ln 5 - H with the last two as one.
    let uniform = divergence(&ids, logprobs, rest, &[0.0; 5]);
    assert!((uniform - 0.309_787).abs() < 1e-4, "{uniform}");
    let mut wrong = logits;
    wrong[1] = f32::NAN;
    let wrong = divergence(&ids, logprobs, rest, &wrong);
    let check = |positions, divergence, agreeing| Distance { positions, divergence, agreeing }.check(1e-3, 0.99, 300);
    assert!(check(400, 0.1, 400).is_ok());
    assert!(check(400, 400.0 * wrong, 400).is_err());
    assert!(check(400, 0.0, 380).is_err(), "tokens that differ");
    assert!(check(4, 0.0, 4).is_err(), "too few positions");
}
