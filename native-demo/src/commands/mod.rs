//! One file per command.

pub mod adapters;
pub mod chat;
pub mod demo_model;
pub mod generate;
pub mod inspect;
pub mod logits;
pub mod pack;
pub mod replay;
pub mod synth;
pub mod tune;
