//! A hint behind the text at a terminal, while the next token waits long for experts; it vanishes when the token comes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{Term, measure_text_width, style};
use moxel::{Engine, Fetching};

use crate::output;

/// Shorter waits need no explanation.
const PATIENCE: Duration = Duration::from_millis(300);
/// Between two looks at what is fetched.
const TICK: Duration = Duration::from_millis(100);

/// Watches an answer being made, from a thread of its own where there is something to tell and a terminal to tell it at.
pub struct Waiting(Option<(Arc<Shared>, JoinHandle<()>)>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// When the wait for a token began that has not come yet.
    since: Option<Instant>,
    ended: bool,
    hint: Hint,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Watches what an engine fetches, until this is dropped.
    pub fn new(engine: &Engine) -> Self {
        let terminal = Term::stderr();
        let streams = engine.expert_plan().is_some_and(|plan| !plan.holds_all());
        // A terminal without colours may not know how to take something back either.
        if !streams || !terminal.features().colors_supported() {
            return Self(None);
        }
        let shared = Arc::<Shared>::default();
        let (own, engine) = (Arc::clone(&shared), engine.clone());
        let watcher = std::thread::Builder::new().name("waiting".into()).spawn(move || watch(&own, &engine, &terminal));
        Self(watcher.ok().map(|watcher| (shared, watcher)))
    }

    /// Does something that takes its time.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some((shared, _)) = &self.0 else { return work() };
        shared.state().since = Some(Instant::now());
        let done = work();
        let mut state = shared.state();
        state.since = None;
        if let Some(clear) = state.hint.clear() {
            eprint!("{clear}");
        }
        done
    }

    /// This was written to the terminal.
    pub fn wrote(&self, text: &str) {
        if let Some((shared, _)) = &self.0 {
            shared.state().hint.wrote(text);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((shared, watcher)) = self.0.take() {
            shared.state().ended = true;
            shared.ended.notify_all();
            // It does not panic, and if it did, the answer would still be there.
            let _ = watcher.join();
        }
    }
}

fn watch(shared: &Shared, engine: &Engine, terminal: &Term) {
    let mut state = shared.state();
    while !state.ended {
        if state.since.is_some_and(|since| since.elapsed() > PATIENCE)
            && let Some(fetching) = engine.fetching()
            && let Some(drawn) = state.hint.draw(&fetching, terminal.size().1.into())
        {
            eprint!("{drawn}");
        }
        state = shared.ended.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// What is on the terminal, and how to change it.
#[derive(Debug, Default)]
struct Hint {
    /// Width of the text since its line began.
    width: usize,
    /// The words that stand behind it.
    shown: Option<String>,
}

impl Hint {
    fn wrote(&mut self, text: &str) {
        self.width = match text.rsplit_once('\n') {
            Some((_, line)) => measure_text_width(line),
            None => self.width + measure_text_width(text),
        };
    }

    /// What draws the hint behind the text and leaves the cursor where the text goes on. `None` where it stands there already,
    /// or where the text has just filled a line: the cursor is on its last letter then.
    fn draw(&mut self, fetching: &Fetching, columns: usize) -> Option<String> {
        let words = words(fetching);
        if self.width > 0 && self.width.is_multiple_of(columns.max(1)) || self.shown.as_ref() == Some(&words) {
            return None;
        }
        let gap = if self.width > 0 { "  " } else { "" };
        let dim = style(&words).for_stderr().dim();
        // Keep the cursor, do not wrap, write, erase what is left of an earlier hint, wrap again, restore the cursor.
        let drawn = format!("\x1b7\x1b[?7l{gap}{dim}\x1b[K\x1b[?7h\x1b8");
        self.shown = Some(words);
        Some(drawn)
    }

    /// What erases the hint, if there is one.
    fn clear(&mut self) -> Option<&'static str> {
        self.shown.take().map(|_| "\x1b[K")
    }
}

fn words(fetching: &Fetching) -> String {
    let Fetching { layer, experts, bytes, done_bytes } = fetching;
    let experts = if *experts == 1 { "1 expert".into() } else { format!("{experts} experts") };
    let amount = format!("{} of {}", output::bytes(*done_bytes), output::bytes(*bytes));
    match layer {
        Some(layer) => format!("layer {layer}: fetching {experts}, {amount}"),
        None => format!("fetching {experts} ahead, {amount}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FETCHING: Fetching = Fetching { layer: Some(12), experts: 3, bytes: 2_100_000, done_bytes: 1_200_000 };

    #[test]
    fn words_say_how_many_and_how_much() {
        assert_eq!(words(&FETCHING), "layer 12: fetching 3 experts, 1.2 MB of 2.1 MB");
        let ahead = Fetching { layer: None, experts: 1, ..FETCHING };
        assert_eq!(words(&ahead), "fetching 1 expert ahead, 1.2 MB of 2.1 MB");
    }

    #[test]
    fn what_is_drawn_is_erased_once() {
        let mut hint = Hint::default();
        assert_eq!(hint.clear(), None);
        let drawn = hint.draw(&FETCHING, 80).expect("room");
        assert!(drawn.starts_with("\x1b7\x1b[?7l") && drawn.ends_with("\x1b[K\x1b[?7h\x1b8"), "{drawn:?}");
        assert_eq!(hint.draw(&FETCHING, 80), None, "it is there");
        assert!(hint.draw(&Fetching { done_bytes: 0, ..FETCHING }, 80).is_some(), "it goes on");
        assert_eq!((hint.clear(), hint.clear()), (Some("\x1b[K"), None));
    }

    #[test]
    fn a_full_line_is_left_alone() {
        let mut hint = Hint::default();
        hint.wrote("0123456");
        hint.wrote("789");
        assert_eq!((hint.draw(&FETCHING, 10), hint.draw(&FETCHING, 5)), (None, None));
        assert!(hint.draw(&FETCHING, 0).is_none() && hint.draw(&FETCHING, 11).is_some());
        hint.clear();
        hint.wrote("a\nbc");
        assert!(hint.draw(&FETCHING, 2).is_none() && hint.draw(&FETCHING, 10).is_some());
        hint.clear();
        hint.wrote("d\n");
        assert!(hint.draw(&FETCHING, 10).is_some_and(|drawn| !drawn.contains("  ")), "no gap where no text is");
    }
}
