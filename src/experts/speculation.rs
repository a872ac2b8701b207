//! Whether loading ahead pays: it stops by itself where too much of it is wasted, or little is left to gain.

use std::collections::HashSet;

use super::slots::ExpertId;

/// Most wasted bytes for each useful one.
const MOST_WASTE: f64 = 0.25;
/// Loads that have turned out, before the verdict counts.
const TRIAL: f64 = 64.0;
/// What a load counts for after each further one: the verdict is of the latest two hundred, for fewer vary too much.
const MEMORY: f64 = 0.995;
/// Tokens that loading ahead rests for once it was found wasteful.
const REST: u32 = 256;
/// Stalled layers for each token below which there is nothing to gain.
const FEW_STALLS: f64 = 0.5;

/// Loads that were made ahead of time and how they turned out.
#[derive(Clone, Debug)]
pub(super) struct Speculation {
    allowed: bool,
    /// Loaded ahead and not chosen yet.
    pending: HashSet<ExpertId>,
    useful: f64,
    wasted: f64,
    /// Stalled layers for each token, lately.
    stalls: f64,
    rest: u32,
}

impl Speculation {
    pub(super) fn new(allowed: bool, layers: usize) -> Self {
        Self { allowed, pending: HashSet::new(), useful: 0.0, wasted: 0.0, stalls: layers as f64, rest: 0 }
    }

    /// Whether to load ahead now.
    pub(super) fn pays(&self) -> bool {
        self.allowed && self.rest == 0 && self.stalls >= FEW_STALLS
    }

    /// Stalled layers for each token, lately.
    pub(super) fn stalls(&self) -> f64 {
        self.stalls
    }

    pub(super) fn loaded(&mut self, id: ExpertId) {
        self.pending.insert(id);
    }

    /// An expert is used: whether it was loaded ahead, and is used for the first time.
    pub(super) fn used(&mut self, id: ExpertId) -> bool {
        let ahead = self.pending.remove(&id);
        if ahead {
            self.turned_out(1.0, 0.0);
        }
        ahead
    }

    /// An expert is evicted: whether it was loaded ahead, and in vain.
    pub(super) fn evicted(&mut self, id: ExpertId) -> bool {
        let ahead = self.pending.remove(&id);
        if ahead {
            self.turned_out(0.0, 1.0);
        }
        ahead
    }

    fn turned_out(&mut self, useful: f64, wasted: f64) {
        self.useful = MEMORY * self.useful + useful;
        self.wasted = MEMORY * self.wasted + wasted;
    }

    /// A token is through, after so many stalled layers.
    pub(super) fn token(&mut self, stalled: usize) {
        self.stalls = 0.9 * self.stalls + 0.1 * stalled as f64;
        self.rest = self.rest.saturating_sub(1);
        if self.useful + self.wasted > TRIAL && self.wasted > MOST_WASTE * self.useful {
            self.rest = REST;
            (self.useful, self.wasted) = (0.0, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(expert: usize) -> ExpertId {
        ExpertId { layer: 0, expert }
    }

    /// A token for which ten experts are loaded ahead, `useful` of them rightly.
    fn token(speculation: &mut Speculation, useful: usize) {
        for expert in 0..10 {
            speculation.loaded(id(expert));
            assert!(if expert < useful { speculation.used(id(expert)) } else { speculation.evicted(id(expert)) });
        }
        speculation.token(3);
    }

    #[test]
    fn waste_makes_it_rest_and_then_try_again() {
        let mut good = Speculation::new(true, 4);
        (0..100).for_each(|_| token(&mut good, 9));
        assert!(good.pays());
        let mut bad = Speculation::new(true, 4);
        (0..8).for_each(|_| token(&mut bad, 5));
        assert!(!bad.pays());
        (0..REST).for_each(|_| bad.token(3));
        assert!(bad.pays());
        assert!(!Speculation::new(false, 4).pays());
    }

    #[test]
    fn nothing_is_loaded_ahead_where_hardly_anything_stalls() {
        let mut speculation = Speculation::new(true, 4);
        (0..100).for_each(|_| speculation.token(0));
        assert!(!speculation.pays());
        (0..10).for_each(|_| speculation.token(2));
        assert!(speculation.pays());
    }

    #[test]
    fn only_the_first_use_of_what_was_loaded_ahead_counts() {
        let mut speculation = Speculation::new(true, 4);
        assert!(!speculation.used(id(1)));
        speculation.loaded(id(1));
        assert!(speculation.used(id(1)) && !speculation.used(id(1)) && !speculation.evicted(id(1)));
    }
}
