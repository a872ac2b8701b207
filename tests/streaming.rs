//! A model whose experts do not all fit computes what it computes when they do: bit for bit.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::http_server::Server;
use common::wide::top2_wide;
use common::{Expected, golden, gpu};
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::weights::{self, Checkpoint};
use moxel::{
    Engine, EngineOptions, EvictionPolicy, ExpertBudget, ExpertOptions, ExpertStats, PackOptions, Precision, Session, SyncMode,
};
use pollster::block_on;

const MODELS: [&str; 3] = ["scout", "maverick", "top2"];
const BUDGETS: [f64; 5] = [100.0, 75.0, 50.0, 25.0, 0.01];

fn load(path: &Path, precision: Precision, prefill_chunk: usize, experts: ExpertOptions) -> Engine {
    let options = EngineOptions { precision, prefill_chunk: Some(prefill_chunk), experts, ..EngineOptions::default() };
    Engine::load_path(&gpu(), path, &options, &mut |_| {}).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The golden model of this name as a packed one.
fn pack(name: &str) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("streaming").join(name);
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(out.parent().unwrap()).unwrap();
    let (source, entry) = weights::open_path(&golden(name)).unwrap();
    let checkpoint = block_on(Checkpoint::open(source, &entry)).unwrap();
    block_on(moxel::pack(&checkpoint, &out, &PackOptions::default(), &mut |_| ControlFlow::Continue(()))).unwrap();
    out
}

fn load_url(url: &str, prefill_chunk: usize, experts: ExpertOptions) -> Engine {
    let options =
        EngineOptions { precision: Precision::Exact, prefill_chunk: Some(prefill_chunk), experts, ..EngineOptions::default() };
    let (source, entry) = block_on(weights::open(Path::new(url), None)).unwrap();
    block_on(Engine::load(&gpu(), source, &entry, &options, &mut |_| {})).unwrap()
}

fn budget(percent: f64) -> ExpertOptions {
    ExpertOptions { budget: ExpertBudget::Percent(percent), ..ExpertOptions::default() }
}

fn stats(engine: &Engine) -> ExpertStats {
    engine.expert_stats().expect("a model with experts")
}

fn generate(session: &mut Session, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(SamplingOptions { temperature: 0.0, ..SamplingOptions::default() }).unwrap();
    let mut next = prompt.to_vec();
    (0..count)
        .map(|_| {
            let id = block_on(session.next(&next, &mut sampler)).unwrap();
            next = vec![id];
            id
        })
        .collect()
}

/// Tokens that are computed one by one.
const SINGLE: usize = 16;

/// Bits of the logits of a prompt in the engine's chunks, the ids that are generated then, and the bits of the logits of
/// the text's begin token by token.
fn outputs(engine: &Engine, prompt: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let bits = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let mut session = engine.session().unwrap();
    let mut all = bits(block_on(session.logits(prompt)).unwrap().logits);
    session.rewind(prompt.len() - 1);
    let ids = generate(&mut session, &prompt[prompt.len() - 1..], SINGLE);
    session.rewind(0);
    for token in prompt.iter().take(SINGLE) {
        all.extend(bits(block_on(session.logits(&[*token])).unwrap().logits));
    }
    (all, ids)
}

/// Packed or not, from a file or over HTTP: where experts come from changes nothing either.
#[test]
fn every_source_gives_the_same_bits() {
    let server = Server::new();
    for name in MODELS {
        let packed = pack(name);
        server.put_folder(&format!("/{name}"), &golden(name));
        server.put_folder(&format!("/packed/{name}"), &packed);
        let prompt = Expected::read(&golden(name).join("expected.safetensors")).ids("tokens");
        let whole = outputs(&load(&golden(name), Precision::Exact, 7, ExpertOptions::default()), &prompt);
        for percent in [100.0, 50.0, 0.01] {
            let experts = budget(percent);
            let engines = [
                ("packed", load(&packed, Precision::Exact, 7, experts)),
                ("over HTTP", load_url(&server.url(&format!("/{name}")), 7, experts)),
                ("packed over HTTP", load_url(&server.url(&format!("/packed/{name}")), 7, experts)),
            ];
            for (source, engine) in &engines {
                assert!(outputs(engine, &prompt) == whole, "{name} {source} at {percent} % differs");
                assert!(percent == 100.0 || stats(engine).misses > 0, "{name} {source} at {percent} % never missed");
            }
        }
    }
}

/// What is far away is not waited for: a token brings the experts that it chooses, and spare time the others.
#[test]
fn from_far_away_experts_come_when_they_are_chosen() {
    let server = Server::new();
    server.put_folder("/top2", &golden("top2"));
    let prompt = Expected::read(&golden("top2").join("expected.safetensors")).ids("tokens");
    let near = load(&golden("top2"), Precision::Exact, 7, ExpertOptions::default());
    let far = load_url(&server.url("/top2"), 7, ExpertOptions::default());
    let here = |engine: &Engine| engine.resident_experts().unwrap().concat().into_iter().filter(|there| *there).count();
    let all = near.expert_plan().unwrap().experts();
    assert_eq!((here(&near), here(&far)), (all, 0));
    let mut session = far.session().unwrap();
    generate(&mut session, &prompt[..1], 1);
    assert!((1..all).contains(&here(&far)), "{} of {all} after one token", here(&far));
    while block_on(far.load_experts()).unwrap() {}
    assert_eq!(here(&far), all);
    assert!(outputs(&far, &prompt) == outputs(&near, &prompt));

    let small = load_url(&server.url("/top2"), 7, budget(50.0));
    assert!(!block_on(small.load_experts()).unwrap(), "which half is for tokens to say");
    assert_eq!(here(&small), 0);
}

/// Runs a model with and without room for all of its experts.
fn check(name: &str, precision: Precision, chunk: usize, options: &[ExpertOptions]) {
    check_at(&golden(name), name, precision, chunk, options);
}

/// The same of a model at this path with the golden's prompt.
fn check_at(path: &Path, name: &str, precision: Precision, chunk: usize, options: &[ExpertOptions]) {
    let prompt = Expected::read(&golden(name).join("expected.safetensors")).ids("tokens");
    let whole = outputs(&load(path, precision, chunk, ExpertOptions::default()), &prompt);
    for experts in options {
        let engine = load(path, precision, chunk, *experts);
        assert!(outputs(&engine, &prompt) == whole, "{name} in chunks of {chunk} with {experts:?} differs");
        let stats = stats(&engine);
        assert!(stats.slots <= stats.experts);
        if stats.slots < stats.experts {
            assert!(stats.misses > 0 && stats.hits > 0 && stats.stalled_layers > 0, "{name} {experts:?}: {stats:?}");
            assert!(stats.prefill.loads > 0 || chunk == 1, "{name} {experts:?}: {stats:?}");
        } else {
            assert_eq!((stats.misses, stats.stalled_layers), (0, 0));
        }
    }
}

#[test]
fn every_budget_gives_the_same_bits() {
    for name in MODELS {
        check(name, Precision::Exact, 7, &BUDGETS.map(budget));
        check(name, Precision::Fast, 128, &[budget(25.0)]);
    }
}

/// Experts of the goldens are too narrow for the kernels that do the activation or the sum too.
#[test]
fn kernels_that_do_more_give_the_same_bits() {
    let wide = top2_wide();
    for precision in [Precision::Exact, Precision::Fast] {
        check_at(wide, "top2", precision, 7, &BUDGETS.map(budget));
    }
    let token = |sync| ExpertOptions { sync, ..budget(50.0) };
    check_at(wide, "top2", Precision::Fast, 1, &[SyncMode::Token, SyncMode::Segment, SyncMode::Layer].map(token));
}

#[test]
fn every_way_to_stream_gives_the_same_bits() {
    let mut ways = Vec::new();
    for sync in [SyncMode::Auto, SyncMode::Token, SyncMode::Segment, SyncMode::Layer] {
        for policy in [EvictionPolicy::Score, EvictionPolicy::Lru] {
            for prefetch in [true, false] {
                ways.push(ExpertOptions { budget: ExpertBudget::Percent(50.0), policy, prefetch, sync });
            }
        }
    }
    for name in MODELS {
        check(name, Precision::Exact, 7, &ways);
    }
}
