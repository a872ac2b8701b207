//! How a prompt's work is submitted: in pieces that none of them keeps a GPU busy for long, and in chunks that a fast one makes use of.
//!
//! Drivers and browsers take a device away whose submission does not end in time, two seconds on Windows, and nothing else is drawn
//! meanwhile.

use std::time::Duration;

use crate::engine::MOST_CHUNK;
use crate::gpu::Stretch;

/// What a submission should take at most.
const MOST: Duration = Duration::from_millis(250);

/// How long a token of a prompt took the last time in a session: deeper in a text it takes longer, so that another session's says
/// little.
#[derive(Default)]
pub(super) struct Pace {
    /// 0 as long as nothing is known.
    seconds: f64,
}

impl Pace {
    /// Several tokens took so long.
    pub(super) fn took(&mut self, tokens: usize, time: Duration) {
        self.seconds = time.as_secs_f64() / tokens.max(1) as f64;
    }

    /// The work of so many tokens in the pieces that it is submitted in, as many as layers while nothing is known.
    pub(super) fn pieces<'a>(&self, work: Stretch<'a>, tokens: usize, layers: usize) -> Vec<Stretch<'a>> {
        work.pieces(self.count(tokens, layers)).collect()
    }

    /// How many tokens to compute together, where `first` were at first: twice as many, and again, as long as one submission is enough.
    pub(super) fn chunk(&self, first: usize) -> usize {
        let fits = |&chunk: &usize| chunk <= MOST_CHUNK && self.count(chunk, usize::MAX) == 1;
        std::iter::successors(Some(first), |chunk| Some(2 * chunk)).take_while(fits).last().unwrap_or(first)
    }

    fn count(&self, tokens: usize, layers: usize) -> usize {
        match tokens {
            // A single one is short everywhere.
            1 => 1,
            _ if self.seconds == 0.0 => layers,
            _ => (self.seconds * tokens as f64 / MOST.as_secs_f64()).ceil().max(1.0) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_as_far_as_one_submission_goes() {
        let mut pace = Pace::default();
        assert_eq!(pace.chunk(128), 128, "nothing is known");
        for (milliseconds, chunk) in [(1000, 128), (200, 128), (124, 256), (63, 256), (62, 512), (1, 512)] {
            pace.took(128, Duration::from_millis(milliseconds));
            assert_eq!(pace.chunk(128), chunk, "{milliseconds} ms");
        }
    }

    #[test]
    fn pieces_take_a_quarter_of_a_second() {
        let mut pace = Pace::default();
        assert_eq!([pace.count(1, 30), pace.count(2, 30), pace.count(128, 30)], [1, 30, 30]);
        pace.took(128, Duration::from_millis(1200));
        assert_eq!([pace.count(1, 30), pace.count(2, 30), pace.count(128, 30), pace.count(512, 30)], [1, 1, 5, 20]);
        pace.took(64, Duration::from_millis(5));
        assert_eq!(pace.count(512, 30), 1);
        pace.took(0, Duration::ZERO);
        assert_eq!(pace.count(512, 30), 30);
    }
}
