//! What a token costs besides arithmetic, counted from the recorded commands: kernels, submissions, read-backs, bytes of weights.

mod common;

use std::path::Path;

use common::wide::top2_wide;
use common::{golden, load};
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{Counters, Precision, Session};

/// Embedding, the first norm, head and greedy choice.
const ENDS: u64 = 4;

/// The work of one more token.
fn one_token(session: &mut Session) -> Counters {
    let mut sampler = Sampler::new(SamplingOptions::default()).expect("greedy");
    let next = pollster::block_on(session.next(&[1, 2, 3], &mut sampler)).expect("next");
    let before = session.counters();
    pollster::block_on(session.next(&[next], &mut sampler)).expect("next");
    let after = session.counters();
    Counters {
        dispatches: after.dispatches - before.dispatches,
        submits: after.submits - before.submits,
        readbacks: after.readbacks - before.readbacks,
        weight_bytes: after.weight_bytes - before.weight_bytes,
    }
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

/// Attention over a cache that has room for more keys than one workgroup computes is merged by a kernel of its own, wherever in the
/// cache the token is.
#[test]
fn a_long_cache_takes_another_kernel_for_each_layer() {
    let folder = std::env::temp_dir().join(format!("moxel-long-cache-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let short = golden("llama_tied");
    let config = std::fs::read_to_string(short.join("config.json")).expect("config.json");
    let longer = config.replace("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 1024");
    assert_ne!(config, longer);
    std::fs::write(folder.join("config.json"), longer).expect("config.json");
    std::fs::copy(short.join("model.safetensors"), folder.join("model.safetensors")).expect("model.safetensors");
    let engine = load(&folder, Precision::Exact, 128);
    std::fs::remove_dir_all(&folder).expect("the folder");
    let work = one_token(&mut engine.session().expect("session"));
    assert_eq!((work.dispatches, work.submits, work.readbacks), (6 * 3 + ENDS, 1, 1));
}

/// The goldens' experts are too narrow for the kernels of which a layer takes eight: what streaming and exactness are tested on has to be
/// wide enough.
#[test]
fn wide_experts_take_fewer_kernels() {
    let count = |path: &Path| one_token(&mut load(path, Precision::Exact, 128).session().expect("session")).dispatches;
    let (narrow, wide) = (count(&golden("top2")), count(top2_wide()));
    // Three layers, each with the activation of two products and the sum of one.
    assert!(wide + 3 * 2 <= narrow, "{wide} against {narrow}");
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
