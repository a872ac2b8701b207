//! Choosing the next token from logits.
//!
//! The steps and their order are those of llama.cpp's default chain: repetition penalty, top-k, top-p, min-p,
//! temperature, draw. [`Sampler::sample`] computes everything in a fixed order with the library's own generator, so that the same
//! seed and logits give the same tokens on every platform. A session makes the same choice on the GPU, by the same random numbers, with
//! the weights of tokens in f32 (`shaders/sample.wgsl`): another GPU may choose otherwise where a draw falls within rounding of a boundary.

use crate::error::{Error, Result};

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits before the draw; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Only this many of the likeliest tokens are candidates; 0 is no limit.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability are candidates; 1 is no limit.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the likeliest are candidates; 0 is no limit.
    pub min_p: f32,
    /// Logits of recent tokens are divided by this where positive and multiplied where negative; 1 is no penalty.
    pub repeat_penalty: f32,
    /// How many of the latest tokens count as recent for the penalty. With more than 256 all logits are read back from the GPU for every
    /// token.
    pub repeat_last_n: usize,
    /// Where the random numbers start. `None` is a fixed seed of the library: the library asks no operating system for
    /// randomness, so an application that wants a different text each time passes a different seed.
    pub seed: Option<u64>,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, repeat_last_n: 64, seed: None }
    }
}

impl SamplingOptions {
    /// Checks that every number makes sense.
    ///
    /// # Errors
    /// The first option out of its range, by name.
    pub fn validate(&self) -> Result<()> {
        let rules = [
            (self.temperature >= 0.0 && self.temperature.is_finite(), "temperature must be 0 or more"),
            (self.top_p > 0.0 && self.top_p <= 1.0, "top_p must be above 0 and at most 1"),
            ((0.0..=1.0).contains(&self.min_p), "min_p must lie between 0 and 1"),
            (self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite(), "repeat_penalty must be above 0"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::Request((*rule).to_owned())),
            None => Ok(()),
        }
    }
}

/// Chooses tokens by [`SamplingOptions`]; keeps the state of the random numbers.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    random: Random,
    candidates: Vec<Candidate>,
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// An option out of its range.
    pub fn new(options: SamplingOptions) -> Result<Self> {
        options.validate()?;
        let random = Random::new(options.seed.unwrap_or(0));
        Ok(Self { options, random, candidates: Vec::new() })
    }

    /// Whether the choice is the likeliest token of unchanged logits, so that an argmax on the GPU makes it.
    pub fn is_greedy(&self) -> bool {
        self.options.temperature == 0.0 && !self.penalises()
    }

    /// What it was made with.
    pub(crate) fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// How many of the latest tokens are penalised.
    pub(crate) fn penalised(&self) -> usize {
        if self.options.repeat_penalty == 1.0 { 0 } else { self.options.repeat_last_n }
    }

    /// The random number of the next draw but `ahead`, for whoever draws elsewhere and says so to [`Self::drawn`].
    pub(crate) fn random(&self, ahead: u64) -> f64 {
        self.random.after(ahead).unit()
    }

    /// A token was chosen elsewhere, by the random number of the next draw.
    pub(crate) fn drawn(&mut self) {
        if self.options.temperature > 0.0 {
            self.random.next();
        }
    }

    fn penalises(&self) -> bool {
        self.penalised() > 0
    }

    /// Chooses a token. `logits` has one entry per token id and is changed by the penalty; `history` is every token so
    /// far, the prompt included, the latest last. Of equal logits the lowest id wins.
    ///
    /// # Errors
    /// Logits that are NaN, none that is finite, or no logits at all.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32> {
        if let Some(id) = logits.iter().position(|logit| logit.is_nan()) {
            return Err(Error::Request(format!("the logit of token {id} is not a number")));
        }
        if self.penalises() {
            self.penalise(logits, history);
        }
        let Some(best) = likeliest(logits) else {
            return Err(Error::Request("no token has a finite logit".to_owned()));
        };
        if self.options.temperature == 0.0 {
            return Ok(best.id);
        }
        self.choose_candidates(logits, best.logit);
        Ok(self.draw(best.logit))
    }

    /// The penalty of CTRL (Keskar et al. 2019, section 4.1): once per token, however often it occurs.
    fn penalise(&self, logits: &mut [f32], history: &[u32]) {
        let recent = &history[history.len().saturating_sub(self.options.repeat_last_n)..];
        let mut ids = recent.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(logit) = logits.get_mut(id as usize) {
                let penalty = self.options.repeat_penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Fills `candidates` with what top-k, top-p and min-p leave.
    fn choose_candidates(&mut self, logits: &[f32], best: f32) {
        let options = &self.options;
        let possible = logits.iter().zip(0..).filter(|&(&logit, _)| logit > f32::NEG_INFINITY);
        self.candidates.clear();
        self.candidates.extend(possible.map(|(&logit, id)| Candidate { id, logit }));
        if options.top_k > 0 {
            take_likeliest(&mut self.candidates, options.top_k);
            self.candidates.truncate(options.top_k);
        }
        if options.top_p < 1.0 {
            let nucleus = nucleus(&mut self.candidates, best, options.top_p);
            self.candidates.truncate(nucleus);
        }
        if options.min_p > 0.0 {
            let least = f64::from(options.min_p);
            self.candidates.retain(|candidate| weight(candidate.logit, best, 1.0) >= least);
        }
    }

    fn draw(&mut self, best: f32) -> u32 {
        let temperature = self.options.temperature;
        let total: f64 = self.candidates.iter().map(|candidate| weight(candidate.logit, best, temperature)).sum();
        let mut left = self.random.unit() * total;
        let mut chosen = 0;
        for candidate in &self.candidates {
            let weight = weight(candidate.logit, best, temperature);
            if weight > 0.0 {
                chosen = candidate.id;
            }
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        chosen
    }
}

/// Moves the `count` likeliest candidates to the front, the likeliest first; among equals the lowest id.
fn take_likeliest(candidates: &mut [Candidate], count: usize) {
    let by_likelihood = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then_with(|| a.id.cmp(&b.id));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, by_likelihood);
    }
    let count = count.min(candidates.len());
    candidates[..count].sort_unstable_by(by_likelihood);
}

/// How many of the likeliest candidates, which are moved to the front, reach the probability `top_p` together.
fn nucleus(candidates: &mut [Candidate], best: f32, top_p: f32) -> usize {
    let total: f64 = candidates.iter().map(|candidate| weight(candidate.logit, best, 1.0)).sum();
    let wanted = f64::from(top_p) * total;
    // Sorting everything costs more than the rest of the step; the nucleus is nearly always small.
    let mut sorted = 256;
    loop {
        take_likeliest(candidates, sorted);
        let mut reached = 0.0;
        let enough = candidates.iter().take(sorted).position(|candidate| {
            reached += weight(candidate.logit, best, 1.0);
            reached >= wanted
        });
        match enough {
            Some(last) => return last + 1,
            None if sorted >= candidates.len() => return candidates.len(),
            None => sorted *= 8,
        }
    }
}

/// The likeliest token, the lowest id among equals; `None` if no logit is above minus infinity.
fn likeliest(logits: &[f32]) -> Option<Candidate> {
    let mut best: Option<Candidate> = None;
    for (&logit, id) in logits.iter().zip(0..) {
        if logit > best.map_or(f32::NEG_INFINITY, |best| best.logit) {
            best = Some(Candidate { id, logit });
        }
    }
    best
}

/// The probability of a logit relative to the best one.
fn weight(logit: f32, best: f32, temperature: f32) -> f64 {
    if logit == best { 1.0 } else { exp((f64::from(logit) - f64::from(best)) / f64::from(temperature)) }
}

/// e to a power of at most 0, to within a few units in the last place.
///
/// `f64::exp` is the system's, and systems differ in the last bits; a draw must not.
fn exp(x: f64) -> f64 {
    if x < -708.0 {
        return 0.0;
    }
    // e^x = 2^n e^r with |r| <= ln(2) / 2; ln(2) in two parts keeps r exact (Cody and Waite 1980).
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = (x - n * 6.931_471_803_691_238e-1) - n * 1.908_214_929_270_587_7e-10;
    let series = (1..=14).rev().fold(1.0, |sum, k| 1.0 + sum * r / f64::from(k));
    series * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// SplitMix64 (Steele, Lea and Flood 2014): 64 bits of state, the same on every platform.
#[derive(Debug, Clone)]
struct Random {
    state: u64,
}

/// What SplitMix64 adds to its state for each number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Where it stands after so many more numbers.
    fn after(&self, numbers: u64) -> Self {
        Self { state: self.state.wrapping_add(numbers.wrapping_mul(STEP)) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Uniform in [0, 1), from the upper 53 bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
