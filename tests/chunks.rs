//! In how large chunks a prompt is computed changes no bit of what comes out: it may follow from how fast an adapter is.

mod common;

use std::path::Path;

use common::wide::top2_wide;
use common::{golden, gpu, load_with};
use moxel::{EngineOptions, KernelChoice, Precision, Tuning};
use pollster::block_on;

/// No chunk of 7, 128 or 512 of them is a single token.
const TOKENS: u32 = 300;

fn bits(path: &Path, kernels: KernelChoice, chunk: usize, tokens: &[u32]) -> Vec<u32> {
    let (precision, tuning) = (Precision::Fast, Tuning::Known(kernels));
    let engine = load_with(path, &EngineOptions { precision, tuning, prefill_chunk: Some(chunk), ..EngineOptions::default() });
    let mut session = engine.session().expect("a session");
    block_on(session.prefill(tokens)).expect("room");
    block_on(session.logits(&[5])).expect("logits").logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_chunk_size_gives_the_same_bits() {
    let tokens: Vec<u32> = (0..TOKENS).map(|i| (i * 31 + 5) % 200).collect();
    let models = [golden("llama_tied"), golden("llama_quants").join("model.gguf"), golden("scout"), top2_wide().to_owned()];
    for path in models {
        // The kernels of a single token are not what differs.
        let of_prompts = |kernels: &KernelChoice| kernels.to_string().starts_with("matvec: rows, f32, fused");
        let each: Vec<_> = KernelChoice::each(gpu().caps()).into_iter().filter(of_prompts).collect();
        for &kernels in &each {
            let (many, few) = (bits(&path, kernels, 512, &tokens), bits(&path, kernels, 128, &tokens));
            assert!(many == few, "{} by {kernels}", path.display());
        }
        let few = |tokens| bits(&path, each[0], 7, tokens);
        assert!(few(&tokens) == bits(&path, each[0], 512, &tokens), "{}", path.display());
        assert!(few(&tokens) != few(&tokens[1..]), "another prompt goes unnoticed");
    }
}
