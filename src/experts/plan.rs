//! How many experts get a place on the GPU, and in which arenas: pure arithmetic, before anything is allocated.

use std::fmt;
use std::ops::Range;

use super::ExpertBudget;
use super::index::ExpertLayer;
use super::record::Record;
use crate::kernels::BINDING_ALIGNMENT;
use crate::packing::Layout;
use crate::{Error, Result};

/// How many of a model's routed experts have a place on the GPU. Its text says it in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertPlan {
    pub(crate) pools: Vec<PoolPlan>,
    pub(super) bytes: u64,
    pub(super) experts: usize,
    /// Slots that the budget alone would have given, where it was raised to the least that works.
    pub(super) raised_from: Option<usize>,
}

/// Slots that some MoE layers with equal records share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolPlan {
    /// Counted among the MoE layers.
    pub(crate) layers: Range<usize>,
    pub(crate) slots: usize,
}

/// What a plan needs to know of a layer's experts.
pub(super) trait Footprint {
    /// Bytes that an expert takes on the GPU.
    fn slot_bytes(&self) -> u64;
    /// Of these, bytes of the largest matrix.
    fn largest_matrix(&self) -> u64;
    /// Whether one slot suits both.
    fn alike(&self, other: &Self) -> bool;
}

impl Footprint for Record {
    fn slot_bytes(&self) -> u64 {
        self.content()
    }

    fn largest_matrix(&self) -> u64 {
        self.matrices().map(Layout::bytes).max().unwrap_or(0)
    }

    fn alike(&self, other: &Self) -> bool {
        self == other
    }
}

impl ExpertPlan {
    /// Experts that have a place.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.pools.iter().map(|pool| pool.slots).sum()
    }

    /// Routed experts of the model.
    #[must_use]
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Bytes of GPU memory that the places take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether every expert has a place.
    #[must_use]
    pub fn holds_all(&self) -> bool {
        self.slots() == self.experts
    }

    /// Plans for `layers`, of whose experts `chosen` are used by each token, on a device that binds `max_binding` bytes.
    /// `Auto` has room for all.
    ///
    /// # Errors
    /// Fewer bytes than the least that works.
    pub(crate) fn new(layers: &[ExpertLayer], chosen: usize, max_binding: u64, budget: ExpertBudget) -> Result<Self> {
        let shapes: Vec<_> = layers.iter().map(|layer| (&layer.record, layer.experts())).collect();
        Self::from_shapes(&shapes, chosen, max_binding, budget)
    }

    pub(super) fn from_shapes<F: Footprint>(
        layers: &[(&F, usize)],
        chosen: usize,
        max_binding: u64,
        budget: ExpertBudget,
    ) -> Result<Self> {
        let all: u64 = layers.iter().map(|(record, experts)| record.slot_bytes() * *experts as u64).sum();
        let floor = |experts: usize| (chosen + 1).min(experts);
        let least: u64 = layers.iter().map(|(record, experts)| record.slot_bytes() * floor(*experts) as u64).sum();
        if let ExpertBudget::Bytes(bytes) = budget
            && bytes < least
        {
            return Err(Error::Request(format!(
                "an expert budget of {bytes} bytes is too small for this model; the least that works is {least} bytes"
            )));
        }
        let (mut pools, mut bytes, mut wanted) = (Vec::new(), 0, 0);
        let mut first = 0;
        while let Some(&(record, experts)) = layers.get(first) {
            let slots = |layers: usize| {
                let experts_here = layers * experts;
                let by_share = match budget {
                    ExpertBudget::Auto => experts_here,
                    ExpertBudget::Percent(share) => (share / 100.0 * experts_here as f64).round() as usize,
                    // Exact: bytes must neither be exceeded nor given away by rounding.
                    ExpertBudget::Bytes(bytes) => {
                        let share = u128::from(bytes) * experts_here as u128 / u128::from(all.max(1));
                        usize::try_from(share).unwrap_or(usize::MAX)
                    }
                };
                let by_share = by_share.min(experts_here);
                (by_share, (layers * floor(experts)).max(by_share))
            };
            // As many layers as one binding holds, their shared experts included; slots that more layers share are used better.
            let matrix = record.largest_matrix();
            let fits = |layers: usize| fit_binding(slots(layers).1 + layers, matrix, max_binding);
            let equal = layers[first..].iter().take_while(|layer| layer.1 == experts && layer.0.alike(record)).count();
            let count = (1..=equal).take_while(|&count| count == 1 || fits(count)).last().unwrap_or(1);
            let (unraised, slots) = slots(count);
            pools.push(PoolPlan { layers: first..first + count, slots });
            bytes += slots as u64 * record.slot_bytes();
            wanted += unraised;
            first += count;
        }
        let slots = pools.iter().map(|pool| pool.slots).sum::<usize>();
        let experts = layers.iter().map(|(_, experts)| experts).sum();
        Ok(Self { pools, bytes, experts, raised_from: (wanted < slots).then_some(wanted) })
    }
}

/// Whether so many matrices of this size are one binding: both arrays of a matrix are in one buffer, which may be no larger.
pub(super) fn fit_binding(matrices: usize, bytes: u64, max_binding: u64) -> bool {
    (matrices as u64).saturating_mul(bytes).saturating_add(BINDING_ALIGNMENT) <= max_binding
}

impl fmt::Display for ExpertPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.bytes as f64 / 1e6;
        if self.holds_all() {
            return write!(f, "all {} on the GPU ({megabytes:.0} MB)", self.experts);
        }
        let share = 100.0 * self.slots() as f64 / self.experts as f64;
        write!(f, "{} of {} on the GPU ({share:.0} %, {megabytes:.0} MB), the others are streamed", self.slots(), self.experts)?;
        match self.raised_from {
            Some(wanted) => write!(f, "; the budget of {wanted} was raised to the least that works"),
            None => Ok(()),
        }
    }
}

/// Makes what a budget asks for. `Auto` takes as much as `make` finds memory for, from all experts down to the least.
///
/// # Errors
/// As [`ExpertPlan::new`] and `make`.
pub(crate) async fn allocate<T>(
    budget: ExpertBudget,
    plan: impl Fn(ExpertBudget) -> Result<ExpertPlan>,
    mut make: impl AsyncFnMut(&ExpertPlan) -> Result<T>,
) -> Result<(ExpertPlan, T)> {
    if budget == ExpertBudget::Auto {
        for percent in (1..=10).rev() {
            let smaller = plan(ExpertBudget::Percent(f64::from(10 * percent)))?;
            match make(&smaller).await {
                Ok(made) => return Ok((smaller, made)),
                // No memory: try with less.
                Err(Error::Memory(_)) if smaller.raised_from.is_none() && percent > 1 => {}
                Err(error) => return Err(error),
            }
        }
    }
    let plan = plan(budget)?;
    let made = make(&plan).await?;
    Ok((plan, made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Layout;
    use crate::weights::DType;

    fn record(inner: usize) -> Record {
        Record { gate_up: vec![Layout::new(DType::Q4_1, 2 * inner, 64)], down: vec![Layout::new(DType::Q4_1, 64, inner)] }
    }

    fn plan(layers: &[(&Record, usize)], chosen: usize, max_binding: u64, budget: ExpertBudget) -> Result<ExpertPlan> {
        ExpertPlan::from_shapes(layers, chosen, max_binding, budget)
    }

    #[test]
    fn shares_are_of_all_experts_and_raised_to_the_floor() {
        let record = record(32);
        let layers = vec![(&record, 8); 15];
        for (share, slots, raised_from) in
            [(100.0, 120, None), (50.0, 60, None), (37.5, 45, None), (25.0, 30, None), (5.0, 30, Some(6))]
        {
            let plan = plan(&layers, 1, 1 << 30, ExpertBudget::Percent(share)).unwrap();
            assert_eq!((plan.slots(), plan.raised_from), (slots, raised_from), "{share} %");
            assert_eq!(plan.bytes, slots as u64 * record.content());
            assert_eq!(plan.pools.len(), 1);
        }
        // No more slots than experts: two experts, both chosen.
        assert_eq!(plan(&[(&record, 2)], 2, 1 << 30, ExpertBudget::Percent(1.0)).unwrap().slots(), 2);
    }

    #[test]
    fn bytes_are_kept_or_refused_with_the_least() {
        let record = record(32);
        let layers = vec![(&record, 8); 4];
        let least = 4 * 2 * record.content();
        let why = plan(&layers, 1, 1 << 30, ExpertBudget::Bytes(least - 1)).unwrap_err().to_string();
        assert!(why.contains(&least.to_string()), "{why}");
        for bytes in [least, least + 1, 3 * least - 1, 1 << 40] {
            let plan = plan(&layers, 1, 1 << 30, ExpertBudget::Bytes(bytes)).unwrap();
            assert!(plan.bytes <= bytes && plan.slots() <= 32);
            let again = self::plan(&layers, 1, 1 << 30, ExpertBudget::Bytes(plan.bytes)).unwrap();
            assert_eq!(again.slots(), plan.slots(), "what a plan takes is enough for it");
        }
    }

    #[test]
    fn a_pool_fits_one_binding_where_it_can() {
        let (small, large) = (record(32), record(64));
        let matrix = small.largest_matrix();
        let layers = [(&small, 8), (&small, 8), (&small, 8), (&large, 8), (&small, 8)];
        let plan = plan(&layers, 1, 18 * matrix + BINDING_ALIGNMENT, ExpertBudget::Auto).unwrap();
        let pools: Vec<_> = plan.pools.iter().map(|pool| (pool.layers.clone(), pool.slots)).collect();
        assert_eq!(pools, [(0..2, 16), (2..3, 8), (3..4, 8), (4..5, 8)]);
        // One layer that does not fit is a pool of its own, split over buffers.
        let plan = super::tests::plan(&layers[..2], 1, matrix, ExpertBudget::Auto).unwrap();
        assert_eq!(plan.pools.len(), 2);
    }

    #[test]
    fn auto_takes_what_there_is_memory_for() {
        let record = record(32);
        let layers = vec![(&record, 10); 4];
        let plan = |budget| plan(&layers, 1, 1 << 30, budget);
        let with_room_for = |slots: usize| {
            let make = async |plan: &ExpertPlan| if plan.slots() <= slots { Ok(()) } else { Err(Error::Memory("none".into())) };
            pollster::block_on(allocate(ExpertBudget::Auto, plan, make)).map(|(plan, ())| plan.slots())
        };
        assert_eq!(with_room_for(40).unwrap(), 40);
        assert_eq!(with_room_for(39).unwrap(), 36);
        assert_eq!(with_room_for(8).unwrap(), 8);
        assert!(with_room_for(7).is_err(), "the least does not fit");
        let fixed = allocate(ExpertBudget::Percent(50.0), plan, async |_| Err::<(), _>(Error::Memory("none".into())));
        let fixed = pollster::block_on(fixed);
        assert!(fixed.is_err(), "what was asked for is not changed in silence");
    }
}
