//! The arenas on the GPU, and the table that tells kernels where an expert is.

use super::index::{ExpertLayer, Fragment};
use super::plan::{ExpertPlan, fit_binding};
use super::record::Place;
use crate::Result;
use crate::gpu::{Gpu, Slice};
use crate::kernels::{Array, BINDING_ALIGNMENT, Matrix};
use crate::packing::Layout;

/// In the table: not on the GPU.
pub(crate) const ABSENT: u32 = u32::MAX;

/// GPU memory for experts, and for the shared ones that can be computed together with them. It says nothing of what is in it.
pub(crate) struct Pools {
    pools: Vec<Pool>,
    /// The pool of each MoE layer.
    pool_of: Vec<usize>,
    /// Of each MoE layer, the slot of its shared expert, which nobody else gets; `None` where it is elsewhere.
    shared: Vec<Option<u32>>,
    /// [MoE layers, experts] u32: slot within the layer's pool, or [`ABSENT`].
    table: Slice,
    experts: usize,
}

struct Pool {
    gate_up: Vec<Matrix>,
    down: Vec<Matrix>,
    /// Where the matrices are in a record, in the same order.
    places: Vec<Place>,
}

impl Pools {
    /// Allocates what the plan says; every expert is absent.
    ///
    /// # Errors
    /// The device has no room for it.
    pub(crate) fn new(gpu: &Gpu, layers: &[ExpertLayer], plan: &ExpertPlan) -> Result<Self> {
        let (mut pools, mut pool_of, mut shared) = (Vec::new(), Vec::new(), Vec::new());
        for (p, pool) in plan.pools.iter().enumerate() {
            let record = &layers[pool.layers.start].record;
            let mut slots = pool.slots;
            shared.extend(layers[pool.layers.clone()].iter().map(|layer| {
                let joins = has_place_for_shared(layer, gpu.caps().max_binding_bytes);
                slots += usize::from(joins);
                joins.then_some(slots as u32 - 1)
            }));
            let allocate = |label, layouts: &[_]| -> Result<Vec<Matrix>> {
                layouts.iter().map(|layout| Matrix::allocate(gpu, label, *layout, slots)).collect()
            };
            pools.push(Pool {
                gate_up: allocate("experts_gate_up", &record.gate_up)?,
                down: allocate("experts_down", &record.down)?,
                places: record.places(),
            });
            pool_of.extend(pool.layers.clone().map(|_| p));
        }
        let experts = layers.iter().map(ExpertLayer::experts).max().unwrap_or(0);
        let absent = vec![ABSENT; layers.len() * experts];
        let table = gpu.upload("expert_slots", bytemuck::cast_slice(&absent))?.whole();
        Ok(Self { pools, pool_of, shared, table, experts })
    }

    /// Matrices of a MoE layer's pool: gate over up, and down. The stack's index is the slot.
    pub(crate) fn matrices(&self, layer: usize) -> (Vec<Matrix>, Vec<Matrix>) {
        let pool = &self.pools[self.pool_of[layer]];
        (pool.gate_up.clone(), pool.down.clone())
    }

    /// The slot of a MoE layer's shared expert in its pool, if it has one there.
    pub(crate) fn shared(&self, layer: usize) -> Option<u32> {
        self.shared[layer]
    }

    /// Bytes that the shared experts' places take.
    pub(crate) fn shared_bytes(&self) -> u64 {
        let pools = self.shared.iter().zip(&self.pool_of).filter(|(slot, _)| slot.is_some()).map(|(_, &pool)| &self.pools[pool]);
        pools.flat_map(|pool| &pool.places).map(|place| place.layout.bytes()).sum()
    }

    /// The table of slots.
    pub(crate) fn table(&self) -> &Slice {
        &self.table
    }

    /// Copies a part of a record into a slot, before anything that is submitted later.
    pub(crate) fn write(&self, gpu: &Gpu, layer: usize, slot: u32, (at, bytes): &Fragment) {
        let pool = &self.pools[self.pool_of[layer]];
        let end = at + bytes.len() as u64;
        for (matrix, place) in pool.gate_up.iter().chain(&pool.down).zip(&pool.places) {
            for (array, range) in [(Array::Quants, &place.quants), (Array::Side, &place.side)] {
                let (from, to) = (range.start.max(*at), range.end.min(end));
                if from < to {
                    let in_arena = u64::from(slot) * (range.end - range.start) + from - range.start;
                    matrix.write(gpu, array, in_arena, &bytes[(from - at) as usize..(to - at) as usize]);
                }
            }
        }
    }

    /// Says where an expert is from the next submission on.
    pub(crate) fn publish(&self, gpu: &Gpu, layer: usize, expert: usize, slot: Option<u32>) {
        let at = 4 * (layer * self.experts + expert) as u64;
        gpu.write_slice(&self.table, at, &slot.unwrap_or(ABSENT).to_le_bytes());
    }
}

/// Whether a layer's shared expert gets a place among the others: it is like them, can be bound alone where it lies, and one binding
/// would hold it with all of them, however many there are now. What is computed follows from it, and must not depend on the budget.
fn has_place_for_shared(layer: &ExpertLayer, max_binding: u64) -> bool {
    let [gate_up] = &layer.record.gate_up[..] else { return false };
    let [down] = &layer.record.down[..] else { return false };
    let fits = |layout: &&Layout| {
        let aligned = |words: usize| ((4 * layout.groups() * words) as u64).is_multiple_of(BINDING_ALIGNMENT);
        aligned(layout.group_quants())
            && aligned(layout.group_side())
            && fit_binding(layer.experts() + 1, layout.bytes(), max_binding)
    };
    layer.has_alike && [gate_up, down].iter().all(fits)
}
