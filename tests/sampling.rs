//! Tokens chosen on the GPU and read behind are those that the CPU would choose one by one, and what is computed in vain is not seen.

mod common;

use std::path::Path;

use common::{golden, gpu, load};
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{Engine, EngineOptions, ExpertBudget, ExpertOptions, Precision, Session};

const PROMPT: [u32; 11] = [3, 141, 59, 26, 35, 89, 79, 323, 84, 426, 433];

fn sampler(options: &SamplingOptions) -> Sampler {
    Sampler::new(options.clone()).expect("options")
}

fn hot(seed: u64) -> SamplingOptions {
    SamplingOptions { temperature: 0.9, seed: Some(seed), ..SamplingOptions::default() }
}

/// Greedy, and with every option.
fn options() -> Vec<SamplingOptions> {
    vec![
        SamplingOptions::default(),
        SamplingOptions { repeat_penalty: 1.5, ..SamplingOptions::default() },
        hot(1),
        SamplingOptions { top_k: 40, top_p: 0.95, ..hot(2) },
        SamplingOptions { top_p: 0.7, repeat_penalty: 1.3, repeat_last_n: 4, ..hot(3) },
        SamplingOptions { min_p: 0.3, repeat_penalty: 1.3, ..hot(4) },
        // More tokens than the GPU compares.
        SamplingOptions { top_k: 7, repeat_penalty: 1.3, repeat_last_n: 1000, ..hot(5) },
    ]
}

fn streamed(path: &Path, budget: ExpertBudget) -> Engine {
    let experts = ExpertOptions { budget, ..ExpertOptions::default() };
    let options = EngineOptions { precision: Precision::Exact, prefill_chunk: Some(4), experts, ..EngineOptions::default() };
    Engine::load_path(&gpu(), path, &options, &mut |_| {}).expect("a model")
}

/// One by one, by all logits.
fn chosen_by_the_cpu(engine: &Engine, options: &SamplingOptions, count: usize) -> Vec<u32> {
    let (mut session, mut sampler) = (engine.session().expect("a session"), sampler(options));
    let mut ids = PROMPT.to_vec();
    while ids.len() < PROMPT.len() + count {
        let logits = pollster::block_on(session.logits(&ids[session.tokens().len()..])).expect("logits").logits;
        let mut last = logits[logits.len() - engine.info().vocab..].to_vec();
        ids.push(sampler.sample(&mut last, &ids).expect("a token"));
    }
    ids.split_off(PROMPT.len())
}

fn continued(session: &mut Session, tokens: &[u32], options: &SamplingOptions, count: usize) -> Vec<u32> {
    let mut continuation = session.continuation(tokens, sampler(options), count).expect("a continuation");
    pollster::block_on(async {
        let mut ids = Vec::new();
        while let Some(id) = continuation.next_id().await.expect("an id") {
            ids.push(id);
        }
        ids
    })
}

fn one_by_one(session: &mut Session, tokens: &[u32], options: &SamplingOptions, count: usize) -> Vec<u32> {
    let mut sampler = sampler(options);
    let mut input = tokens.to_vec();
    let mut next = || {
        let id = pollster::block_on(session.next(&input, &mut sampler)).expect("an id");
        input = vec![id];
        id
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn the_gpu_chooses_what_the_cpu_would() {
    let experts = golden("scout");
    let engines = [
        load(&golden("llama_tied"), Precision::Exact, 4),
        streamed(&experts, ExpertBudget::Percent(100.0)),
        streamed(&experts, ExpertBudget::Percent(50.0)),
    ];
    for (number, engine) in engines.iter().enumerate() {
        let mut all = Vec::new();
        for options in options() {
            let expected = chosen_by_the_cpu(engine, &options, 24);
            let (mut a, mut b) = (engine.session().expect("a session"), engine.session().expect("a session"));
            assert_eq!(continued(&mut a, &PROMPT, &options, 24), expected, "engine {number}: {options:?}");
            assert_eq!(one_by_one(&mut b, &PROMPT, &options, 24), expected, "engine {number}: {options:?}");
            assert_eq!(a.tokens(), b.tokens());
            all.push(expected);
        }
        all.sort();
        all.dedup();
        assert!(all.len() > 5, "options that change nothing show nothing");
    }
}

/// An id was asked for, its successor's pass submitted, and then everything changes.
#[test]
fn what_was_submitted_in_vain_leaves_no_trace() {
    for engine in [load(&golden("llama_tied"), Precision::Fast, 128), streamed(&golden("scout"), ExpertBudget::Percent(100.0))] {
        let mut session = engine.session().expect("a session");
        let begun = |session: &mut Session, options: &SamplingOptions, ids: usize| {
            let mut continuation = session.continuation(&PROMPT, sampler(options), 20).expect("a continuation");
            let ids = (0..ids).map(|_| pollster::block_on(continuation.next_id()).expect("an id").expect("20 of them"));
            ids.collect::<Vec<u32>>()
        };
        let fresh = |tokens: &[u32]| continued(&mut engine.session().expect("a session"), tokens, &hot(9), 12);
        for given_up_after in [1, 2, 5] {
            let ids = begun(&mut session, &hot(8), given_up_after);
            let held = [&PROMPT[..], &ids[..ids.len() - 1]].concat();
            assert_eq!(session.tokens(), held);
            // With the id, as if it had been said; then another id.
            for last in [ids[ids.len() - 1], 77] {
                session.rewind(held.len());
                let expected = fresh(&[&held[..], &[last]].concat());
                assert_eq!(continued(&mut session, &[last], &hot(9), 12), expected, "after {given_up_after}");
            }
            session.rewind(0);
        }
    }
}

#[test]
fn a_full_context_ends_it() {
    let options = EngineOptions { context: Some(14), ..EngineOptions::default() };
    let engine = Engine::load_path(&gpu(), &golden("llama_tied"), &options, &mut |_| {}).expect("a model");
    let mut session = engine.session().expect("a session");
    // The id that follows the last position need not be computed.
    assert_eq!(continued(&mut session, &PROMPT, &hot(1), 20).len(), 4);
    assert_eq!(session.tokens().len(), 14);
    session.rewind(0);
    assert!(session.continuation(&[], sampler(&hot(1)), 1).is_err());
    assert!(session.continuation(&[1; 15], sampler(&hot(1)), 1).is_err());
    assert!(continued(&mut session, &PROMPT, &hot(1), 0).is_empty());
}

#[test]
fn an_id_is_one_submission_and_one_readback() {
    let engine = load(&golden("llama_tied"), Precision::Fast, 128);
    let mut work = Vec::new();
    for options in [SamplingOptions::default(), SamplingOptions { top_p: 0.9, repeat_penalty: 1.2, ..hot(3) }] {
        let mut session = engine.session().expect("a session");
        let mut continuation = session.continuation(&PROMPT, sampler(&options), 9).expect("a continuation");
        pollster::block_on(continuation.next_id()).expect("an id");
        let mut before = continuation.session().counters();
        for _ in 1..9 {
            pollster::block_on(continuation.next_id()).expect("an id");
            let after = continuation.session().counters();
            let one = after - before;
            assert_eq!((one.submits, one.readbacks), (1, 1));
            work.push(one);
            before = after;
        }
    }
    assert!(work.iter().all(|one| *one == work[0]), "{work:?}");
}

/// As many pieces as layers at first, later what the time asks for: the bits are the same.
#[test]
fn a_prompt_is_submitted_in_pieces() {
    let engine = load(&golden("llama_tied"), Precision::Exact, 16);
    let layers = 3;
    let run = || {
        let mut session = engine.session().expect("a session");
        pollster::block_on(session.prefill(&PROMPT)).expect("room");
        let work = session.counters();
        (work, pollster::block_on(session.logits(&[5, 6])).expect("logits").logits)
    };
    let (first, expected) = run();
    assert_eq!((first.submits, first.readbacks), (layers, 1));
    for _ in 0..3 {
        let (work, logits) = run();
        assert_eq!((work.dispatches, work.readbacks), (first.dispatches, 1));
        assert!(logits.iter().map(|l| l.to_bits()).eq(expected.iter().map(|l| l.to_bits())));
    }
}
