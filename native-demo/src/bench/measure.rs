//! Timing the tests of a plan on a loaded model.

use std::time::Instant;

use indicatif::ProgressBar;
use moxel::sampler::{Sampler, SamplingOptions};
use moxel::{Counters, Engine, ExpertPlan, Session};

use super::plan::{Kind, Test};
use super::profile::{self, Profile};

/// What a test came to.
pub struct Measured {
    pub test: Test,
    /// Tokens per second of each run.
    pub samples: Vec<f64>,
    /// Work of all timed runs.
    pub work: Counters,
    /// Its kernels, if they were asked for and the adapter can tell.
    pub profile: Option<Profile>,
}

impl Measured {
    /// Tokens of all timed runs.
    pub fn tokens(&self) -> usize {
        self.samples.len() * self.test.count
    }
}

/// Measures every test `runs` times, after a run that does not count: it compiles pipelines and fills caches. With the number of
/// tokens that are computed together, profiles each test behind that.
///
/// # Errors
/// A test that does not fit into the context, or a failing GPU.
pub fn all(engine: &Engine, tests: &[Test], runs: u32, profile: Option<usize>) -> moxel::Result<Vec<Measured>> {
    let mut session = engine.session()?;
    let positions = tests.iter().map(Test::positions).max().unwrap_or(0);
    let tokens = some_tokens(positions, engine.info().vocab);
    // Where experts may be missing, which ones are asked for is not left to what a model with random weights says.
    let fed = engine.expert_plan().is_none_or(ExpertPlan::holds_all);
    let measured = |&test| {
        let mut measured = one(&mut session, &tokens, (test, fed), runs)?;
        if let Some(chunk) = profile {
            measured.profile = profile::measure(&mut session, &tokens, test, chunk)?;
        }
        Ok(measured)
    };
    tests.iter().map(measured).collect()
}

/// Token ids spread over the vocabulary: what they say does not matter for the speed, the rows that they touch might.
fn some_tokens(count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 7919 + 1) % vocab) as u32).collect()
}

/// What one test has left in the context serves the next as its depth. `fed`: generation goes on with the tokens that the model chooses,
/// as in a real one; otherwise a position has the same token in every test.
fn one(session: &mut Session, tokens: &[u32], (test, fed): (Test, bool), runs: u32) -> moxel::Result<Measured> {
    let mut sampler = Sampler::new(SamplingOptions::default())?;
    session.rewind(test.depth);
    pollster::block_on(session.prefill(&tokens[session.tokens().len()..test.depth]))?;
    let timed = &tokens[test.depth..test.positions()];
    let chunk = if test.kind == Kind::Prompt { test.count } else { 1 };
    let bar = ProgressBar::new(u64::from(runs) + 1).with_message(test.to_string());
    let mut samples = Vec::new();
    let mut before = session.counters();
    for run in 0..=runs {
        if run == 1 {
            before = session.counters();
        }
        session.rewind(test.depth);
        let begin = Instant::now();
        if fed && test.kind == Kind::Generation {
            let mut continuation = session.continuation(&timed[..1], sampler.clone(), test.count)?;
            while pollster::block_on(continuation.next_id())?.is_some() {}
        } else {
            // Each time the next token is computed, whatever follows.
            for part in timed.chunks(chunk) {
                pollster::block_on(session.next(part, &mut sampler))?;
            }
        }
        if run > 0 {
            samples.push(test.count as f64 / begin.elapsed().as_secs_f64());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Measured { test, samples, work: session.counters() - before, profile: None })
}

#[cfg(test)]
mod tests {
    use super::some_tokens;

    #[test]
    fn tokens_lie_in_the_vocabulary() {
        assert!(some_tokens(1000, 97).iter().all(|&id| id < 97));
    }
}
