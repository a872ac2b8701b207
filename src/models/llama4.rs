//! Llama 4 Scout and Maverick: the text model.
//!
//! Reference: `models/llama4/modeling_llama4.py` of transformers, and llama.cpp's `llama4` for what GGUF files leave unsaid.

use super::common::{
    ATTENTION_NORM, FFN_NORM, HARMLESS, HARMLESS_GGUF, attention_projections, ends, expect, expect_whole_heads, gguf_vocab, mlp,
    most, rope_table, size, size_or,
};
use super::names::{Module, Names};
use super::{Architecture, Ends, Loader, Model, check_dims};
use crate::Result;
use crate::config::ConfigReader;
use crate::dims::Dims;
use crate::experts::ExpertLayer;
use crate::kernels::{Activations, Norm, Rotate, RouterScore};
use crate::layers::{Attention, Mlp, Moe, Pass, Reader};
use crate::repack::Piece;
use crate::rope::Rope;
use crate::weights::Checkpoint;

pub(super) const DENSE: [Module; 3] =
    [("feed_forward.gate_proj", "ffn_gate"), ("feed_forward.up_proj", "ffn_up"), ("feed_forward.down_proj", "ffn_down")];
pub(super) const SHARED: [Module; 3] = [
    ("feed_forward.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("feed_forward.shared_expert.up_proj", "ffn_up_shexp"),
    ("feed_forward.shared_expert.down_proj", "ffn_down_shexp"),
];
const ROUTER: Module = ("feed_forward.router", "ffn_gate_inp");

/// Constants of released models that their GGUF files do not repeat (llama.cpp, `llama-model.cpp`).
mod gguf {
    pub(super) const CHUNK: usize = 8192;
    pub(super) const TEMPERATURE: (f32, f32) = (8192.0, 0.1);
    pub(super) const NOPE_INTERVAL: usize = 4;
    /// Maverick, the model with this many experts, has no q/k norm.
    pub(super) const EXPERTS_WITHOUT_QK_NORM: usize = 128;
}

pub(super) struct Llama4 {
    dims: Dims,
    trained_context: usize,
    eps: f32,
    rope: Rope,
    attention_bias: bool,
    qk_norm: bool,
    /// (floor_scale, scale) of layers without rotation.
    temperature: Option<(f32, f32)>,
    chunk: usize,
    /// Inner sizes: dense layers, experts and shared experts.
    dense_inner: usize,
    expert_inner: usize,
    layers: Vec<LayerKind>,
    names: Names,
}

/// How a layer differs from its neighbours.
#[derive(Clone, Copy, Debug)]
struct LayerKind {
    rotates: bool,
    chunked: bool,
    moe: bool,
}

impl Llama4 {
    pub(super) fn from_huggingface(outer: &ConfigReader<'_>) -> Result<Self> {
        // Released checkpoints nest the text model; what else they hold (vision, image tokens) takes no part in text.
        let nested = outer.object("text_config")?;
        let config = nested.as_ref().unwrap_or(outer);
        let (hidden, heads, count) = (
            size(config, "hidden_size", most::WIDTH)?,
            size(config, "num_attention_heads", most::HEADS)?,
            size(config, "num_hidden_layers", most::LAYERS)?,
        );
        let rope_interval = config.usize_or("no_rope_layer_interval", 4)?;
        let rotates = match config.opt_counts("no_rope_layers")?.filter(|list| !list.is_empty()) {
            Some(list) => list.iter().map(|&on| on != 0).collect(),
            None => (0..count).map(|l| !(l + 1).is_multiple_of(rope_interval)).collect::<Vec<_>>(),
        };
        let chunked = match config.opt_strs("layer_types")? {
            Some(types) => types.iter().map(|&t| t == "chunked_attention").collect(),
            None => rotates.clone(),
        };
        for (key, len) in [("no_rope_layers", rotates.len()), ("layer_types", chunked.len())] {
            if len != count {
                return Err(config.error(key, &format!("has {len} entries for {count} layers")));
            }
        }
        let step = config.usize_or("interleave_moe_layer_step", 1)?;
        let moe = match config.opt_counts("moe_layers")? {
            Some(list) => list,
            None => (step - 1..count).step_by(step).collect(),
        };
        let layers: Vec<_> =
            (0..count).map(|l| LayerKind { rotates: rotates[l], chunked: chunked[l], moe: moe.contains(&l) }).collect();
        let expert_inner = size(config, "intermediate_size", most::WIDTH)?;
        let dense_inner = size_or(config, "intermediate_size_mlp", expert_inner, most::WIDTH)?;
        let dims = Dims {
            hidden,
            vocab: size(config, "vocab_size", most::VOCABULARY)?,
            layers: count,
            heads,
            kv_heads: size_or(config, "num_key_value_heads", heads, most::HEADS)?,
            head_dim: config.usize_or("head_dim", hidden / heads)?,
            experts: config.usize("num_local_experts")?,
            chosen: config.usize_or("num_experts_per_tok", 1)?,
            ..Dims::default()
        };
        expect(config, "hidden_act", config.opt_str("hidden_act")?.unwrap_or("silu"), "silu")?;
        let floor_scale = config.f32_or("floor_scale", 8192.0)?;
        let attn_scale = config.f32_or("attn_scale", 0.1)?;
        let model = Self {
            trained_context: config.usize_or("max_position_embeddings", 4096 * 32)?,
            eps: config.f32_or("rms_norm_eps", 1e-5)?,
            rope: Rope::from_huggingface(config, 500_000.0)?,
            attention_bias: config.bool_or("attention_bias", false)?,
            qk_norm: config.bool_or("use_qk_norm", true)?,
            temperature: config.bool_or("attn_temperature_tuning", true)?.then_some((floor_scale, attn_scale)),
            chunk: config.usize_or("attention_chunk_size", 8192)?,
            names: Names::HuggingFace { prefix: if nested.is_some() { "language_model." } else { "" } },
            dense_inner,
            expert_inner,
            dims: with_experts(config, dims, &layers, dense_inner, expert_inner)?,
            layers,
        };
        // Of the router's settings these are for training.
        let text =
            ["router_aux_loss_coef", "router_jitter_noise", "output_router_logits", "for_llm_compressor", "attn_implementation"];
        config.finish(&[HARMLESS, &text].concat())?;
        if nested.is_some() {
            let vision = ["vision_config", "boi_token_index", "eoi_token_index", "image_token_index"];
            outer.finish(&[HARMLESS, &vision].concat())?;
        }
        Ok(model)
    }

    pub(super) fn from_gguf(config: &ConfigReader<'_>, checkpoint: &Checkpoint) -> Result<Self> {
        let keys = config.with_prefix("llama4.");
        let (hidden, heads, count) = (
            size(&keys, "embedding_length", most::WIDTH)?,
            size(&keys, "attention.head_count", most::HEADS)?,
            size(&keys, "block_count", most::LAYERS)?,
        );
        let experts = keys.usize("expert_count")?;
        // A window of 0 stands for a model that rotates in every layer and sees everything.
        let windowed = keys.opt_count("attention.sliding_window")? != Some(0);
        let step = keys.usize_or("interleave_moe_layer_step", 1)?;
        let layers: Vec<_> = (0..count)
            .map(|l| {
                let rotates = !windowed || !(l + 1).is_multiple_of(gguf::NOPE_INTERVAL);
                LayerKind { rotates, chunked: windowed && rotates, moe: (l + 1).is_multiple_of(step) }
            })
            .collect();
        let dense_inner = size(&keys, "feed_forward_length", most::WIDTH)?;
        let dims = Dims {
            hidden,
            vocab: gguf_vocab(&keys, checkpoint)?,
            layers: count,
            heads,
            kv_heads: size_or(&keys, "attention.head_count_kv", heads, most::HEADS)?,
            head_dim: keys.usize_or("attention.key_length", hidden / heads)?,
            experts,
            chosen: keys.usize_or("expert_used_count", 1)?,
            ..Dims::default()
        };
        expect_whole_heads(&keys, dims.head_dim)?;
        let expert_inner = size_or(&keys, "expert_feed_forward_length", dense_inner, most::WIDTH)?;
        let model = Self {
            trained_context: keys.usize_or("context_length", 8192)?,
            eps: keys.f32("attention.layer_norm_rms_epsilon")?,
            rope: Rope::from_gguf(&keys)?,
            attention_bias: checkpoint.find("blk.0.attn_q.bias")?.is_some(),
            qk_norm: experts != gguf::EXPERTS_WITHOUT_QK_NORM,
            temperature: windowed.then_some(gguf::TEMPERATURE),
            chunk: gguf::CHUNK,
            names: Names::Gguf,
            dense_inner,
            expert_inner,
            dims: with_experts(&keys, dims, &layers, dense_inner, expert_inner)?,
            layers,
        };
        config.finish(HARMLESS_GGUF)?;
        Ok(model)
    }

    fn bound(&self, loader: &mut Loader<'_>) -> Result<LoadedLlama4> {
        let (names, dims) = (self.names, &self.dims);
        let rope_table = rope_table(loader, names, &self.rope, dims.head_dim)?;
        let ends = ends(loader, names, dims, self.eps)?;
        let mut layers = Vec::with_capacity(dims.layers);
        let mut moe_layers = 0;
        for (l, kind) in self.layers.iter().enumerate() {
            let (qkv, out) = attention_projections(loader, names, l, dims, self.attention_bias)?;
            let attention = Attention {
                norm: loader.norm(&names.weight(l, ATTENTION_NORM), dims.hidden, self.eps)?,
                qkv,
                out,
                heads: dims.heads,
                kv_heads: dims.kv_heads,
                head_dim: dims.head_dim,
                rotate: if kind.rotates { Rotate::Adjacent } else { Rotate::None },
                rope_table: rope_table.clone(),
                normalize: (self.qk_norm && kind.rotates).then_some(self.eps),
                temperature: self.temperature.filter(|_| !kind.rotates),
                chunk: if kind.chunked { self.chunk } else { 0 },
            };
            let norm = loader.norm(&names.weight(l, FFN_NORM), dims.hidden, self.eps)?;
            let ffn = if kind.moe {
                moe_layers += 1;
                Ffn::Moe(Box::new(self.bind_moe(loader, l, moe_layers - 1, norm)?))
            } else {
                Ffn::Dense(norm, mlp(loader, names, l, DENSE, (dims.hidden, self.dense_inner), false)?)
            };
            layers.push(Layer { attention, ffn });
        }
        Ok(LoadedLlama4 { ends, layers })
    }

    /// The MoE layer `l` of the model, its `index`-th.
    fn bind_moe(&self, loader: &mut Loader<'_>, l: usize, index: usize, norm: Norm) -> Result<Moe> {
        let (names, Dims { hidden, experts, chosen, .. }) = (self.names, self.dims);
        let router = [loader.matrix(&names.weight(l, ROUTER), experts, hidden)?];
        let (shared, shared_slot) = loader.shared_expert(index, self.shared_expert(loader.checkpoint, l)?)?;
        let (gate_up, down) = loader.experts(index);
        Ok(Moe {
            norm,
            router: loader.linear("router", &router, &[])?,
            experts,
            chosen,
            score: RouterScore::Sigmoid,
            score_input: true,
            gate_up,
            down,
            shared: Some(shared),
            shared_slot,
        })
    }

    /// Gate and up, and down, of a layer's shared expert.
    fn shared_expert(&self, checkpoint: &Checkpoint, l: usize) -> Result<[Vec<Piece>; 2]> {
        let (hidden, inner) = (self.dims.hidden, self.expert_inner);
        let piece = |module, rows, cols| Piece::whole(checkpoint, &self.names.weight(l, module), rows, cols);
        let [gate, up, down] = SHARED;
        Ok([vec![piece(gate, inner, hidden)?, piece(up, inner, hidden)?], vec![piece(down, hidden, inner)?]])
    }

    fn expert_layer(&self, checkpoint: &Checkpoint, l: usize) -> Result<ExpertLayer> {
        let (names, Dims { hidden, experts, .. }, inner) = (self.names, self.dims, self.expert_inner);
        if let Some(packed) = checkpoint.packed_experts(l) {
            return ExpertLayer::packed(l, experts, (packed, checkpoint.expert_records(l)), (2 * inner, hidden), (hidden, inner));
        }
        let stack = |name: &str, shape, transposed| Piece::stack(checkpoint, name, experts, shape, transposed);
        let one_each = |pieces: Vec<Piece>| pieces.into_iter().map(|piece| vec![piece]).collect();
        let (gate_up, down) = match names {
            // Input-major: [experts, hidden, gate | up] and [experts, inner, hidden].
            Names::HuggingFace { .. } => {
                let name = |n| names.tensor(l, (n, ""));
                let gate_up = stack(&name("feed_forward.experts.gate_up_proj"), (2 * inner, hidden), true)?;
                let down = stack(&name("feed_forward.experts.down_proj"), (hidden, inner), true)?;
                (one_each(gate_up), one_each(down))
            }
            Names::Gguf => {
                let name = |n| names.weight(l, ("", n));
                let gate = stack(&name("ffn_gate_exps"), (inner, hidden), false)?;
                let up = stack(&name("ffn_up_exps"), (inner, hidden), false)?;
                let down = stack(&name("ffn_down_exps"), (hidden, inner), false)?;
                (gate.into_iter().zip(up).map(|(gate, up)| vec![gate, up]).collect(), one_each(down))
            }
        };
        ExpertLayer::loose(l, gate_up, down)
    }
}

/// The dimensions with what follows from the kinds of layers, checked.
fn with_experts(
    config: &ConfigReader<'_>,
    dims: Dims,
    layers: &[LayerKind],
    dense_inner: usize,
    expert_inner: usize,
) -> Result<Dims> {
    let moe_layers = layers.iter().filter(|l| l.moe).count();
    let dense = if moe_layers < layers.len() { dense_inner } else { 0 };
    let dims = Dims { moe_layers, inner: dense.max(expert_inner), expert_inner, ..dims };
    check_dims(config, &dims)?;
    Ok(dims)
}

impl Architecture for Llama4 {
    fn dims(&self) -> Dims {
        self.dims
    }

    fn trained_context(&self) -> usize {
        self.trained_context
    }

    fn moe_layers(&self) -> Vec<usize> {
        (0..self.layers.len()).filter(|&l| self.layers[l].moe).collect()
    }

    fn expert_layers(&self, checkpoint: &Checkpoint) -> Result<Vec<ExpertLayer>> {
        let layer = |l| Ok(self.expert_layer(checkpoint, l)?.with_shared(&self.shared_expert(checkpoint, l)?));
        self.moe_layers().into_iter().map(layer).collect()
    }

    fn bind(&self, loader: &mut Loader<'_>) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.bound(loader)?))
    }
}

struct LoadedLlama4 {
    ends: Ends,
    layers: Vec<Layer>,
}

struct Layer {
    attention: Attention,
    ffn: Ffn,
}

enum Ffn {
    Dense(Norm, Mlp),
    Moe(Box<Moe>),
}

impl Model for LoadedLlama4 {
    fn ends(&self) -> &Ends {
        &self.ends
    }

    fn record_layers(&self, pass: &mut Pass<'_>) -> Option<Activations> {
        let mut h = Some(self.ends.embed(pass, self.layers.first()?.attention.reader()));
        let mut moe_layer = 0;
        for (l, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(l + 1).map(|next| next.attention.reader()).or_else(|| self.ends.reader(pass));
            h = layer.attention.record(pass, &h?, l, Some(layer.ffn.reader()));
            h = match &layer.ffn {
                Ffn::Dense(_, mlp) => mlp.record(pass, &h?, next),
                Ffn::Moe(moe) => {
                    moe_layer += 1;
                    moe.record(pass, &h?, moe_layer - 1, next)
                }
            };
        }
        h
    }
}

impl Ffn {
    fn reader(&self) -> Reader<'_> {
        match self {
            Self::Dense(norm, mlp) => mlp.reader(norm),
            Self::Moe(moe) => moe.reader(),
        }
    }
}
