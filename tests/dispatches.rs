//! What a token costs besides arithmetic, counted from the recorded commands: kernels, submissions, read-backs, bytes of weights; and
//! that it makes nothing that the one before it had made.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::wide::top2_wide;
use common::{golden, gpu, load};
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{Continuation, Counters, Engine, EngineOptions, ExpertBudget, ExpertOptions, Gpu, GpuOptions, Precision, Session};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Embedding, the first norm, head and greedy choice.
const ENDS: u64 = 4;

/// The work of one more token.
fn one_token(session: &mut Session) -> Counters {
    one_token_at(session, 3)
}

/// The work of the token at a position.
fn one_token_at(session: &mut Session, position: usize) -> Counters {
    let mut sampler = Sampler::new(SamplingOptions::default()).expect("greedy");
    session.rewind(0);
    let next = pollster::block_on(session.next(&vec![1; position], &mut sampler)).expect("next");
    let before = session.counters();
    pollster::block_on(session.next(&[next], &mut sampler)).expect("next");
    let after = session.counters();
    after - before
}

/// q, k and v; attention; output and residual; gate, up and activation; down and residual. `native-demo/tests/made_models.rs`
/// counts a mixture of experts.
#[test]
fn a_dense_layer_is_five_kernels() {
    for precision in [Precision::Exact, Precision::Fast] {
        let engine = load(&golden("llama_tied"), precision, 128);
        let work = one_token(&mut engine.session().expect("session"));
        assert_eq!((work.dispatches, work.submits, work.readbacks), (5 * 3 + ENDS, 1, 1), "{precision:?}");
    }
}

/// A model with room for more keys than one workgroup of attention computes.
fn with_long_cache(gpu: &Arc<Gpu>, test: &str) -> Session {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).expect("a folder");
    let short = golden("llama_tied");
    let config = std::fs::read_to_string(short.join("config.json")).expect("config.json");
    let longer = config.replace("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 2048");
    assert_ne!(config, longer);
    std::fs::write(folder.join("config.json"), longer).expect("config.json");
    std::fs::copy(short.join("model.safetensors"), folder.join("model.safetensors")).expect("model.safetensors");
    // Larger chunks of a prompt would come with buffers of their own, whenever the adapter is found to be fast.
    let options = EngineOptions { precision: Precision::Exact, prefill_chunk: Some(128), ..EngineOptions::default() };
    Engine::load_path(gpu, &folder, &options, &mut |_| {}).expect("a model").session().expect("session")
}

/// A token that finds more keys in the cache than one workgroup computes takes another kernel for each layer, which merges what several
/// have found; how many there is room for does not matter.
#[test]
fn many_keys_take_another_kernel_for_each_layer() {
    let mut session = with_long_cache(&gpu(), "many_keys_take_another_kernel_for_each_layer");
    for (position, kernels) in [(3, 5), (513, 5), (1024, 5), (1025, 6), (1900, 6), (4, 5)] {
        let work = one_token_at(&mut session, position);
        assert_eq!((work.dispatches, work.submits, work.readbacks), (kernels * 3 + ENDS, 1, 1), "position {position}");
    }
}

/// The position decides which of the two is submitted, also where the next token is submitted before the last one was read.
#[test]
fn running_ahead_changes_kernels_at_the_same_position() {
    let mut session = with_long_cache(&gpu(), "running_ahead_changes_kernels_at_the_same_position");
    let greedy = || Sampler::new(SamplingOptions::default()).expect("greedy");
    let text: Vec<u32> = (0..1020).map(|i| 1 + i % 200).collect();
    let mut ids = vec![pollster::block_on(session.next(&text, &mut greedy())).expect("next")];
    let before = session.counters().dispatches;
    while ids.len() < 9 {
        ids.push(pollster::block_on(session.next(&ids[ids.len() - 1..], &mut greedy())).expect("next"));
    }
    // Positions 1020 to 1024, and 1025 to 1027.
    let dispatches = 5 * (5 * 3 + ENDS) + 3 * (6 * 3 + ENDS);
    assert_eq!(session.counters().dispatches - before, dispatches);

    session.rewind(0);
    let mut continuation = session.continuation(&text, greedy(), ids.len()).expect("a continuation");
    let next = |c: &mut Continuation<'_>| pollster::block_on(c.next_id()).expect("an id").expect("one more");
    let mut again = vec![next(&mut continuation)];
    let before = continuation.session().counters().dispatches;
    again.extend(ids[1..].iter().map(|_| next(&mut continuation)));
    assert_eq!(again, ids);
    assert_eq!(continuation.session().counters().dispatches - before, dispatches);
}

/// `top2_wide` with the shared expert in another format than the others.
fn with_another_shared_expert() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("with_another_shared_expert");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(top2_wide().join("config.json"), folder.join("config.json")).expect("config.json");
    let file = std::fs::read(top2_wide().join("model.safetensors")).expect("model.safetensors");
    let model = SafeTensors::deserialize(&file).expect("safetensors");
    let halves = |bytes: &[u8]| -> Vec<u8> {
        let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        floats.flat_map(|float| half::f16::from_f32(float).to_le_bytes()).collect()
    };
    let stored = |(name, tensor): (&str, TensorView<'_>)| match name.contains("shared_expert") {
        true => (name.to_owned(), Dtype::F16, tensor.shape().to_vec(), halves(tensor.data())),
        false => (name.to_owned(), tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()),
    };
    let tensors: Vec<_> = model.iter().map(stored).collect();
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor")));
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).expect("model.safetensors");
    folder
}

/// The goldens' experts are too narrow for the kernels that do several things at once: what streaming and exactness are tested on has to
/// be wide enough. An expert that every token passes is one of the others to these kernels, unless its format is another.
#[test]
fn wide_experts_take_fewer_kernels() {
    let count = |path: &Path| one_token(&mut load(path, Precision::Exact, 128).session().expect("session")).dispatches;
    let (narrow, apart, together) = (count(&golden("top2")), count(&with_another_shared_expert()), count(top2_wide()));
    // Three layers, each with the activation of two products and the sum of one; then with two products of the shared expert.
    assert!(apart + 3 * 2 <= narrow, "{apart} against {narrow}");
    assert_eq!(together + 3 * 2, apart);
}

/// A token reads each weight once, in the size that it has in the file: the embedding as the head. `native-demo/tests/made_models.rs`
/// has the same for experts in 4 bits.
#[test]
fn no_weight_is_read_twice_or_widened() {
    for precision in [Precision::Exact, Precision::Fast] {
        let engine = load(&golden("llama_tied"), precision, 128);
        let read = one_token(&mut engine.session().expect("session")).weight_bytes as f64;
        let ratio = read / engine.info().weight_bytes as f64;
        assert!((1.0..=1.05).contains(&ratio), "{precision:?}: {ratio}");
    }
}

/// Biases keep a layer's kernels apart, and a count that is too low is noticed.
#[test]
fn biases_are_kernels_of_their_own() {
    let engine = load(&golden("llama_bias"), Precision::Exact, 128);
    let work = one_token(&mut engine.session().expect("session"));
    assert!(work.dispatches > 5 * 2 + ENDS, "{work:?}");
}

/// What is made on a device while `count` tokens are chosen and computed, each submitted alone or before the last one was read.
fn made_by(session: &mut Session, options: &SamplingOptions, ahead: bool, count: usize) -> u64 {
    let mut sampler = Sampler::new(options.clone()).expect("options");
    let before = session.gpu().objects_made();
    let mut input = vec![5];
    if ahead {
        let mut continuation = session.continuation(&input, sampler, count).expect("a continuation");
        while pollster::block_on(continuation.next_id()).expect("an id").is_some() {}
    } else {
        for _ in 0..count {
            input = vec![pollster::block_on(session.next(&input, &mut sampler)).expect("an id")];
        }
    }
    session.gpu().objects_made() - before
}

/// Then nobody compiles it any more, while something else is counted.
fn use_what_is_compiled_ahead(session: &mut Session, chunk: usize) {
    for temperature in [0.0, 0.9] {
        session.rewind(0);
        let mut sampler = Sampler::new(SamplingOptions { temperature, ..SamplingOptions::default() }).expect("options");
        for tokens in [vec![5; chunk], vec![5]] {
            pollster::block_on(session.next(&tokens, &mut sampler)).expect("an id");
        }
    }
    session.rewind(0);
}

/// Other tests make objects too.
fn fresh_gpu() -> Arc<Gpu> {
    pollster::block_on(Gpu::new(&GpuOptions::default())).expect("an adapter")
}

/// However it is chosen, and also where its experts have to be loaded first.
#[test]
fn no_token_makes_buffers_bind_groups_or_pipelines() {
    let gpu = fresh_gpu();
    let sampled = SamplingOptions { temperature: 0.9, seed: Some(1), repeat_penalty: 1.3, ..SamplingOptions::default() };
    // By all logits: more tokens are penalised than the GPU compares.
    let by_the_cpu = SamplingOptions { repeat_last_n: 1000, ..sampled.clone() };
    let models =
        [(golden("llama_tied"), 100.0), (top2_wide().to_owned(), 100.0), (top2_wide().to_owned(), 50.0), (golden("scout"), 0.01)];
    for (path, percent) in models {
        let experts = ExpertOptions { budget: ExpertBudget::Percent(percent), ..ExpertOptions::default() };
        let options = EngineOptions { precision: Precision::Exact, experts, ..EngineOptions::default() };
        let engine = Engine::load_path(&gpu, &path, &options, &mut |_| {}).expect("a model");
        let mut session = engine.session().expect("a session");
        use_what_is_compiled_ahead(&mut session, options.first_chunk());
        for (options, ahead) in [
            (&sampled, true),
            (&sampled, false),
            (&by_the_cpu, false),
            (&SamplingOptions::default(), true),
            (&SamplingOptions::default(), false),
        ] {
            let first = made_by(&mut session, options, ahead, 2);
            let made = made_by(&mut session, options, ahead, 20);
            assert_eq!(made, 0, "{}, {percent} %, {options:?}, ahead: {ahead}, first {first}", path.display());
        }
        if let Some(stats) = engine.expert_stats().filter(|_| percent < 100.0) {
            assert!(stats.misses > stats.slots as u64, "hardly an expert left again: {stats:?}");
        }
    }
}

/// The first token behind 512 others is recorded for more keys, which is done then and stays, whatever is computed between.
#[test]
fn what_is_made_later_is_counted_and_kept() {
    let mut session = with_long_cache(&fresh_gpu(), "what_is_made_later_is_counted_and_kept");
    use_what_is_compiled_ahead(&mut session, 128);
    let mut made_at = |position: usize| {
        session.rewind(0);
        pollster::block_on(session.prefill(&vec![1; position])).expect("room");
        made_by(&mut session, &SamplingOptions::default(), false, 1)
    };
    assert_eq!(made_at(510), 0);
    assert!(made_at(600) > 0, "the counter does not count");
    assert_eq!([made_at(700), made_at(3), made_at(513)], [0, 0, 0]);
}
