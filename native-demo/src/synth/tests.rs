use moxel::weights::Checkpoint;
use moxel::{Engine, EngineOptions, Gpu, GpuOptions, ModelInfo, Precision};
use pollster::block_on;

use super::random::Stream;
use super::*;

const SMALL: (usize, usize, usize, usize, u64) = (4, 16, 2, 512, 100_000);

fn small() -> Size {
    let (layers, experts, chosen, hidden, expert_bytes) = SMALL;
    Size::new(layers, experts, chosen, hidden, expert_bytes)
}

fn checkpoint(size: Size, seed: u64) -> Checkpoint {
    block_on(Checkpoint::open(source(size, seed), ENTRY)).expect("a checkpoint")
}

/// A model is as large as it was asked for. Only its header is made here.
#[test]
fn sizes_are_those_asked_for() {
    let info = ModelInfo::new(&checkpoint(Size::new(12, 64, 2, 1024, 8_000_000), 0)).expect("a model");
    assert_eq!((info.layers, info.experts, info.experts_per_token, info.hidden), (12, 64, 2, 1024));
    assert_eq!(info.moe_layers, (0..12).collect::<Vec<_>>());
    assert!((6_144_000_000..6_300_000_000).contains(&info.expert_bytes), "{}", info.expert_bytes);
    let tiny = ModelInfo::new(&checkpoint(Size::new(1, 2, 1, HIDDEN_STEP, 1), 0)).expect("a model");
    assert_eq!(tiny.expert_bytes, 2 * 3 * (HIDDEN_STEP as u64) * 20);
}

#[test]
fn a_seed_makes_the_model() {
    let bytes = |seed| {
        let checkpoint = checkpoint(small(), seed);
        let read = |name: &str| {
            let tensor = checkpoint.tensor(name).expect("the tensor");
            block_on(checkpoint.read(tensor, 0..tensor.bytes())).expect("its bytes")
        };
        ["token_embd.weight", "blk.1.attn_q.weight", "blk.2.ffn_gate_inp.weight", "blk.3.ffn_up_exps.weight"].map(read)
    };
    let first = bytes(7);
    assert_eq!(first, bytes(7));
    for (one, other) in first.iter().zip(bytes(8)) {
        assert_ne!(*one, other);
    }
    let expert = first[3].len() / small().experts;
    assert_ne!(first[3][..expert], first[3][expert..2 * expert], "experts differ");
}

/// How often a token shares an expert with the one before it, and how often it would if tokens chose independently, each
/// expert as often as it is.
fn sharing(choices: &[Vec<u32>], experts: usize) -> (f64, f64) {
    let shared = |a: &[u32], b: &[u32]| a.iter().filter(|expert| b.contains(expert)).count() as f64 / a.len() as f64;
    let pairs = choices.windows(2).map(|pair| shared(&pair[1], &pair[0])).sum::<f64>();
    let mut share = vec![0.0; experts];
    choices.iter().flatten().for_each(|&expert| share[expert as usize] += 1.0 / choices.len() as f64);
    let chosen = choices[0].len() as f64;
    (pairs / (choices.len() - 1) as f64, share.iter().map(|share| share * share).sum::<f64>() / chosen)
}

/// The model runs, takes text, and its routing is skewed and local.
#[test]
fn routing_is_lifelike() {
    let gpu = block_on(Gpu::new(&GpuOptions::default())).expect("an adapter");
    let options = EngineOptions { precision: Precision::Exact, context: Some(512), ..EngineOptions::default() };
    let engine = block_on(Engine::load(&gpu, source(small(), 0), ENTRY, &options, &mut |_| {})).expect("it loads");
    let text = "The quick brown fox jumps over the lazy dog, while 25 wizards box with jugs of liquor; then everybody sleeps.\n\
                In the morning, the dog reads a newspaper: nothing has happened, and nobody has asked it for its opinion.\n";
    let tokens = engine.tokenizer().expect("a tokenizer").encode(text, true).expect("ids");
    assert_eq!(tokens.len(), text.len() + 1);
    let routing = block_on(engine.session().expect("a session").logits(&tokens)).expect("logits").routing;
    let (_, experts, chosen, ..) = SMALL;
    let (mut shares, mut independent, mut scattered, mut popular) = (0.0, 0.0, 0.0, 0.0);
    for layer in &routing {
        let mut choices: Vec<Vec<u32>> = layer.ids.chunks_exact(chosen).map(<[u32]>::to_vec).collect();
        let (neighbours, by_chance) = sharing(&choices, experts);
        let mut counts = vec![0; experts];
        layer.ids.iter().for_each(|&expert| counts[expert as usize] += 1);
        counts.sort_unstable();
        let top: usize = counts[experts - experts / 4..].iter().sum();
        println!(
            "layer {}: {neighbours:.2} shared, {by_chance:.2} by chance, a quarter takes {top} of {}",
            layer.layer,
            layer.ids.len()
        );
        // The same choices in another order are not local any more.
        choices.sort_by_key(|choice| Stream::new(1, u64::from(choice[0])).bits(u64::from(choice[1])));
        let order = Stream::new(2, 3);
        for last in (1..choices.len()).rev() {
            choices.swap(last, (order.bits(last as u64) % (last as u64 + 1)) as usize);
        }
        let n = routing.len() as f64;
        shares += neighbours / n;
        independent += by_chance / n;
        scattered += sharing(&choices, experts).0 / n;
        popular += top as f64 / layer.ids.len() as f64 / n;
    }
    let local = |shares: f64| shares > 1.3 * independent;
    assert!(local(shares) && !local(scattered), "{shares} shared, {scattered} in another order, {independent} by chance");
    assert!((0.35..0.9).contains(&popular), "a quarter of the experts takes {popular} of the choices");
}
