//! Reading an expert fails in the middle of a text: an error that names the file, and the session goes on when the source
//! does. Or it takes its time: what is known meanwhile.

mod common;
#[path = "common/spoken.rs"]
mod spoken;

use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use common::{Expected, golden, gpu};
use moxel::weights::{BoxFuture, FileSource, WeightSource};
use moxel::{CancelToken, Engine, EngineOptions, Error, ExpertBudget, ExpertOptions, FinishReason, GenerateOptions};
use moxel::{Gpu, GpuOptions, Precision, Session};

/// A folder whose reads fail, or never end, when they are told to.
struct Flaky {
    folder: FileSource,
    is_local: bool,
    held: AtomicBool,
    /// Reads until one fails; `usize::MAX` is never.
    left: AtomicUsize,
}

impl Flaky {
    fn new(name: &str) -> Arc<Self> {
        Self::at(&golden(name), true)
    }

    fn at(folder: &Path, is_local: bool) -> Arc<Self> {
        let (folder, left) = (FileSource::new(folder), AtomicUsize::new(usize::MAX));
        Arc::new(Self { folder, is_local, held: AtomicBool::new(false), left })
    }

    fn fail_after(&self, reads: usize) {
        self.left.store(reads, Ordering::SeqCst);
    }
}

impl WeightSource for Flaky {
    fn name(&self) -> String {
        self.folder.name()
    }

    fn size<'a>(&'a self, file: &'a str) -> BoxFuture<'a, moxel::Result<Option<u64>>> {
        self.folder.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> BoxFuture<'a, moxel::Result<Vec<u8>>> {
        if self.held.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            let file = format!("{}/{file}", self.name());
            return Box::pin(async move { Err(Error::Read { file, cause: "the disk is on fire".into() }) });
        }
        if left < usize::MAX {
            self.left.store(left - 1, Ordering::SeqCst);
        }
        self.folder.read(file, range)
    }

    fn is_local(&self) -> bool {
        self.is_local
    }
}

fn options(budget: ExpertBudget) -> EngineOptions {
    let experts = ExpertOptions { budget, ..ExpertOptions::default() };
    // A short context: one test's bindings are too small for a long one.
    EngineOptions { precision: Precision::Exact, prefill_chunk: Some(7), context: Some(76), experts, ..EngineOptions::default() }
}

fn open(gpu: &Arc<Gpu>, source: Arc<dyn WeightSource>, budget: ExpertBudget) -> moxel::Result<Engine> {
    pollster::block_on(Engine::load(gpu, source, "", &options(budget), &mut |_| {}))
}

fn prompt(name: &str) -> Vec<u32> {
    Expected::read(&golden(name).join("expected.safetensors")).ids("tokens")
}

fn logits(session: &mut Session, tokens: &[u32]) -> moxel::Result<Vec<u32>> {
    Ok(pollster::block_on(session.logits(tokens))?.logits.into_iter().map(f32::to_bits).collect())
}

#[test]
fn after_a_failed_read_the_same_text_gives_the_same_bits() {
    let source = Flaky::new("top2");
    let engine = open(&gpu(), source.clone(), ExpertBudget::Percent(25.0)).unwrap();
    let whole = open(&gpu(), Flaky::new("top2"), ExpertBudget::Auto).unwrap();
    let tokens = &prompt("top2")[..30];
    let expected = logits(&mut whole.session().unwrap(), tokens).unwrap();
    let mut session = engine.session().unwrap();
    let mut failures = 0;
    // In the prompt's first experts, in later ones, between the two reads of one expert, and in single tokens.
    for reads in [0, 1, 2, 3, 5, 8, 13, 21, 34] {
        for single in [false, true] {
            session.rewind(0);
            source.fail_after(reads);
            let chunk = if single { 1 } else { tokens.len() };
            let failed = tokens.chunks(chunk).find_map(|chunk| logits(&mut session, chunk).err());
            if let Some(error) = failed {
                failures += 1;
                let text = error.to_string();
                assert!(text.contains("model.safetensors") && text.contains("the disk is on fire"), "{text}");
            }
            source.fail_after(usize::MAX);
            let kept = session.tokens().len();
            assert_eq!(session.tokens(), &tokens[..kept], "only whole chunks count");
            session.rewind(0);
            assert!(logits(&mut session, tokens).unwrap() == expected, "after a failure at read {reads}");
        }
    }
    assert!(failures >= 12, "{failures} failures");
}

#[test]
fn a_file_that_is_cut_off_while_the_model_runs() {
    let folder = std::env::temp_dir().join(format!("moxel-cut-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(golden("scout")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let engine = open(&gpu(), Arc::new(FileSource::new(&folder)), ExpertBudget::Percent(25.0)).unwrap();
    let model = folder.join("model.safetensors");
    let content = std::fs::read(&model).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&model).unwrap();
    file.set_len(4096).unwrap();
    let mut session = engine.session().unwrap();
    let text = logits(&mut session, &prompt("scout")).unwrap_err().to_string();
    assert!(text.contains("model.safetensors") && text.contains("cut off"), "{text}");
    assert!(session.tokens().is_empty());
    std::fs::write(&model, content).unwrap();
    assert!(logits(&mut session, &prompt("scout")).is_ok());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Each takes the other's experts away, token by token.
#[test]
fn two_sessions_do_not_notice_each_other() {
    let (one, other) = (prompt("scout"), prompt("scout").into_iter().rev().collect::<Vec<_>>());
    let whole = open(&gpu(), Flaky::new("scout"), ExpertBudget::Auto).unwrap();
    let expected = [&one, &other].map(|tokens| {
        let mut session = whole.session().unwrap();
        tokens[..24].iter().map(|&token| logits(&mut session, &[token]).unwrap()).collect::<Vec<_>>()
    });
    let engine = open(&gpu(), Flaky::new("scout"), ExpertBudget::Percent(1.0)).unwrap();
    let mut sessions = [engine.session().unwrap(), engine.session().unwrap()];
    for i in 0..24 {
        for (s, tokens) in [&one, &other].into_iter().enumerate() {
            assert!(logits(&mut sessions[s], &tokens[i..=i]).unwrap() == expected[s][i], "session {s}, token {i}");
        }
    }
}

#[test]
fn an_expert_that_is_split_over_many_small_bindings() {
    let small = GpuOptions { max_binding_bytes: Some(40 << 10), ..GpuOptions::default() };
    let gpu = pollster::block_on(Gpu::new(&small)).unwrap();
    for name in ["maverick", "top2"] {
        let tokens = &prompt(name)[..20];
        let outputs = [ExpertBudget::Auto, ExpertBudget::Percent(50.0), ExpertBudget::Percent(1.0)].map(|budget| {
            let engine = open(&gpu, Flaky::new(name), budget).unwrap();
            let mut session = engine.session().unwrap();
            let prompt = logits(&mut session, tokens).unwrap();
            session.rewind(0);
            let single: Vec<_> = tokens.iter().map(|&token| logits(&mut session, &[token]).unwrap()).collect();
            (prompt, single)
        });
        assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2], "{name}");
    }
}

#[test]
fn the_least_budget_in_bytes_works_and_one_byte_less_says_what_it_is() {
    let too_small = open(&gpu(), Flaky::new("scout"), ExpertBudget::Bytes(1)).err().expect("an error").to_string();
    let least: u64 =
        too_small.split_whitespace().rev().nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{too_small}"));
    assert!(open(&gpu(), Flaky::new("scout"), ExpertBudget::Bytes(least - 1)).is_err());
    let engine = open(&gpu(), Flaky::new("scout"), ExpertBudget::Bytes(least)).unwrap();
    assert_eq!(engine.expert_plan().unwrap().bytes(), least);
    assert!(logits(&mut engine.session().unwrap(), &prompt("scout")).is_ok());
}

/// Nobody who asks what is going on waits until it has gone on.
#[test]
fn figures_are_there_while_a_token_waits_for_an_expert() {
    let source = Flaky::new("top2");
    let engine = open(&gpu(), source.clone(), ExpertBudget::Percent(50.0)).unwrap();
    let tokens = &prompt("top2")[..12];
    let whole = open(&gpu(), Flaky::new("top2"), ExpertBudget::Auto).unwrap();
    let expected = logits(&mut whole.session().unwrap(), tokens).unwrap();
    let mut session = engine.session().unwrap();
    for chunk in [1, tokens.len()] {
        session.rewind(0);
        source.held.store(true, Ordering::SeqCst);
        {
            let mut token = pin!(session.logits(&tokens[..chunk]));
            let fetching = loop {
                assert!(matches!(token.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
                if let Some(fetching) = engine.fetching() {
                    break fetching;
                }
                std::thread::yield_now();
            };
            assert!(fetching.experts > 0 && fetching.bytes > 0 && fetching.done_bytes == 0, "{fetching:?}");
            assert!(fetching.layer.is_some_and(|layer| engine.info().moe_layers.contains(&layer)), "{fetching:?}");
            assert_eq!(engine.expert_stats().expect("experts").tokens, 0);
            assert!(engine.resident_experts().expect("experts").concat().iter().all(|there| !there));
            engine.start_trace("top2").expect("experts");
            assert_eq!(engine.take_trace().expect("a trace").tokens(), []);
        }
        assert_eq!(engine.fetching(), None, "nobody waits any more");
        source.held.store(false, Ordering::SeqCst);
    }
    assert!(logits(&mut session, tokens).unwrap() == expected);
    for token in tokens {
        assert!(logits(&mut session, &[*token]).is_ok());
    }
    let (stats, plan) = (engine.expert_stats().expect("experts"), engine.expert_plan().expect("experts"));
    let there = engine.resident_experts().expect("experts").concat().into_iter().filter(|there| *there).count();
    assert_eq!(there, plan.slots(), "all places are taken by now");
    let stall = stats.stall_ms;
    assert!(stall.read > 0.0 && stall.upload > 0.0 && stall.resubmit > 0.0, "{stall:?}");
    assert!(whole.resident_experts().expect("experts").concat().into_iter().all(|there| there));
}

/// A server that never answers keeps nobody: neither whoever cancels, nor whoever comes after him.
#[test]
fn who_waits_for_an_expert_can_leave() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("who_waits_for_an_expert_can_leave");
    let model = spoken::spoken_model(Path::new(env!("CARGO_MANIFEST_DIR")), "scout", &folder);
    let source = Flaky::at(&model, false);
    let engine = open(&gpu(), source.clone(), ExpertBudget::Auto).unwrap();
    let whole = open(&gpu(), Flaky::at(&model, true), ExpertBudget::Auto).unwrap();
    let ids = engine.tokenizer().unwrap().encode("A prompt", true).unwrap();
    let text = |engine: &Engine, cancel: &CancelToken| {
        let mut session = engine.session().unwrap();
        let options = GenerateOptions { max_tokens: Some(6), cancel: cancel.clone(), ..GenerateOptions::default() };
        let mut generation = session.generate(&ids, options).unwrap();
        let text: Vec<u32> = generation.by_ref().map(|token| token.unwrap().id).collect();
        (text, generation.finish_reason())
    };
    let cancel_when_it_waits = |cancel: &CancelToken| {
        while engine.fetching().is_none() {
            std::thread::yield_now();
        }
        cancel.cancel();
    };
    source.held.store(true, Ordering::SeqCst);
    let cancel = CancelToken::default();
    std::thread::scope(|scope| {
        scope.spawn(|| cancel_when_it_waits(&cancel));
        assert_eq!(text(&engine, &cancel), (Vec::new(), Some(FinishReason::Cancelled)));
    });
    let cancel = CancelToken::default();
    std::thread::scope(|scope| {
        scope.spawn(|| cancel_when_it_waits(&cancel));
        assert!(pollster::block_on(cancel.unless_cancelled(engine.load_experts())).is_none());
    });
    assert_eq!(engine.fetching(), None, "nobody waits any more");
    source.held.store(false, Ordering::SeqCst);
    assert_eq!(text(&engine, &CancelToken::default()), text(&whole, &CancelToken::default()));
    while pollster::block_on(engine.load_experts()).unwrap() {}
    assert!(engine.resident_experts().unwrap().concat().into_iter().all(|there| there));
    assert_eq!(text(&engine, &CancelToken::default()), text(&whole, &CancelToken::default()));
}
