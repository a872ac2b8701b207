//! A GPU that is lost while a text is made: the generation goes on with another engine of the same model, and the text is the
//! one that it would have been.

mod common;
#[path = "common/spoken.rs"]
mod spoken;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use common::gpu;
use moxel::sampler::SamplingOptions;
use moxel::{Engine, EngineOptions, Error, ExpertBudget, ExpertOptions, GenerateOptions, Generation, Gpu, Token};

const PROMPT: &str = "A prompt of several chunks";
const TOKENS: usize = 24;

fn model(test: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lost_device").join(test);
    spoken::spoken_model(Path::new(env!("CARGO_MANIFEST_DIR")), name, &folder)
}

fn engine(gpu: &Arc<Gpu>, model: &Path, budget: ExpertBudget) -> Engine {
    let experts = ExpertOptions { budget, ..ExpertOptions::default() };
    let options = EngineOptions { prefill_chunk: Some(4), experts, ..EngineOptions::default() };
    Engine::load_path(gpu, model, &options, &mut |_| {}).expect("a model")
}

/// A device that can be taken away.
fn mortal_gpu() -> (wgpu::Device, Arc<Gpu>) {
    let open = async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.expect("an adapter");
        adapter.request_device(&wgpu::DeviceDescriptor::default()).await.expect("a device")
    };
    let (device, queue) = pollster::block_on(open);
    // wgpu's own handler ends the program when something is done with a buffer of a destroyed device.
    device.on_uncaptured_error(Arc::new(|_| {}));
    (device.clone(), Gpu::from_wgpu(device, queue))
}

fn sampled() -> SamplingOptions {
    SamplingOptions { temperature: 0.8, repeat_penalty: 1.1, seed: Some(7), ..SamplingOptions::default() }
}

fn options(sampling: SamplingOptions, stop: &[String]) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(TOKENS), sampling, stop: stop.to_vec(), ..GenerateOptions::default() }
}

fn ids(engine: &Engine) -> Vec<u32> {
    engine.tokenizer().expect("a tokenizer").encode(PROMPT, true).expect("ids")
}

fn collect(generation: &mut Generation<'_>) -> Vec<Token> {
    generation.map(|token| token.expect("a token")).collect()
}

fn text(tokens: &[Token]) -> String {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

/// What is generated if nothing happens.
fn undisturbed(engine: &Engine, options: GenerateOptions) -> Vec<Token> {
    let mut session = engine.session().expect("a session");
    collect(&mut session.generate(&ids(engine), options).expect("a generation"))
}

/// The same where the device is lost before the token with this number.
fn disturbed(model: &Path, budget: ExpertBudget, survivor: &Engine, options: GenerateOptions, lost_at: usize) -> Vec<Token> {
    let (device, gpu) = mortal_gpu();
    let engine = engine(&gpu, model, budget);
    let mut session = engine.session().expect("a session");
    let mut generation = session.generate(&ids(&engine), options).expect("a generation");
    let mut tokens: Vec<_> = generation.by_ref().take(lost_at).map(|token| token.expect("a token")).collect();
    let before = generation.counters();
    device.destroy();
    let lost = generation.next().expect("the generation has not ended");
    assert!(matches!(lost, Err(Error::DeviceLost(_) | Error::Gpu(_))), "{lost:?}");
    pollster::block_on(generation.resume_on(survivor)).expect("the same model");
    tokens.extend(collect(&mut generation));
    assert!(generation.counters().readbacks > before.readbacks, "the work is counted on");
    tokens
}

#[test]
fn the_text_goes_on_as_if_nothing_had_happened() {
    let model = model("the_text_goes_on", "scout");
    for budget in [ExpertBudget::Auto, ExpertBudget::Percent(50.0)] {
        let survivor = engine(&gpu(), &model, budget);
        for sampling in [SamplingOptions::default(), sampled()] {
            let expected = undisturbed(&survivor, options(sampling.clone(), &[]));
            assert_eq!(expected.len(), TOKENS);
            for lost_at in [0, 9] {
                let got = disturbed(&model, budget, &survivor, options(sampling.clone(), &[]), lost_at);
                assert_eq!(got, expected, "{sampling:?}, {budget}, lost before token {lost_at}");
            }
        }
    }
}

/// What the session holds of the prompt must not be given to it again.
#[test]
fn a_prompt_goes_on_after_the_chunks_that_were_computed() {
    let model = model("a_prompt_goes_on", "scout");
    let survivor = engine(&gpu(), &model, ExpertBudget::Auto);
    let expected = undisturbed(&survivor, options(sampled(), &[]));
    let (device, gpu) = mortal_gpu();
    let engine = engine(&gpu, &model, ExpertBudget::Auto);
    let mut session = engine.session().expect("a session");
    let mut generation = session.generate(&ids(&engine), options(sampled(), &[])).expect("a generation");
    let lost = {
        let mut first = pin!(generation.next_token());
        while engine.expert_stats().expect("experts").prefill.tokens < 8 {
            assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "a prompt of several chunks");
            std::thread::yield_now();
        }
        device.destroy();
        pollster::block_on(first)
    };
    assert!(matches!(lost, Err(Error::DeviceLost(_) | Error::Gpu(_))), "{lost:?}");
    pollster::block_on(generation.resume_on(&survivor)).expect("the same model");
    assert_eq!(collect(&mut generation), expected);
}

#[test]
fn a_stop_string_is_met_across_the_loss() {
    let model = model("a_stop_string", "llama_tied");
    let survivor = engine(&gpu(), &model, ExpertBudget::Auto);
    let whole = undisturbed(&survivor, options(sampled(), &[]));
    // The texts of two neighbours, the device being lost between them.
    let (first, second) = (&whole[6], &whole[7]);
    assert!(!first.text.is_empty() && !second.text.is_empty(), "{whole:?}");
    let stop = [format!("{}{}", first.text, second.text)];
    let expected = undisturbed(&survivor, options(sampled(), &stop));
    assert!(expected.len() < TOKENS, "the string stops the text");
    let got = disturbed(&model, ExpertBudget::Auto, &survivor, options(sampled(), &stop), expected.len() - 1);
    assert_eq!(text(&got), text(&expected));
    assert_eq!(got, expected);
}

#[test]
fn another_model_is_refused() {
    let (scout, llama) = (model("another_model", "scout"), model("another_model", "llama_tied"));
    let (scout, llama) = (engine(&gpu(), &scout, ExpertBudget::Auto), engine(&gpu(), &llama, ExpertBudget::Auto));
    let mut session = scout.session().expect("a session");
    let mut generation = session.generate(&ids(&scout), options(SamplingOptions::default(), &[])).expect("a generation");
    let first = generation.next().expect("a token").expect("a token");
    let why = pollster::block_on(generation.resume_on(&llama)).expect_err("another model").to_string();
    assert!(why.contains("the same model"), "{why}");
    let rest = collect(&mut generation);
    let expected = undisturbed(&scout, options(SamplingOptions::default(), &[]));
    assert_eq!([vec![first], rest].concat(), expected, "a refusal changes nothing");
}
