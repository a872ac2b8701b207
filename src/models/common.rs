//! What most families share: the two ends, attention projections, gated feed-forward layers.

use super::names::{Module, Names};
use super::{Ends, Loader};
use crate::config::ConfigReader;
use crate::dims::Dims;
use crate::gpu::Slice;
use crate::layers::{Linear, Mlp};
use crate::rope::Rope;
use crate::weights::Checkpoint;
use crate::{Error, Result};

/// Keys of a Hugging Face configuration that do not change the text model's mathematics. Whether embeddings are tied
/// follows from the tensors that are there.
pub(super) const HARMLESS: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "is_llama_config",
    "model_type",
    "pad_token_id",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "use_cache",
];
/// The same for GGUF metadata.
pub(super) const HARMLESS_GGUF: &[&str] = &["general.", "tokenizer.", "quantize.", "split."];

/// Whole names, without a layer.
pub(super) const EMBEDDING: Module = ("model.embed_tokens.weight", "token_embd.weight");
pub(super) const HEAD: Module = ("lm_head.weight", "output.weight");

pub(super) const ATTENTION: [Module; 4] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
];
pub(super) const ATTENTION_NORM: Module = ("input_layernorm", "attn_norm");
pub(super) const FFN_NORM: Module = ("post_attention_layernorm", "ffn_norm");

/// Embedding, final norm and head; without a head the embedding serves.
pub(super) fn ends(loader: &mut Loader<'_>, names: Names, dims: &Dims, eps: f32) -> Result<Ends> {
    let (embedding, head) = (names.global(EMBEDDING), names.global(HEAD));
    let source = [loader.matrix(&embedding, dims.vocab, dims.hidden)?];
    let embedding = loader.linear("token_embd", &source, &[])?;
    let norm = loader.norm(&names.global(("model.norm.weight", "output_norm.weight")), dims.hidden, eps)?;
    let head = if loader.has(&head)? {
        let source = [loader.matrix(&head, dims.vocab, dims.hidden)?];
        loader.linear("output", &source, &[])?
    } else {
        embedding.clone()
    };
    Ok(Ends { embedding, norm, head })
}

/// The stacked q, k and v projections of layer `l`, and the output projection. Biases on q, k and v may come without one
/// on the output.
pub(super) fn attention_projections(
    loader: &mut Loader<'_>,
    names: Names,
    l: usize,
    dims: &Dims,
    bias: bool,
) -> Result<(Linear, Linear)> {
    let [q, k, v, o] = ATTENTION;
    let (all, kv) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
    let qkv = [
        loader.matrix(&names.weight(l, q), all, dims.hidden)?,
        loader.matrix(&names.weight(l, k), kv, dims.hidden)?,
        loader.matrix(&names.weight(l, v), kv, dims.hidden)?,
    ];
    let out = [loader.matrix(&names.weight(l, o), dims.hidden, all)?];
    let qkv = loader.linear("attn_qkv", &qkv, &names.biases(l, bias, &[q, k, v]))?;
    let out_bias = names.biases(l, bias, &[o]);
    let out_bias = if out_bias.iter().all(|name| loader.has(name).unwrap_or(true)) { out_bias } else { Vec::new() };
    Ok((qkv, loader.linear("attn_output", &out, &out_bias)?))
}

/// A gated feed-forward layer of layer `l`.
pub(super) fn mlp(
    loader: &mut Loader<'_>,
    names: Names,
    l: usize,
    [gate, up, down]: [Module; 3],
    (hidden, inner): (usize, usize),
    bias: bool,
) -> Result<Mlp> {
    let gate_up = [loader.matrix(&names.weight(l, gate), inner, hidden)?, loader.matrix(&names.weight(l, up), inner, hidden)?];
    let down_matrix = [loader.matrix(&names.weight(l, down), hidden, inner)?];
    Ok(Mlp {
        gate_up: loader.linear("ffn_gate_up", &gate_up, &names.biases(l, bias, &[gate, up]))?,
        down: loader.linear("ffn_down", &down_matrix, &names.biases(l, bias, &[down]))?,
    })
}

/// The table of rotations. A GGUF file may divide their frequencies further by `rope_freqs.weight` (Llama 3 scaling).
pub(super) fn rope_table(loader: &mut Loader<'_>, names: Names, rope: &Rope, head_dim: usize) -> Result<Slice> {
    const DIVISORS: &str = "rope_freqs.weight";
    let divisors = (names == Names::Gguf && loader.has(DIVISORS)?).then_some(DIVISORS);
    loader.rope_table(rope.frequencies(head_dim), divisors)
}

/// The largest sizes that are believed: a file's word must neither overflow a product nor allocate.
pub(super) mod most {
    pub(in crate::models) const LAYERS: usize = 4096;
    pub(in crate::models) const HEADS: usize = 65_536;
    pub(in crate::models) const WIDTH: usize = 1 << 20;
    pub(in crate::models) const VOCABULARY: usize = 1 << 24;
}

/// A positive integer of at most `most`.
pub(super) fn size(config: &ConfigReader<'_>, key: &str, most: usize) -> Result<usize> {
    within(config, key, config.usize(key)?, most)
}

/// The same, or `default` if the key is absent.
pub(super) fn size_or(config: &ConfigReader<'_>, key: &str, default: usize, most: usize) -> Result<usize> {
    within(config, key, config.usize_or(key, default)?, most)
}

fn within(config: &ConfigReader<'_>, key: &str, value: usize, most: usize) -> Result<usize> {
    if value <= most { Ok(value) } else { Err(config.error(key, &format!("{value} is more than {most}"))) }
}

/// Refuses a value of a key that is known but has only one supported value.
pub(super) fn expect<T: PartialEq + std::fmt::Debug>(config: &ConfigReader<'_>, key: &str, value: T, supported: T) -> Result<()> {
    if value == supported {
        return Ok(());
    }
    Err(config.error(key, &format!("{value:?} is not supported, only {supported:?}")))
}

/// The vocabulary's size in GGUF metadata: its own key, or the rows of the embedding matrix.
pub(super) fn gguf_vocab(keys: &ConfigReader<'_>, checkpoint: &Checkpoint) -> Result<usize> {
    if keys.has("vocab_size") {
        return size(keys, "vocab_size", most::VOCABULARY);
    }
    let embedding = checkpoint.tensor("token_embd.weight")?;
    match embedding.shape[..] {
        [rows, _] => Ok(rows),
        _ => Err(Error::Tensor { name: embedding.name.clone(), problem: "is not a matrix".into() }),
    }
}

/// Heads of a GGUF file's model are as wide for values as for keys, and turn whole.
pub(super) fn expect_whole_heads(keys: &ConfigReader<'_>, head_dim: usize) -> Result<()> {
    for key in ["attention.value_length", "rope.dimension_count"] {
        expect(keys, key, keys.usize_or(key, head_dim)?, head_dim)?;
    }
    Ok(())
}
