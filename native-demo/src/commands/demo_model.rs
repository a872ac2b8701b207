//! `moxel demo-model`: the demo mixture of experts, packed.

use moxel::weights::Checkpoint;
use moxel::{PackOptions, PackWeights};

use super::pack;
use crate::args::DemoModelArgs;
use crate::demo_model;

pub fn run(args: &DemoModelArgs) -> anyhow::Result<()> {
    let source = pollster::block_on(demo_model::open(&args.gguf))?;
    let checkpoint = pollster::block_on(Checkpoint::open(source, ""))?;
    pack::write(&checkpoint, &args.out, &PackOptions { weights: PackWeights::Q4, ..PackOptions::default() }, false)
}
