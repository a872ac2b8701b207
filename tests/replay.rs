//! The cache's decisions on recorded texts: better than LRU, and a good part of the way to the best that there is.

mod common;

use std::path::Path;

use common::{Expected, golden, gpu};
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{
    Engine, EngineOptions, EvictionPolicy, ExpertBudget, ExpertOptions, ReplayPolicy, ReplayResult, Routing, Trace, TraceLayer,
    TraceToken, replay,
};

/// Of the demo mixture; `benches/traces/README.md` says how they were made.
const TRACES: [&str; 4] = ["chat", "story", "code", "switch"];
const BUDGETS: [f64; 4] = [25.0, 37.5, 50.0, 75.0];

fn read(name: &str) -> Trace {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/traces").join(name).with_extension("jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Trace::parse(&path.display().to_string(), &text).unwrap()
}

fn run(trace: &Trace, percent: f64, policy: ReplayPolicy) -> ReplayResult {
    replay(trace, ExpertBudget::Percent(percent), policy).unwrap()
}

#[test]
fn recorded_texts_are_streamed_better_than_by_lru() {
    let traces = TRACES.map(read);
    assert!(traces.iter().map(|trace| trace.tokens().len()).sum::<usize>() > 7000);
    for percent in BUDGETS {
        let each = |policy| traces.each_ref().map(|trace| run(trace, percent, policy));
        let (lru, score, belady) = (each(ReplayPolicy::Lru), each(ReplayPolicy::Score), each(ReplayPolicy::Belady));
        let ahead = each(ReplayPolicy::ScoreAhead);
        for (i, name) in TRACES.iter().enumerate() {
            let rates = [&lru, &score, &belady].map(|results| results[i].hit_rate());
            assert!(rates.is_sorted(), "{name} at {percent} %: LRU, score, Belady {rates:?}");
            assert!(ahead[i].stalled_layers < score[i].stalled_layers, "{name} at {percent} %: loading ahead costs stalls");
        }
        let [lru, score, ahead, belady] = [lru, score, ahead, belady].map(|of| of.into_iter().sum::<ReplayResult>());
        let closed = score.gap_closed(&lru, &belady).unwrap();
        assert!(closed > if percent <= 50.0 { 0.4 } else { 0.2 }, "{closed} of the gap at {percent} %");
        let (useful, wasted) = (ahead.ahead_useful as f64, ahead.ahead_wasted as f64);
        assert!(useful > 0.0 && wasted <= 0.25 * useful, "{wasted} wasted for {useful} at {percent} %");
        let avoided = 1.0 - ahead.stalled_layers as f64 / score.stalled_layers as f64;
        assert!(avoided > if percent <= 50.0 { 0.3 } else { 0.05 }, "{avoided} of the stalls avoided at {percent} %");
    }
}

/// Belady's own example: pages in one set. Three slots, the reference string of operating systems' textbooks.
#[test]
fn known_strings_have_their_known_faults() {
    let layers = vec![TraceLayer { layer: 0, experts: 8, bytes: 1 }];
    let mut trace = Trace::new("textbook", 1, layers).unwrap();
    for page in [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1] {
        trace.push(TraceToken { id: page, prompt: None, chosen: vec![page] }).unwrap();
    }
    let faults = |policy| replay(&trace, ExpertBudget::Bytes(3), policy).unwrap().misses;
    assert_eq!((faults(ReplayPolicy::Lru), faults(ReplayPolicy::Belady)), (12, 9));
}

/// Four tokens whose routing never changes, in turn, on fewer slots than they need.
#[test]
fn what_repeats_is_loaded_before_it_is_asked_for() {
    let layers = (0..4).map(|layer| TraceLayer { layer, experts: 8, bytes: 10 }).collect();
    let mut trace = Trace::new("loop", 1, layers).unwrap();
    for i in 0..400 {
        let token = i % 4;
        trace.push(TraceToken { id: token, prompt: None, chosen: vec![token; 4] }).unwrap();
    }
    let score = run(&trace, 25.0, ReplayPolicy::Score);
    let ahead = run(&trace, 25.0, ReplayPolicy::ScoreAhead);
    assert_eq!((score.slots, score.experts, score.tokens), (8, 32, 400));
    assert!(ahead.stalled_layers * 4 < score.stalled_layers, "{ahead:?}");
    assert_eq!(score.ahead_loads, 0);
}

/// Whatever chooses at random cannot be foreseen.
#[test]
fn chance_switches_loading_ahead_off() {
    let layers = (0..6).map(|layer| TraceLayer { layer, experts: 8, bytes: 10 }).collect();
    let mut trace = Trace::new("dice", 1, layers).unwrap();
    let mut state = 1u64;
    let mut dice = move |sides: u32| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32 % sides
    };
    for _ in 0..2000 {
        let chosen = (0..6).map(|_| dice(8)).collect();
        trace.push(TraceToken { id: dice(50), prompt: None, chosen }).unwrap();
    }
    let result = run(&trace, 50.0, ReplayPolicy::ScoreAhead);
    assert!(result.ahead_loads < result.misses / 10, "{result:?}");
    assert!((0.4..0.6).contains(&result.hit_rate()), "random routing hits what is there: {result:?}");
}

#[test]
fn a_prompt_passes_through_and_counts_for_nothing() {
    let layers = (0..2).map(|layer| TraceLayer { layer, experts: 16, bytes: 1 << 20 }).collect();
    let mut trace = Trace::new("prompt", 1, layers).unwrap();
    for at in 0..16 {
        trace.push(TraceToken { id: 1, prompt: Some(at), chosen: vec![at as u32; 2] }).unwrap();
    }
    trace.push(TraceToken { id: 2, prompt: None, chosen: vec![0, 0] }).unwrap();
    let result = run(&trace, 50.0, ReplayPolicy::Score);
    assert_eq!((result.tokens, result.hits + result.misses, result.prompt_loads), (1, 2, 32));
    assert_eq!(run(&trace, 100.0, ReplayPolicy::Score).misses, 0, "what has room stays");
    assert!(replay(&trace, ExpertBudget::Bytes(1), ReplayPolicy::Lru).unwrap_err().to_string().contains("the least that works"));
}

/// What a replay says of an engine's own trace is what the engine counted.
#[test]
fn a_replay_repeats_what_an_engine_did() {
    for (name, percent, eviction, prefetch, policy) in [
        ("scout", 60.0, EvictionPolicy::Lru, false, ReplayPolicy::Lru),
        ("maverick", 25.0, EvictionPolicy::Score, false, ReplayPolicy::Score),
        ("maverick", 40.0, EvictionPolicy::Score, true, ReplayPolicy::ScoreAhead),
        ("top2", 50.0, EvictionPolicy::Score, true, ReplayPolicy::ScoreAhead),
    ] {
        let budget = ExpertBudget::Percent(percent);
        let experts = ExpertOptions { budget, policy: eviction, prefetch, ..ExpertOptions::default() };
        let options = EngineOptions { experts, prefill_chunk: Some(16), ..EngineOptions::default() };
        let path = golden(name);
        let engine = Engine::load_path(&gpu(), &path, &options, &mut |_| {}).unwrap();
        let prompt = &Expected::read(&path.join("expected.safetensors")).ids("tokens")[..41];
        let mut sampler = Sampler::new(SamplingOptions { temperature: 0.0, ..SamplingOptions::default() }).unwrap();
        let (mut session, mut tokens) = (engine.session().unwrap(), prompt.to_vec());
        engine.start_trace(name).unwrap();
        for _ in 0..60 {
            tokens = vec![pollster::block_on(session.next(&tokens, &mut sampler)).unwrap()];
        }
        let trace = engine.take_trace().unwrap();
        assert_eq!(engine.take_trace(), None);
        let stats = engine.expert_stats().unwrap();
        assert!(stats.misses > 0 && stats.prefill.loads > 0);

        let result = replay(&trace, budget, policy).unwrap();
        let bytes = trace.layers()[0].bytes;
        assert_eq!((result.slots, result.experts, result.tokens), (stats.slots, stats.experts, stats.tokens), "{name}");
        assert_eq!(
            (result.hits, result.misses, result.stalled_layers, result.prompt_loads),
            (stats.hits, stats.misses, stats.stalled_layers, stats.prefill.loads),
            "{name} {policy:?}"
        );
        assert_eq!(
            (bytes * result.ahead_useful, bytes * result.ahead_wasted),
            (stats.speculative_useful_bytes, stats.speculative_wasted_bytes),
            "{name} {policy:?}"
        );
        assert!(prefetch == (result.ahead_loads > 0), "{name} {policy:?}: {result:?}");

        // The routing is that which the session hands out.
        assert_eq!(trace.tokens().iter().map(|token| token.id).take(41).collect::<Vec<_>>(), prompt);
        assert_eq!(trace.tokens().iter().filter(|token| token.prompt.is_some()).count(), 41, "chunks of 16, 16 and 9");
        session.rewind(0);
        let routing = pollster::block_on(session.logits(prompt)).unwrap().routing;
        for (t, token) in trace.tokens().iter().take(41).enumerate() {
            let of_layer = |layer: &Routing| layer.ids[t * trace.k()..(t + 1) * trace.k()].to_vec();
            assert_eq!(token.chosen, routing.iter().flat_map(of_layer).collect::<Vec<_>>(), "{name}, token {t}");
        }
    }
}
