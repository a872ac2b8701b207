//! The library as applications use it: several engines and sessions on one device, streams, cancellation, rewinding,
//! conversations, and memory that is given back.

mod common;
#[path = "common/spoken.rs"]
mod spoken;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use common::gpu;
use futures_lite::StreamExt;
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{CancelToken, Chat, Engine, EngineOptions, Error, FinishReason, GenerateOptions, Gpu, GpuOptions, Session};

const PROMPT: &str = "A prompt of several chunks";

/// Where a golden checkpoint with a tokenizer is, for one test.
fn model(test: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    spoken::spoken_model(Path::new(env!("CARGO_MANIFEST_DIR")), name, &folder)
}

/// An engine that takes prompts in chunks of four tokens.
fn engine(test: &str, name: &str) -> Engine {
    let options = EngineOptions { prefill_chunk: Some(4), ..EngineOptions::default() };
    Engine::load_path(&gpu(), &model(test, name), &options, &mut |_| {}).expect("a model")
}

fn prompt(engine: &Engine, text: &str) -> Vec<u32> {
    engine.tokenizer().expect("a tokenizer").encode(text, true).expect("ids")
}

fn tokens(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(max_tokens), ..GenerateOptions::default() }
}

/// The ids that a new session generates.
fn alone(engine: &Engine, text: &str, count: usize) -> Vec<u32> {
    let mut session = engine.session().expect("a session");
    let generation = session.generate(&prompt(engine, text), tokens(count)).expect("a generation");
    generation.map(|token| token.expect("a token").id).collect()
}

/// The next greedy token.
fn next(session: &mut Session, input: &[u32]) -> u32 {
    let mut sampler = Sampler::new(SamplingOptions::default()).expect("greedy");
    pollster::block_on(session.next(input, &mut sampler)).expect("a token")
}

#[test]
fn engines_and_sessions_do_not_disturb_each_other() {
    let test = "engines_and_sessions_do_not_disturb_each_other";
    let (scout, llama) = (engine(test, "scout"), engine(test, "llama_tied"));
    let cases = [(&scout, "first"), (&scout, "another prompt"), (&llama, "first")];
    let expected = cases.map(|(engine, text)| alone(engine, text, 12));
    assert_ne!(expected[0], expected[2], "two models that say the same show nothing");

    let mut sessions = cases.map(|(engine, _)| engine.session().expect("a session"));
    let mut inputs = cases.map(|(engine, text)| prompt(engine, text));
    let mut got = [const { Vec::new() }; 3];
    for _ in 0..12 {
        for ((session, input), got) in sessions.iter_mut().zip(&mut inputs).zip(&mut got) {
            let id = next(session, input);
            got.push(id);
            *input = vec![id];
        }
    }
    assert_eq!(got, expected, "one token of each in turn");

    let got = std::thread::scope(|scope| {
        let threads = cases.map(|(engine, text)| scope.spawn(move || alone(engine, text, 12)));
        threads.map(|thread| thread.join().expect("no panic"))
    });
    assert_eq!(got, expected, "all at once from threads of their own");
}

#[test]
fn a_stream_gives_the_text_of_its_tokens() {
    let engine = engine("a_stream_gives_the_text_of_its_tokens", "scout");
    let mut session = engine.session().expect("a session");
    let (mut ids, mut text) = (Vec::new(), String::new());
    let mut generation = session.generate(&prompt(&engine, PROMPT), tokens(20)).expect("a generation");
    assert_eq!(generation.prompt_tokens(), PROMPT.len());
    pollster::block_on(async {
        let mut stream = pin!(generation.stream());
        while let Some(token) = stream.next().await {
            let token = token.expect("a token");
            ids.push(token.id);
            text += &token.text;
        }
        assert!(stream.next().await.is_none(), "an ended stream stays ended");
    });
    assert_eq!(generation.finish_reason(), Some(FinishReason::Length));
    assert_eq!(ids, alone(&engine, PROMPT, 20));
    assert_eq!(text, engine.tokenizer().expect("a tokenizer").decode(&ids).expect("text"));
    assert_eq!(session.tokens().len(), PROMPT.len() + 19, "the last token has not been computed");
}

#[test]
fn a_cancelled_generation_can_be_continued() {
    let engine = engine("a_cancelled_generation_can_be_continued", "scout");
    let expected = alone(&engine, PROMPT, 12);
    let mut session = engine.session().expect("a session");
    let cancel = CancelToken::default();
    let options = GenerateOptions { cancel: cancel.clone(), ..tokens(12) };
    let mut generation = session.generate(&prompt(&engine, PROMPT), options).expect("a generation");
    let mut got: Vec<u32> = generation.by_ref().take(5).map(|token| token.expect("a token").id).collect();
    cancel.cancel();
    assert!(generation.next().is_none());
    assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
    let last = got.pop().expect("five tokens");
    got.push(last);
    got.extend(session.generate(&[last], tokens(7)).expect("a generation").map(|token| token.expect("a token").id));
    assert_eq!(got, expected);
}

/// Text that could have become a stop string belongs to tokens that were handed out.
#[test]
fn a_cancelled_generation_gives_what_it_held_back() {
    let engine = engine("a_cancelled_generation_gives_what_it_held_back", "llama_tied");
    let ids = prompt(&engine, PROMPT);
    let mut session = engine.session().expect("a session");
    let whole: Vec<_> =
        session.generate(&ids, tokens(12)).expect("a generation").map(|token| token.expect("a token").text).collect();
    let shown = whole.iter().position(|text| !text.is_empty()).expect("text");
    assert_eq!(session.generate(&ids, tokens(1)).expect("a generation").take_rest(), "", "nothing was generated");
    for ended in [false, true] {
        session.rewind(0);
        let cancel = CancelToken::default();
        let stop = vec![format!("{} and more that never comes", whole[shown])];
        let max_tokens = Some(if ended { shown + 1 } else { 12 });
        let options = GenerateOptions { max_tokens, stop, cancel: cancel.clone(), ..GenerateOptions::default() };
        let mut generation = session.generate(&ids, options).expect("a generation");
        let text: String = generation.by_ref().take(shown + 1).map(|token| token.expect("a token").text).collect();
        cancel.cancel();
        assert!(generation.next().is_none());
        let (expected, rest) = if ended { (whole[shown].as_str(), "") } else { ("", whole[shown].as_str()) };
        assert_eq!((text.as_str(), generation.take_rest().as_str()), (expected, rest), "ended: {ended}");
        assert_eq!(generation.take_rest(), "", "it is given once");
    }
}

#[test]
fn a_prompt_is_cancelled_between_its_chunks() {
    let engine = engine("a_prompt_is_cancelled_between_its_chunks", "scout");
    let ids = prompt(&engine, PROMPT);
    let mut session = engine.session().expect("a session");
    let cancel = CancelToken::default();
    let options = GenerateOptions { cancel: cancel.clone(), ..tokens(12) };
    let mut generation = session.generate(&ids, options.clone()).expect("a generation");
    {
        let mut first = pin!(generation.next_token());
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "the GPU takes its time");
        cancel.cancel();
        assert!(pollster::block_on(first).expect("no error").is_none());
    }
    assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
    let held = session.tokens().len();
    assert!(held < ids.len() && held.is_multiple_of(4), "{held} tokens of whole chunks");

    let before = session.counters();
    assert!(session.generate(&ids, options).expect("a generation").next().is_none(), "cancelled before it begins");
    assert_eq!(session.counters(), before);
    let rest: Vec<u32> =
        session.generate(&ids[held..], tokens(12)).expect("a generation").map(|token| token.expect("a token").id).collect();
    assert_eq!(rest, alone(&engine, PROMPT, 12));
}

/// As a task does that is aborted: the future goes away while the GPU still works for it.
#[test]
fn a_dropped_future_leaves_a_usable_session() {
    let engine = engine("a_dropped_future_leaves_a_usable_session", "scout");
    let ids = prompt(&engine, PROMPT);
    let mut session = engine.session().expect("a session");
    let mut generation = session.generate(&ids, tokens(12)).expect("a generation");
    assert!(pin!(generation.next_token()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(generation.next().is_none(), "the generation is over");
    let held = session.tokens().len();
    let rest: Vec<u32> =
        session.generate(&ids[held..], tokens(12)).expect("a generation").map(|token| token.expect("a token").id).collect();
    assert_eq!(rest, alone(&engine, PROMPT, 12));
}

#[test]
fn rewinding_forgets() {
    let engine = engine("rewinding_forgets", "scout");
    let ids = prompt(&engine, PROMPT);
    let mut session = engine.session().expect("a session");
    pollster::block_on(session.prefill(&ids)).expect("room");
    session.rewind(9);
    assert_eq!(session.tokens(), &ids[..9]);
    let (other, tail) = (engine.session().expect("a session"), [7, 8, 9, 10, 11]);
    let mut other = other;
    pollster::block_on(other.prefill(&ids[..9])).expect("room");
    assert_eq!(next(&mut session, &tail), next(&mut other, &tail));
    session.rewind(0);
    assert_eq!(next(&mut session, &ids), alone(&engine, PROMPT, 1)[0]);
}

#[test]
fn impossible_generations_are_refused() {
    let engine = engine("impossible_generations_are_refused", "scout");
    let mut session = engine.session().expect("a session");
    let refused = |session: &mut Session, ids: &[u32], options: GenerateOptions| match session.generate(ids, options) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error,
    };
    assert!(matches!(refused(&mut session, &[1; 513], tokens(1)), Error::ContextFull { tokens: 513, context: 512 }));
    assert!(matches!(refused(&mut session, &[], tokens(1)), Error::Request(_)));
    assert!(matches!(refused(&mut session, &[643], tokens(1)), Error::Request(_)));
    let hot = SamplingOptions { temperature: f32::NAN, ..SamplingOptions::default() };
    assert!(matches!(refused(&mut session, &[1], GenerateOptions { sampling: hot, ..tokens(1) }), Error::Request(_)));
    let mute = GenerateOptions { stop: vec![String::new()], ..tokens(1) };
    assert!(matches!(refused(&mut session, &[1], mute), Error::Request(_)));
    assert!(session.tokens().is_empty());
}

#[test]
fn a_conversation_remembers_what_was_said() {
    let engine = engine("a_conversation_remembers_what_was_said", "scout");
    let mut chat = Chat::new(&engine, Some("Be brief.")).expect("a chat");
    let answer: String = chat.say("Hello", tokens(6)).expect("an answer").map(|token| token.expect("a token").text).collect();
    let said = |chat: &Chat| chat.messages().iter().map(|m| (m.role.clone(), m.content.clone())).collect::<Vec<_>>();
    let before = said(&chat);
    let expected = [("system", "Be brief."), ("user", "Hello"), ("assistant", &answer)];
    assert_eq!(before, expected.map(|(role, content)| (role.to_owned(), content.to_owned())));

    assert!(matches!(chat.say(&"x".repeat(600), tokens(6)), Err(Error::ContextFull { .. })));
    assert_eq!(said(&chat), before, "what was refused was not said");

    drop(chat.say("More", tokens(6)).expect("an answer"));
    assert_eq!(said(&chat).len(), 5, "an answer that nobody waited for is empty, and the question remains");
    chat.clear();
    assert_eq!(said(&chat), before[..1]);
    let again: String = chat.say("Hello", tokens(6)).expect("an answer").map(|token| token.expect("a token").text).collect();
    assert_eq!(again, answer);
}

#[test]
fn memory_is_given_back() {
    let path = model("memory_is_given_back", "scout");
    // A device of its own: other tests allocate on the shared one.
    let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
    let Some(empty) = settled(&gpu) else {
        eprintln!("SKIPPED: this backend does not tell what is allocated");
        return;
    };
    let engine = Engine::load_path(&gpu, &path, &EngineOptions::default(), &mut |_| {}).expect("a model");
    let loaded = settled(&gpu).expect("bytes");
    assert!(loaded >= empty + engine.info().weight_bytes, "{loaded} bytes with a model, {empty} without");
    let mut session = engine.session().expect("a session");
    session.generate(&prompt(&engine, PROMPT), tokens(3)).expect("a generation").for_each(drop);
    let running = settled(&gpu).expect("bytes");
    assert!(running > loaded, "{running} bytes with a session, {loaded} without");
    drop(session);
    assert!(settled(&gpu) <= Some(loaded), "after the session");
    drop(engine);
    assert!(settled(&gpu) <= Some(empty), "after the engine");
}

/// Bytes allocated once everything that was dropped has been freed.
fn settled(gpu: &Arc<Gpu>) -> Option<u64> {
    gpu.wait_idle();
    gpu.allocated_bytes()
}
