//! What an expert's place on the GPU is worth: the memory of what was chosen, on which eviction decides.

use super::EvictionPolicy;
use super::residency::Worth;
use super::slots::ExpertId;

/// Tokens after which a choice counts half. Measured on 6,166 generated tokens of the demo MoE (chat, stories, code, changes
/// of topic): 8 to 16 differ little, 4 and 64 are worse.
const HALF_LIFE: f64 = 12.0;
/// How much less an expert is worth whose layer comes round last, as measured there; 0 would cost a fifth of the gain.
const PHASE: f64 = 0.5;
/// The least weight that what was known before a prompt keeps: how long a prompt is says little about what follows it.
const MOST_PROMPT_TOKENS: usize = 16;

/// How much, or how lately, each expert was used.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    policy: EvictionPolicy,
    layers: usize,
    experts: usize,
    /// [layers, experts]: decayed share of the tokens that chose it, or time of the last use.
    worth: Vec<f64>,
    /// Tokens that all layers have seen.
    tokens: u64,
}

impl Usage {
    pub(crate) fn new(policy: EvictionPolicy, layers: usize, experts: usize) -> Self {
        let worth = match policy {
            EvictionPolicy::Score => 1.0 / experts.max(1) as f64,
            EvictionPolicy::Lru => -1.0,
        };
        Self { policy, layers, experts, worth: vec![worth; layers * experts], tokens: 0 }
    }
}

impl Worth for Usage {
    fn chose(&mut self, layer: usize, chosen: &[usize], k: usize) {
        let own = &mut self.worth[layer * self.experts..(layer + 1) * self.experts];
        let tokens = chosen.len() / k.max(1);
        match self.policy {
            EvictionPolicy::Score => {
                let kept = (-(tokens.min(MOST_PROMPT_TOKENS) as f64) / HALF_LIFE).exp2();
                own.iter_mut().for_each(|worth| *worth *= kept);
                for &expert in chosen {
                    own[expert] += (1.0 - kept) / chosen.len() as f64;
                }
            }
            EvictionPolicy::Lru => {
                let within = layer as f64 / self.layers as f64;
                for (i, &expert) in chosen.iter().enumerate() {
                    own[expert] = self.tokens as f64 + (i / k.max(1)) as f64 + within;
                }
            }
        }
    }

    fn advance(&mut self, tokens: usize) {
        self.tokens += tokens as u64;
    }

    /// How often it is chosen, and how soon its layer comes.
    fn worth(&self, id: ExpertId, layer: usize) -> f64 {
        let worth = self.worth[id.layer * self.experts + id.expert];
        match self.policy {
            EvictionPolicy::Lru => worth,
            EvictionPolicy::Score => {
                let steps = if id.layer > layer { id.layer - layer } else { id.layer + self.layers - layer };
                worth * (1.0 - PHASE * steps as f64 / self.layers as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(layer: usize, expert: usize) -> ExpertId {
        ExpertId { layer, expert }
    }

    #[test]
    fn a_choice_counts_half_after_a_half_life_whatever_else_is_chosen() {
        let mut usage = Usage::new(EvictionPolicy::Score, 1, 4);
        usage.worth.fill(0.0);
        usage.chose(0, &[2], 1);
        let fresh = usage.worth(id(0, 2), 0);
        for _ in 0..HALF_LIFE as usize {
            usage.chose(0, &[1], 1);
        }
        assert!((usage.worth(id(0, 2), 0) / fresh - 0.5).abs() < 1e-9);
        assert!(usage.worth(id(0, 1), 0) > fresh);
    }

    #[test]
    fn of_equal_experts_the_one_whose_layer_comes_last_is_worth_least() {
        let usage = Usage::new(EvictionPolicy::Score, 4, 8);
        let order = [2, 3, 0, 1].map(|layer| usage.worth(id(layer, 5), 1));
        assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
    }

    #[test]
    fn a_prompt_counts_as_a_few_tokens_of_its_mean() {
        let mut usage = Usage::new(EvictionPolicy::Score, 1, 4);
        let prompt: Vec<usize> = (0..1000).map(|i| i % 2).collect();
        usage.chose(0, &prompt, 1);
        let kept = (-(MOST_PROMPT_TOKENS as f64) / HALF_LIFE).exp2();
        let expected = [0.25 * kept + (1.0 - kept) / 2.0, 0.25 * kept].map(|w| w * (1.0 - PHASE));
        assert!((usage.worth(id(0, 0), 0) - expected[0]).abs() < 1e-9);
        assert!((usage.worth(id(0, 3), 0) - expected[1]).abs() < 1e-9);
    }

    #[test]
    fn lru_knows_tokens_and_layers_in_their_order() {
        let mut usage = Usage::new(EvictionPolicy::Lru, 2, 4);
        usage.chose(0, &[0, 1, 1, 3], 2);
        usage.chose(1, &[0, 1, 2, 3], 2);
        usage.advance(2);
        usage.chose(0, &[2, 1], 2);
        let worth = |layer, expert| usage.worth(id(layer, expert), 0);
        assert!(worth(0, 2) > worth(1, 3) && worth(1, 3) > worth(0, 3) && worth(0, 3) > worth(1, 0) && worth(1, 0) > worth(0, 0));
    }
}
