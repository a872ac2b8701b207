//! One forward pass while it is being recorded.

use super::scratch::ByteBuffers;
use super::{Linear, Scratch};
use crate::gpu::{Recorder, Slice};
use crate::kernels::{Activations, KernelChoice, quantize};
use crate::kv_cache::KvCache;

pub(crate) struct Pass<'a> {
    pub(crate) r: Recorder,
    pub(crate) s: &'a Scratch,
    pub(crate) kv: &'a KvCache,
    pub(crate) choice: KernelChoice,
    /// [MoE layers, experts]: the slots of the experts.
    pub(crate) table: &'a Slice,
    /// Whether experts come in turns: then a prompt's tokens go to those that the scratch's own table names.
    pub(crate) in_turns: bool,
    /// Tokens in the pass.
    pub(crate) tokens: usize,
}

impl Pass<'_> {
    /// `rows` rows of `cols` floats, also as bytes if one of `readers` multiplies bytes.
    pub(crate) fn activations(
        &mut self,
        floats: &Slice,
        cols: usize,
        rows: usize,
        bytes: &ByteBuffers,
        readers: &[&Linear],
    ) -> Activations {
        // One row is multiplied by matvec, and so are the few pairs of a single token.
        let bytes_multiplied = if self.tokens > 1 && rows > 1 { self.choice.matmul.bytes() } else { self.choice.matvec.bytes() };
        let wanted = bytes_multiplied && readers.iter().any(|linear| linear.is_quantized());
        if wanted {
            quantize(&mut self.r, floats, &bytes.0, &bytes.1, rows * cols.div_ceil(32));
        }
        Activations { floats: floats.clone(), bytes: wanted.then(|| bytes.clone()) }
    }
}
