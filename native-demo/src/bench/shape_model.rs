//! A model of a shape with random weights in 4 bits, as a GGUF file that is computed when it is read.
//!
//! The weights say nothing; they have the sizes and the format that decide how fast a model runs, activations stay in range, and
//! tokens choose their experts nearly independently of each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;
use moxel::Result;
use moxel::weights::{BoxFuture, DType, WeightSource};

use super::shapes::{Experts, Sizes};
use crate::synth::random::Stream;
use crate::virtual_model::gguf::{self, Value};
use crate::virtual_model::{TensorSpec, Tensors, VirtualModel};

/// Format of every matrix but the routers'.
const FORMAT: DType = DType::Q4_0;
const BLOCK: usize = FORMAT.block_bytes();
/// Bytes of a matrix that are computed at a time, about.
const PIECE_BYTES: u64 = 16 << 20;
/// Blocks of random numbers, which matrices are made of again and again, each from another place on. A prime number, so that they
/// do not line up with rows.
const POOL_BLOCKS: usize = 65_521;
/// Standard deviation of the numbers 1 to 15, all as frequent but 8, which is twice.
const SPREAD: f32 = 4.18;
/// Positions of the context that the model says it was trained for.
pub const CONTEXT: u32 = 131_072;

/// The model, and what to open in it.
pub fn source(sizes: &Sizes) -> (Arc<dyn WeightSource>, &'static str) {
    let tensors = list(sizes);
    let parts = tensors.iter().map(|spec| Part { dtype: spec.dtype, shape: spec.shape.clone(), blocks: spec.blocks }).collect();
    let layout = gguf::layout(&metadata(sizes), tensors);
    (Arc::new(VirtualModel::new("shape".into(), BTreeMap::new(), layout, Random::new(parts))), gguf::FILE)
}

/// Bytes of all weights.
pub fn bytes(sizes: &Sizes) -> u64 {
    list(sizes).iter().map(TensorSpec::bytes).sum()
}

/// The architecture that runs a shape.
pub fn architecture(sizes: &Sizes) -> &'static str {
    if sizes.experts.is_some() { "llama4" } else { "llama" }
}

fn metadata(sizes: &Sizes) -> Vec<(String, Value)> {
    let number = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let mut keys = vec![
        ("block_count", number(sizes.layers)),
        ("context_length", Value::U32(CONTEXT)),
        ("embedding_length", number(sizes.hidden)),
        ("feed_forward_length", number(sizes.inner)),
        ("attention.head_count", number(sizes.heads)),
        ("attention.head_count_kv", number(sizes.kv_heads)),
        ("attention.key_length", number(sizes.head_dim)),
        ("attention.value_length", number(sizes.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("rope.freq_base", Value::F32(sizes.rope_base)),
        ("rope.dimension_count", number(sizes.head_dim)),
    ];
    if let Some(Experts { count, chosen, inner, every, native }) = sizes.experts {
        keys.extend([
            ("expert_count", number(count)),
            // A layer of llama4 always has a shared expert, which is one of those that a token needs.
            ("expert_used_count", number(chosen - 1)),
            ("expert_feed_forward_length", number(inner)),
            ("interleave_moe_layer_step", number(every)),
        ]);
        if !native {
            // Every layer rotates and sees the whole text.
            keys.push(("attention.sliding_window", Value::U32(0)));
        }
    }
    let architecture = architecture(sizes);
    let prefixed = keys.into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value));
    std::iter::once(("general.architecture".into(), Value::Text(architecture.into()))).chain(prefixed).collect()
}

fn list(sizes: &Sizes) -> Vec<TensorSpec> {
    let &Sizes { hidden, heads, kv_heads, head_dim, vocab, inner, .. } = sizes;
    let mut all = vec![matrix("token_embd.weight".into(), vocab, hidden)];
    for layer in 0..sizes.layers {
        let name = |module: &str| format!("blk.{layer}.{module}.weight");
        all.push(floats(name("attn_norm"), &[hidden]));
        for (module, rows, cols) in [
            ("attn_q", heads * head_dim, hidden),
            ("attn_k", kv_heads * head_dim, hidden),
            ("attn_v", kv_heads * head_dim, hidden),
            ("attn_output", hidden, heads * head_dim),
        ] {
            all.push(matrix(name(module), rows, cols));
        }
        all.push(floats(name("ffn_norm"), &[hidden]));
        let experts = sizes.experts.filter(|experts| (layer + 1).is_multiple_of(experts.every));
        let sides = |inner| [("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)];
        let Some(Experts { count, inner, .. }) = experts else {
            all.extend(sides(inner).map(|(module, rows, cols)| matrix(name(&format!("ffn_{module}")), rows, cols)));
            continue;
        };
        all.push(floats(name("ffn_gate_inp"), &[count, hidden]));
        for (module, rows, cols) in sides(inner) {
            all.push(matrix(name(&format!("ffn_{module}_shexp")), rows, cols));
            let shape = vec![count, rows, cols];
            all.push(TensorSpec { name: name(&format!("ffn_{module}_exps")), dtype: FORMAT, shape, blocks: count });
        }
    }
    all.push(floats("output_norm.weight".into(), &[hidden]));
    if !sizes.tied {
        all.push(matrix("output.weight".into(), vocab, hidden));
    }
    all
}

fn floats(name: String, shape: &[usize]) -> TensorSpec {
    TensorSpec { name, dtype: DType::F32, shape: shape.to_vec(), blocks: 1 }
}

/// A matrix that is computed in as few equal pieces as are small.
fn matrix(name: String, rows: usize, cols: usize) -> TensorSpec {
    let whole = TensorSpec { name, dtype: FORMAT, shape: vec![rows, cols], blocks: 1 };
    let least = whole.bytes().div_ceil(PIECE_BYTES) as usize;
    let blocks = (least..=rows).find(|&pieces| rows.is_multiple_of(pieces)).unwrap_or(1);
    TensorSpec { blocks, ..whole }
}

struct Part {
    dtype: DType,
    shape: Vec<usize>,
    blocks: usize,
}

struct Random {
    parts: Vec<Part>,
    /// Blocks of random numbers from 1 to 15, without scales.
    pool: Vec<[u8; BLOCK]>,
}

impl Random {
    fn new(parts: Vec<Part>) -> Self {
        let stream = Stream::new(0, 0);
        let pool = (0..POOL_BLOCKS as u64).map(|block| {
            let mut bytes = [0; BLOCK];
            bytes[2..10].copy_from_slice(&without_zero(stream.bits(2 * block)).to_le_bytes());
            bytes[10..].copy_from_slice(&without_zero(stream.bits(2 * block + 1)).to_le_bytes());
            bytes
        });
        Self { parts, pool: pool.collect() }
    }

    fn compute(&self, tensor: usize, block: usize) -> Vec<u8> {
        let Part { dtype, shape, blocks } = &self.parts[tensor];
        let elements: usize = shape.iter().product::<usize>() / blocks;
        let cols = shape.last().copied().unwrap_or(1);
        let stream = Stream::new(1, tensor as u64);
        let scale = 1.0 / (cols as f32).sqrt();
        match (dtype, shape.len()) {
            (DType::F32, 1) => vec![1f32; elements].into_iter().flat_map(f32::to_le_bytes).collect(),
            (DType::F32, _) => (0..elements as u64).flat_map(|index| (scale * stream.normal(index)).to_le_bytes()).collect(),
            _ => {
                let scale = f16::from_f32(scale / SPREAD).to_le_bytes();
                let first = stream.bits(block as u64) as usize % POOL_BLOCKS;
                let mut bytes = Vec::with_capacity(elements / FORMAT.block_len() * BLOCK);
                for numbers in self.pool.iter().cycle().skip(first).take(elements / FORMAT.block_len()) {
                    bytes.extend_from_slice(&scale);
                    bytes.extend_from_slice(&numbers[2..]);
                }
                bytes
            }
        }
    }
}

/// Every 0 among sixteen numbers of four bits becomes 8, which stands for nothing: the others then have a mean of nothing.
fn without_zero(bits: u64) -> u64 {
    (0..16).map(|at| 4 * at).fold(bits, |bits, at| if bits >> at & 15 == 0 { bits | 8 << at } else { bits })
}

impl Tensors for Random {
    fn block(&self, tensor: usize, block: usize) -> BoxFuture<'_, Result<Vec<u8>>> {
        Box::pin(async move { Ok(self.compute(tensor, block)) })
    }
}

#[cfg(test)]
mod tests {
    use moxel::{ModelFiles, ModelInfo};

    use super::super::shapes::Shape;
    use super::*;

    fn info(shape: Shape) -> ModelInfo {
        let (source, entry) = source(&shape.sizes());
        pollster::block_on(ModelFiles::open(source, entry)).expect("a model that runs").info().clone()
    }

    /// What the published models are said to have, in total and for a token, in billions. The shared expert that foreign shapes
    /// have in addition is 1 of 33 to 129.
    #[test]
    fn shapes_have_the_sizes_of_their_models() {
        for (shape, total, active) in [
            (Shape::Llama4Scout, 107.8, 17.2),
            (Shape::Llama4Maverick, 400.7, 17.2),
            (Shape::Olmoe, 6.92, 1.28),
            (Shape::Qwen3, 30.5, 3.35),
            (Shape::Granite, 1.33, 0.43),
            (Shape::Llama8b, 8.03, 8.03),
        ] {
            let info = info(shape);
            let near = |found: u64, said: f64| (found as f64 / 1e9 / said - 1.0).abs() < 0.04;
            assert!(near(info.parameters, total), "{shape:?} has {}", info.parameters);
            assert!(near(info.active_parameters, active), "{shape:?} uses {}", info.active_parameters);
            let bits = 8.0 * info.weight_bytes as f64 / info.parameters as f64;
            assert!((4.5..4.6).contains(&bits), "{shape:?} has {bits} bits a weight");
            assert_eq!(info.weight_bytes, bytes(&shape.sizes()), "{shape:?}");
            assert_eq!(info.layers, shape.sizes().layers);
        }
    }

    #[test]
    fn numbers_have_a_mean_of_nothing() {
        assert_eq!(without_zero(0), 0x8888_8888_8888_8888);
        assert_eq!(without_zero(0x0f10_2345_6789_abcd), 0x8f18_2345_6789_abcd);
        let random = Random::new(Vec::new());
        let numbers = random.pool.iter().flat_map(|block| &block[2..]).flat_map(|byte| [byte & 15, byte >> 4]);
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for number in numbers.map(|number| f64::from(number) - 8.0) {
            (sum, squares, count) = (sum + number, squares + number * number, count + 1.0);
        }
        assert!((sum / count).abs() < 0.02, "{}", sum / count);
        assert!(((squares / count).sqrt() - f64::from(SPREAD)).abs() < 0.02, "{}", (squares / count).sqrt());
    }
}
