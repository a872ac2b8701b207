//! Every kernel on a real adapter against its CPU twin in `reference`. Outputs are poisoned before each run, so that an
//! element that was not written, or written where it should not be, is seen.

mod attention;
mod blocks;
mod cache;
mod chromium;
mod embed;
mod fused;
mod harness;
mod layers;
mod product;
mod prompt_attention;
mod rope_append;
mod routing;
mod sample;
mod translation;
mod variants;
mod weights;
mod yardsticks;
