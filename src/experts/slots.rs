//! Which expert is in which slot. Pure: it neither reads nor uploads, it decides and remembers.

use super::plan::ExpertPlan;

/// An expert of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ExpertId {
    /// Counted among the MoE layers.
    pub(crate) layer: usize,
    pub(crate) expert: usize,
}

/// The slots of all pools.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    /// Experts in a layer.
    experts: usize,
    pools: Vec<Vec<Slot>>,
    pool_of: Vec<usize>,
    /// [layers, experts]: only what is whole on the GPU.
    slot_of: Vec<Option<u32>>,
    absent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    /// Taken for an expert that is being read.
    Filling,
    Holds(ExpertId),
}

/// A slot that was taken for an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) slot: u32,
    /// The expert that was in it.
    pub(crate) evicted: Option<ExpertId>,
}

impl Slots {
    /// All free.
    pub(crate) fn new(plan: &ExpertPlan, experts: usize) -> Self {
        let layers: usize = plan.pools.iter().map(|pool| pool.layers.len()).sum();
        Self {
            experts,
            pools: plan.pools.iter().map(|pool| vec![Slot::Free; pool.slots]).collect(),
            pool_of: plan.pools.iter().enumerate().flat_map(|(p, pool)| pool.layers.clone().map(move |_| p)).collect(),
            slot_of: vec![None; layers * experts],
            absent: layers * experts,
        }
    }

    /// Where an expert is, if it is on the GPU.
    pub(crate) fn slot(&self, id: ExpertId) -> Option<u32> {
        self.slot_of[self.index(id)]
    }

    /// Whether every expert is on the GPU.
    pub(crate) fn complete(&self) -> bool {
        self.absent == 0
    }

    /// Slots that a layer shares with the others of its pool.
    pub(crate) fn capacity(&self, layer: usize) -> usize {
        self.pools[self.pool_of[layer]].len()
    }

    /// Takes a slot for an expert that is not on the GPU: a free one, or that of the expert of lowest worth which may go.
    /// The slot counts for nothing until [`Slots::fill`]. `None` if the expert is there already or none may go.
    pub(crate) fn take(
        &mut self,
        id: ExpertId,
        may_go: impl Fn(ExpertId) -> bool,
        worth: impl Fn(ExpertId) -> f64,
    ) -> Option<Taken> {
        if self.slot(id).is_some() {
            return None;
        }
        let pool = &mut self.pools[self.pool_of[id.layer]];
        let free = pool.iter().position(|slot| *slot == Slot::Free);
        let lowest = || {
            let held = pool.iter().enumerate().filter_map(|(s, slot)| match slot {
                Slot::Holds(other) if may_go(*other) => Some((s, worth(*other))),
                _ => None,
            });
            held.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(s, _)| s)
        };
        let slot = free.or_else(lowest)?;
        let before = std::mem::replace(&mut pool[slot], Slot::Filling);
        let evicted = if let Slot::Holds(other) = before { Some(other) } else { None };
        if let Some(other) = evicted {
            let index = self.index(other);
            self.slot_of[index] = None;
            self.absent += 1;
        }
        Some(Taken { slot: slot as u32, evicted })
    }

    /// The expert is whole in the slot that was taken for it.
    pub(crate) fn fill(&mut self, id: ExpertId, slot: u32) {
        self.pools[self.pool_of[id.layer]][slot as usize] = Slot::Holds(id);
        let index = self.index(id);
        if self.slot_of[index].replace(slot).is_none() {
            self.absent -= 1;
        }
    }

    /// Slots that were taken and never filled, because reading failed or nobody waited for it, are free again.
    pub(crate) fn reclaim(&mut self) {
        for slot in self.pools.iter_mut().flatten().filter(|slot| **slot == Slot::Filling) {
            *slot = Slot::Free;
        }
    }

    fn index(&self, id: ExpertId) -> usize {
        id.layer * self.experts + id.expert
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::plan::PoolPlan;
    use super::*;

    const LAYERS: usize = 4;
    const EXPERTS: usize = 6;
    const CHOSEN: usize = 2;

    fn slots(per_pool: [usize; 2]) -> Slots {
        let [first, second] = per_pool;
        let pools = vec![PoolPlan { layers: 0..3, slots: first }, PoolPlan { layers: 3..LAYERS, slots: second }];
        Slots::new(&ExpertPlan { pools, bytes: 0, experts: LAYERS * EXPERTS, raised_from: None }, EXPERTS)
    }

    fn all() -> impl Iterator<Item = ExpertId> {
        (0..LAYERS).flat_map(|layer| (0..EXPERTS).map(move |expert| ExpertId { layer, expert }))
    }

    fn consistent(slots: &Slots) {
        let mut seen = HashSet::new();
        for id in all() {
            if let Some(slot) = slots.slot(id) {
                let pool = slots.pool_of[id.layer];
                assert!((slot as usize) < slots.pools[pool].len(), "{id:?} beyond the pool's capacity");
                assert_eq!(slots.pools[pool][slot as usize], Slot::Holds(id));
                assert!(seen.insert((pool, slot)), "two experts in slot {slot}");
            }
        }
        assert_eq!(slots.absent, LAYERS * EXPERTS - seen.len());
        assert_eq!(slots.complete(), seen.len() == LAYERS * EXPERTS);
    }

    proptest! {
        /// Tokens that choose at random, reads that fail now and then, any worth.
        #[test]
        fn what_is_asked_for_is_resident_and_what_is_used_stays(
            first in 3 * (CHOSEN + 1)..=3 * EXPERTS,
            second in CHOSEN + 1..=EXPERTS,
            tokens in prop::collection::vec(
                prop::collection::vec((0..EXPERTS, 1..EXPERTS, any::<u8>(), 0..10u8), LAYERS), 1..40),
        ) {
            let mut slots = slots([first, second]);
            for token in tokens {
                let mut used: HashSet<ExpertId> = HashSet::new();
                for (layer, (one, apart, salt, failure)) in token.into_iter().enumerate() {
                    let chosen = [one, (one + apart) % EXPERTS].map(|expert| ExpertId { layer, expert });
                    used.extend(chosen);
                    for id in chosen {
                        let before = slots.slot(id);
                        let worth = |id: ExpertId| f64::from((id.expert * 31 + id.layer * 7) as u8 ^ salt);
                        let taken = slots.take(id, |other| !used.contains(&other), worth);
                        prop_assert_eq!(taken.is_some(), before.is_none());
                        let Some(taken) = taken else { continue };
                        if let Some(evicted) = taken.evicted {
                            prop_assert!(!used.contains(&evicted));
                            prop_assert_eq!(slots.pool_of[evicted.layer], slots.pool_of[layer]);
                            prop_assert_eq!(slots.slot(evicted), None);
                        }
                        prop_assert_eq!(slots.slot(id), None);
                        if failure == 0 {
                            slots.reclaim();
                            prop_assert!(slots.take(id, |_| false, |_| 0.0).is_some(), "a reclaimed slot is free");
                            slots.reclaim();
                            used.remove(&id);
                        } else {
                            slots.fill(id, taken.slot);
                            prop_assert!(slots.slot(id).is_some());
                        }
                        consistent(&slots);
                    }
                }
            }
        }
    }

    #[test]
    fn the_least_worth_goes_and_only_if_it_may() {
        let mut slots = slots([9, 3]);
        let id = |expert| ExpertId { layer: 3, expert };
        for expert in 0..3 {
            let taken = slots.take(id(expert), |_| false, |_| 0.0).unwrap();
            assert_eq!(taken.evicted, None);
            slots.fill(id(expert), taken.slot);
        }
        assert_eq!(slots.take(id(4), |_| false, |_| 0.0), None);
        let worth = |other: ExpertId| [5.0, 1.0, 3.0][other.expert];
        assert_eq!(slots.take(id(4), |_| true, worth).unwrap().evicted, Some(id(1)));
        slots.reclaim();
        assert_eq!(slots.take(id(4), |_| true, worth).unwrap().evicted, None);
        assert_eq!(slots.take(id(5), |other| other != id(2), worth).unwrap().evicted, Some(id(0)));
        assert_eq!(slots.capacity(3), 3);
    }
}
