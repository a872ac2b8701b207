//! `moxel synth`: a mixture of experts with random weights, packed.

use moxel::PackOptions;
use moxel::weights::Checkpoint;

use super::pack;
use crate::args::{SynthArgs, usage_error};
use crate::synth::{self, ENTRY, HIDDEN_STEP, Size};

/// A hundred times the experts of the largest models.
const MOST_EXPERT_MB: f64 = 10_000.0;

pub fn run(args: &SynthArgs) -> anyhow::Result<()> {
    let [layers, experts, chosen, hidden] = [args.layers, args.experts, args.top_k, args.hidden].map(|n| n as usize);
    if chosen > experts {
        usage_error(format!("--top-k {chosen} is more than --experts {experts}"));
    }
    if !hidden.is_multiple_of(HIDDEN_STEP) {
        usage_error(format!("--hidden {hidden} is no multiple of {HIDDEN_STEP}"));
    }
    if !(args.expert_mb > 0.0 && args.expert_mb <= MOST_EXPERT_MB) {
        usage_error(format!("--expert-mb {} is not between 0 and {MOST_EXPERT_MB}", args.expert_mb));
    }
    let size = Size::new(layers, experts, chosen, hidden, (args.expert_mb * 1e6) as u64);
    let checkpoint = pollster::block_on(Checkpoint::open(synth::source(size, args.seed), ENTRY))?;
    // The weights are random in 4 bits already.
    pack::write(&checkpoint, &args.out, &PackOptions::default(), false)
}
