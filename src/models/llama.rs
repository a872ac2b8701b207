//! Llama 2 and 3, SmolLM2, TinyLlama and other dense models of the `llama` architecture.
//!
//! Reference: `models/llama/modeling_llama.py` of transformers.

use super::common::{
    ATTENTION_NORM, FFN_NORM, HARMLESS, HARMLESS_GGUF, attention_projections, ends, expect, expect_whole_heads, gguf_vocab, mlp,
    most, rope_table, size, size_or,
};
use super::names::{Module, Names};
use super::{Architecture, Ends, Loader, Model, check_dims};
use crate::Result;
use crate::config::ConfigReader;
use crate::dims::Dims;
use crate::kernels::{Activations, Norm, Rotate};
use crate::layers::{Attention, Mlp, Pass};
use crate::rope::Rope;
use crate::weights::Checkpoint;

pub(super) const MLP: [Module; 3] = [("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")];

pub(super) struct Llama {
    dims: Dims,
    trained_context: usize,
    eps: f32,
    rope: Rope,
    rotate: Rotate,
    attention_bias: bool,
    mlp_bias: bool,
    names: Names,
}

impl Llama {
    pub(super) fn from_huggingface(config: &ConfigReader<'_>) -> Result<Self> {
        let (hidden, heads) = (size(config, "hidden_size", most::WIDTH)?, size(config, "num_attention_heads", most::HEADS)?);
        let dims = Dims {
            hidden,
            vocab: size(config, "vocab_size", most::VOCABULARY)?,
            layers: size(config, "num_hidden_layers", most::LAYERS)?,
            heads,
            kv_heads: size_or(config, "num_key_value_heads", heads, most::HEADS)?,
            head_dim: config.usize_or("head_dim", hidden / heads)?,
            inner: size(config, "intermediate_size", most::WIDTH)?,
            ..Dims::default()
        };
        check_dims(config, &dims)?;
        expect(config, "hidden_act", config.opt_str("hidden_act")?.unwrap_or("silu"), "silu")?;
        expect(config, "pretraining_tp", config.usize_or("pretraining_tp", 1)?, 1)?;
        let model = Self {
            dims,
            trained_context: config.usize_or("max_position_embeddings", 2048)?,
            eps: config.f32_or("rms_norm_eps", 1e-6)?,
            rope: Rope::from_huggingface(config, 10_000.0)?,
            rotate: Rotate::Halves,
            attention_bias: config.bool_or("attention_bias", false)?,
            mlp_bias: config.bool_or("mlp_bias", false)?,
            names: Names::HuggingFace { prefix: "" },
        };
        config.finish(HARMLESS)?;
        Ok(model)
    }

    pub(super) fn from_gguf(config: &ConfigReader<'_>, checkpoint: &Checkpoint) -> Result<Self> {
        let keys = config.with_prefix("llama.");
        let (hidden, heads) = (size(&keys, "embedding_length", most::WIDTH)?, size(&keys, "attention.head_count", most::HEADS)?);
        let dims = Dims {
            hidden,
            vocab: gguf_vocab(&keys, checkpoint)?,
            layers: size(&keys, "block_count", most::LAYERS)?,
            heads,
            kv_heads: size_or(&keys, "attention.head_count_kv", heads, most::HEADS)?,
            head_dim: keys.usize_or("attention.key_length", hidden / heads)?,
            inner: size(&keys, "feed_forward_length", most::WIDTH)?,
            ..Dims::default()
        };
        check_dims(&keys, &dims)?;
        expect_whole_heads(&keys, dims.head_dim)?;
        expect(&keys, "expert_count", keys.opt_count("expert_count")?.unwrap_or(0), 0)?;
        expect(&keys, "expert_used_count", keys.opt_count("expert_used_count")?.unwrap_or(0), 0)?;
        let model = Self {
            dims,
            trained_context: keys.usize_or("context_length", 2048)?,
            eps: keys.f32("attention.layer_norm_rms_epsilon")?,
            rope: Rope::from_gguf(&keys)?,
            // The converter reorders the rows of q and k.
            rotate: Rotate::Adjacent,
            attention_bias: checkpoint.find("blk.0.attn_q.bias")?.is_some(),
            mlp_bias: checkpoint.find("blk.0.ffn_gate.bias")?.is_some(),
            names: Names::Gguf,
        };
        // Older converters say where the weights came from.
        config.finish(&[HARMLESS_GGUF, &["llama.tensor_data_layout"]].concat())?;
        Ok(model)
    }

    fn bound(&self, loader: &mut Loader<'_>) -> Result<LoadedLlama> {
        let (names, dims) = (self.names, &self.dims);
        let rope_table = rope_table(loader, names, &self.rope, dims.head_dim)?;
        let ends = ends(loader, names, dims, self.eps)?;
        let mut layers = Vec::with_capacity(dims.layers);
        for l in 0..dims.layers {
            let (qkv, out) = attention_projections(loader, names, l, dims, self.attention_bias)?;
            let attention = Attention {
                norm: loader.norm(&names.weight(l, ATTENTION_NORM), dims.hidden, self.eps)?,
                qkv,
                out,
                heads: dims.heads,
                kv_heads: dims.kv_heads,
                head_dim: dims.head_dim,
                rotate: self.rotate,
                rope_table: rope_table.clone(),
                normalize: None,
                temperature: None,
                chunk: 0,
            };
            let norm = loader.norm(&names.weight(l, FFN_NORM), dims.hidden, self.eps)?;
            let mlp = mlp(loader, names, l, MLP, (dims.hidden, dims.inner), self.mlp_bias)?;
            layers.push(Layer { attention, norm, mlp });
        }
        Ok(LoadedLlama { ends, layers })
    }
}

impl Architecture for Llama {
    fn dims(&self) -> Dims {
        self.dims
    }

    fn trained_context(&self) -> usize {
        self.trained_context
    }

    fn bind(&self, loader: &mut Loader<'_>) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.bound(loader)?))
    }
}

struct LoadedLlama {
    ends: Ends,
    layers: Vec<Layer>,
}

struct Layer {
    attention: Attention,
    norm: Norm,
    mlp: Mlp,
}

impl Model for LoadedLlama {
    fn ends(&self) -> &Ends {
        &self.ends
    }

    fn record_layers(&self, pass: &mut Pass<'_>) -> Option<Activations> {
        let mut h = Some(self.ends.embed(pass, self.layers.first()?.attention.reader()));
        for (l, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(l + 1).map(|next| next.attention.reader()).or_else(|| self.ends.reader(pass));
            h = layer.attention.record(pass, &h?, l, Some(layer.mlp.reader(&layer.norm)));
            h = layer.mlp.record(pass, &h?, next);
        }
        h
    }
}
