//! Sampling: the steps of `crate::sampler`, in f32.

use super::{params, u32_of};
use crate::gpu::{Dispatch, Recorder, Shader, Slice};

params! { cols: u32, last: u32 }

/// The most recent tokens that a penalty can look at: they are compared with each other.
pub(crate) const MOST_RECENT: usize = 256;

/// One draw and its options, see [`crate::sampler::SamplingOptions`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draw {
    /// Between 0 and 1.
    pub(crate) random: f32,
    /// 0: the likeliest token.
    pub(crate) temperature: f32,
    /// 0: no limit.
    pub(crate) top_k: usize,
    pub(crate) top_p: f32,
    pub(crate) min_p: f32,
    /// 1: none.
    pub(crate) penalty: f32,
}

/// Where sampling reads and writes.
pub(crate) struct SampleSlices<'a> {
    /// [cols], changed by the penalty.
    pub(crate) logits: &'a Slice,
    /// Position and token ids of the pass.
    pub(crate) step: &'a Slice,
    /// [`DRAW_WORDS`]: what [`Draw::words`] says.
    pub(crate) draw: &'a Slice,
    /// [cols, 2]: room to sort in.
    pub(crate) candidates: &'a Slice,
    /// [2]: the id, and the bits of the highest logit, or of a NaN where a logit is none or infinite.
    pub(crate) result: &'a Slice,
}

/// Words of a [`Draw`] with all the recent tokens that it can have.
pub(crate) const DRAW_WORDS: usize = 8 + MOST_RECENT;

impl Draw {
    /// What the kernel reads; `recent` are the tokens that are penalised besides the pass's last one.
    pub(crate) fn words(&self, recent: &[u32]) -> Vec<u32> {
        let options = [
            self.random.to_bits(),
            self.temperature.to_bits(),
            u32_of(self.top_k),
            self.top_p.to_bits(),
            self.min_p.to_bits(),
            self.penalty.to_bits(),
            u32::from(self.top_k > 0 || self.top_p < 1.0),
            u32_of(recent.len()),
        ];
        [&options[..], recent].concat()
    }
}

/// Chooses the token that follows the last of `tokens` tokens by `cols` logits.
pub(crate) fn sample(r: &mut Recorder, s: &SampleSlices<'_>, cols: usize, tokens: usize) {
    let bindings = [s.logits, s.step, s.draw, s.candidates, s.result];
    r.dispatch(Dispatch {
        shader: shader(),
        params: Params { cols: u32_of(cols), last: u32_of(tokens) }.bytes(),
        bindings: (1..).zip(bindings.map(Slice::clone)).collect(),
        groups: [1, 1, 1],
        weight_bytes: 0,
    });
}

pub(super) fn shader() -> Shader {
    Shader::new("sample")
}
