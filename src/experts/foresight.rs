//! Which experts a token will choose, guessed before any layer has run: from what it chose when it was seen before.

use std::collections::HashMap;

use super::slots::ExpertId;

/// How much of what was known of a token remains when it is seen again.
const MEMORY: f64 = 0.7;
/// The least probability that an expert is loaded for ahead of time. Two sightings that agree have it. On the traces in
/// `benches/traces` this avoids 42, 41 and 34 % of the stalls with 25, 37.5 and 50 % of the experts on the GPU, and wastes a
/// tenth of the loads that are useful. Believing one sighting would avoid half of the stalls, but at times wastes so much that
/// loading ahead has to rest.
const SURE: f64 = 0.6;
/// Tokens that are remembered; when there are more, everything begins anew.
const MOST_TOKENS: usize = 4096;

/// Choices of each token of the vocabulary that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foresight {
    seen: HashMap<u32, Sightings>,
}

#[derive(Clone, Debug, Default)]
struct Sightings {
    /// Decayed number of sightings.
    count: f64,
    /// For each layer the chosen experts with their decayed numbers.
    layers: Vec<Vec<(usize, f64)>>,
}

impl Foresight {
    /// A token chose these experts.
    pub(crate) fn learn(&mut self, token: u32, layers: usize, chosen: &[ExpertId]) {
        if self.seen.len() >= MOST_TOKENS && !self.seen.contains_key(&token) {
            self.seen.clear();
        }
        let seen = self.seen.entry(token).or_default();
        seen.layers.resize(layers, Vec::new());
        seen.count = MEMORY * seen.count + 1.0;
        for layer in &mut seen.layers {
            layer.iter_mut().for_each(|(_, count)| *count *= MEMORY);
            layer.retain(|(_, count)| *count > 0.05);
        }
        for id in chosen {
            let layer = &mut seen.layers[id.layer];
            match layer.iter_mut().find(|(expert, _)| *expert == id.expert) {
                Some((_, count)) => *count += 1.0,
                None => layer.push((id.expert, 1.0)),
            }
        }
    }

    /// The experts that the token is sure to choose, layer by layer.
    pub(crate) fn likely(&self, token: u32) -> Vec<ExpertId> {
        let Some(seen) = self.seen.get(&token) else { return Vec::new() };
        let sure = |(_, count): &&(usize, f64)| *count >= SURE * (seen.count + 1.0);
        let layers = seen.layers.iter().enumerate();
        layers.flat_map(|(layer, of)| of.iter().filter(sure).map(move |&(expert, _)| ExpertId { layer, expert })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sightings_that_agree_are_believed_until_others_contradict() {
        let mut foresight = Foresight::default();
        let (a, b) = (ExpertId { layer: 1, expert: 5 }, ExpertId { layer: 1, expert: 6 });
        assert_eq!(foresight.likely(7), []);
        foresight.learn(7, 2, &[a]);
        assert_eq!(foresight.likely(7), [], "once is chance");
        foresight.learn(7, 2, &[a]);
        assert_eq!(foresight.likely(7), [a]);
        assert_eq!(foresight.likely(8), []);
        foresight.learn(7, 2, &[b]);
        assert_eq!(foresight.likely(7), []);
        for _ in 0..5 {
            foresight.learn(7, 2, &[b]);
        }
        assert_eq!(foresight.likely(7), [b]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut foresight = Foresight::default();
        for token in 0..3 * MOST_TOKENS as u32 {
            foresight.learn(token, 1, &[ExpertId { layer: 0, expert: 0 }]);
        }
        assert!(foresight.seen.len() <= MOST_TOKENS);
    }
}
