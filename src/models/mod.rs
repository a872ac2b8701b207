//! Model families: one file each, with the family's configuration keys, tensor names, shapes and order of layers.
//!
//! Adding one is a file with an [`Architecture`], an arm in [`architecture`], and a golden in `tests/golden`.

mod common;
mod fill;
mod info;
mod llama;
mod llama4;
mod loader;
mod names;
mod roles;

pub(crate) use fill::fill;
pub(crate) use info::plan_experts;
pub use info::{ModelInfo, expert_plan};
pub(crate) use loader::Loader;
pub(crate) use roles::{Role, role};

use crate::Result;
use crate::config::ConfigReader;
use crate::dims::Dims;
use crate::experts::ExpertLayer;
use crate::kernels::{Activations, Norm, embed};
use crate::layers::{Linear, Pass, Reader};
use crate::weights::{Checkpoint, Format, MaybeSend, MaybeSync};

/// A model's configuration, read and checked; no weight has been touched.
pub(crate) trait Architecture: MaybeSend + MaybeSync {
    /// The sizes of its layers.
    fn dims(&self) -> Dims;

    /// The positions that it was trained for.
    fn trained_context(&self) -> usize;

    /// Indices of the layers with experts.
    fn moe_layers(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Where the experts of each of these layers are in the checkpoint.
    ///
    /// # Errors
    /// They are missing, or their shapes or formats are not what the configuration says.
    fn expert_layers(&self, _checkpoint: &Checkpoint) -> Result<Vec<ExpertLayer>> {
        Ok(Vec::new())
    }

    /// Makes room for the weights on the GPU, all but the experts', and tells the loader what to read into it.
    ///
    /// # Errors
    /// Tensors are missing or have other shapes or formats than the configuration says, or the GPU has no room.
    fn bind(&self, loader: &mut Loader<'_>) -> Result<Box<dyn Model>>;
}

/// A model bound to its weights' memory on the GPU.
pub(crate) trait Model: MaybeSend + MaybeSync {
    /// Embeds the step's tokens and runs all layers: what remains is in the residual stream, and of one token for the head.
    fn record_layers(&self, pass: &mut Pass<'_>) -> Option<Activations>;

    /// The parts that every model has.
    fn ends(&self) -> &Ends;
}

/// The two ends of every model.
pub(crate) struct Ends {
    /// One matrix: a single tensor.
    pub(crate) embedding: Linear,
    pub(crate) norm: Norm,
    pub(crate) head: Linear,
}

impl Ends {
    /// Embeds the step's tokens, and the norm of that for the first layer.
    pub(crate) fn embed(&self, pass: &mut Pass<'_>, next: Reader<'_>) -> Activations {
        for (matrix, _) in &self.embedding.matrices {
            embed(&mut pass.r, matrix, &pass.s.step, &pass.s.x, pass.tokens);
        }
        pass.normed(next, 0, pass.tokens)
    }

    /// What the head reads of the residual stream. Of several tokens not all are asked for: then it normalises them itself.
    pub(crate) fn reader(&self, pass: &Pass<'_>) -> Option<Reader<'_>> {
        let reader = Reader { norm: &self.norm, takes_bytes: self.head.takes_bytes() };
        (pass.tokens == 1).then_some(reader)
    }

    /// Logits of `rows` tokens of the pass from `first` on, into the first rows of the logits; `h` is what the layers have left
    /// for them.
    pub(crate) fn record_head(&self, pass: &mut Pass<'_>, h: Option<Activations>, first: usize, rows: usize) {
        let reader = Reader { norm: &self.norm, takes_bytes: self.head.takes_bytes() };
        let h = h.unwrap_or_else(|| pass.normed(reader, first, rows));
        self.head.record(pass, &h, rows, &pass.s.logits, self.head.rows, false);
    }
}

/// Reads the configuration of any supported model.
///
/// # Errors
/// An unknown architecture, a missing or wrong key, or a key that changes the mathematics and is not known.
pub(crate) fn architecture(checkpoint: &Checkpoint) -> Result<Box<dyn Architecture>> {
    let config = ConfigReader::new(checkpoint.file(), checkpoint.config());
    let (key, format) = match checkpoint.format() {
        Format::HuggingFace => ("model_type", Format::HuggingFace),
        Format::Gguf => ("general.architecture", Format::Gguf),
    };
    Ok(match (config.str(key)?, format) {
        ("llama", Format::HuggingFace) => Box::new(llama::Llama::from_huggingface(&config)?),
        ("llama", Format::Gguf) => Box::new(llama::Llama::from_gguf(&config, checkpoint)?),
        ("llama4" | "llama4_text", Format::HuggingFace) => Box::new(llama4::Llama4::from_huggingface(&config)?),
        ("llama4", Format::Gguf) => Box::new(llama4::Llama4::from_gguf(&config, checkpoint)?),
        (other, _) => return Err(config.error(key, &format!("{other:?} is not supported (llama and llama4 are)"))),
    })
}

/// Checks that hold for every model before its sizes are used.
pub(crate) fn check_dims(config: &ConfigReader<'_>, dims: &Dims) -> Result<()> {
    use crate::kernels::{MAX_EXPERTS, MAX_HEAD_DIM};
    let keys = |hf: &'static str, gguf: &'static str| if config.has("hidden_size") { hf } else { gguf };
    let fail = |key, problem: String| Err(config.error(key, &problem));
    if !dims.heads.is_multiple_of(dims.kv_heads) {
        let problem = format!("{} does not divide into {} key-value heads", dims.heads, dims.kv_heads);
        return fail(keys("num_attention_heads", "attention.head_count"), problem);
    }
    if dims.head_dim == 0 || !dims.head_dim.is_multiple_of(4) || dims.head_dim > MAX_HEAD_DIM {
        let problem = format!("{} is not a multiple of 4 up to {MAX_HEAD_DIM}", dims.head_dim);
        return fail(keys("head_dim", "attention.key_length"), problem);
    }
    if dims.moe_layers > 0 && (dims.experts > MAX_EXPERTS || dims.chosen > dims.experts) {
        let problem = format!("{} of {} experts (at most {MAX_EXPERTS}) cannot be chosen", dims.chosen, dims.experts);
        return fail(keys("num_experts_per_tok", "expert_used_count"), problem);
    }
    Ok(())
}
