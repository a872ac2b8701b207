//! The tensors of the demo model, as `build.py` of its recipe computes them, in the same order of operations.

use std::ops::Range;

use half::bf16;
use moxel::Result;
use moxel::weights::{BoxFuture, DType};

use super::parent::Parent;
use super::recipe::{EXPERTS, HIDDEN, LAYERS, NEURONS, PARENT_NEURONS, Recipe, is_moe};
use crate::virtual_model::{TensorSpec, Tensors};

pub const VOCABULARY: usize = 49_152;
/// Width of all query heads is [`HIDDEN`]; this is that of all key or value heads.
const KEYS: usize = 192;
/// Blocks of the embedding, each of 3 MB.
const EMBEDDING_BLOCKS: usize = 16;

pub struct DemoTensors {
    parent: Parent,
    recipe: Recipe,
    origins: Vec<Origin>,
}

/// Where a tensor comes from.
enum Origin {
    Embedding,
    /// The recipe has it as it is: its name there, and its elements.
    Recipe(String, usize),
    /// A matrix of the parent with a change: its layer and name there, rows and columns.
    Changed {
        layer: usize,
        name: &'static str,
        rows: usize,
        cols: usize,
    },
    Shared(usize, Part),
    /// Stacked experts of a layer, [576, gate | up] and [512, 576] each.
    GateUp(usize),
    Down(usize),
}

/// The matrices of a feed-forward layer; of each, a neuron is a row of 576.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Gate,
    Up,
    Down,
}

impl Part {
    const ALL: [Self; 3] = [Self::Gate, Self::Up, Self::Down];

    fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    fn parent(self) -> &'static str {
        match self {
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }
}

impl DemoTensors {
    /// The tensors and the list of them.
    pub fn new(parent: Parent, recipe: Recipe) -> (Self, Vec<TensorSpec>) {
        let mut list = List::default();
        list.add("model.embed_tokens.weight".into(), &[VOCABULARY, HIDDEN], EMBEDDING_BLOCKS, Origin::Embedding);
        for layer in 0..LAYERS {
            list.add_layer(layer);
        }
        list.add("model.norm.weight".into(), &[HIDDEN], 1, Origin::Recipe("on".into(), HIDDEN));
        (Self { parent, recipe, origins: list.origins }, list.specs)
    }

    async fn compute(&self, tensor: usize, block: usize) -> Result<Vec<u8>> {
        let routed = (1 + block) * NEURONS..(2 + block) * NEURONS;
        Ok(match &self.origins[tensor] {
            Origin::Embedding => {
                let rows = VOCABULARY / EMBEDDING_BLOCKS;
                rounded(&self.parent.rows("token_embd.weight", block * rows..(block + 1) * rows, HIDDEN).await?)
            }
            Origin::Recipe(name, elements) => rounded(&self.recipe.floats(name, *elements)?),
            &Origin::Changed { layer, name, rows, cols } => {
                let mut values = self.parent.rows(&format!("blk.{layer}.{name}.weight"), 0..rows, cols).await?;
                let change = self.recipe.low_rank(&format!("{layer}.{name}"), rows, cols)?;
                values.chunks_exact_mut(cols).enumerate().for_each(|(row, values)| change.add_row(row, values));
                rounded(&values)
            }
            &Origin::Shared(layer, part) => {
                let neurons = self.neurons(layer, part, 0..NEURONS).await?;
                rounded(&if part == Part::Down { transposed(&[&neurons]) } else { neurons })
            }
            &Origin::GateUp(layer) => {
                let gate = self.neurons(layer, Part::Gate, routed.clone()).await?;
                let up = self.neurons(layer, Part::Up, routed).await?;
                rounded(&transposed(&[&gate, &up]))
            }
            &Origin::Down(layer) => rounded(&self.neurons(layer, Part::Down, routed).await?),
        })
    }

    /// Some neurons of a MoE layer, [neurons, 576].
    async fn neurons(&self, layer: usize, part: Part, neurons: Range<usize>) -> Result<Vec<f32>> {
        let (rows, cols) = if part == Part::Down { (HIDDEN, PARENT_NEURONS) } else { (PARENT_NEURONS, HIDDEN) };
        let matrix = self.parent.rows(&format!("blk.{layer}.{}.weight", part.parent()), 0..rows, cols).await?;
        let parents = self.recipe.parents(layer, neurons.clone())?;
        let mut values = Vec::with_capacity(neurons.len() * HIDDEN);
        for parent in parents {
            match part {
                Part::Gate | Part::Up => values.extend(&matrix[parent * cols..(parent + 1) * cols]),
                Part::Down => values.extend(matrix[parent..].iter().step_by(cols)),
            }
        }
        if part == Part::Down {
            let change = self.recipe.down_change(layer, neurons.clone())?;
            values.iter_mut().zip(change).for_each(|(value, change)| *value += change);
        }
        let change = self.recipe.low_rank(&format!("{layer}.{}", part.name()), (1 + EXPERTS) * NEURONS, HIDDEN)?;
        neurons.zip(values.chunks_exact_mut(HIDDEN)).for_each(|(neuron, values)| change.add_row(neuron, values));
        Ok(values)
    }
}

impl Tensors for DemoTensors {
    fn block(&self, tensor: usize, block: usize) -> BoxFuture<'_, Result<Vec<u8>>> {
        Box::pin(self.compute(tensor, block))
    }
}

#[derive(Default)]
struct List {
    specs: Vec<TensorSpec>,
    origins: Vec<Origin>,
}

impl List {
    fn add(&mut self, name: String, shape: &[usize], blocks: usize, origin: Origin) {
        self.specs.push(TensorSpec { name, dtype: DType::BF16, shape: shape.to_vec(), blocks });
        self.origins.push(origin);
    }

    fn add_layer(&mut self, layer: usize) {
        let name = |module: &str| format!("model.layers.{layer}.{module}");
        for (norm, recipe) in [("input_layernorm", "n1"), ("post_attention_layernorm", "n0")] {
            self.add(name(&format!("{norm}.weight")), &[HIDDEN], 1, Origin::Recipe(format!("{layer}.{recipe}"), HIDDEN));
        }
        // The rows of a GGUF's q and k are in the order of adjacent pairs already, which is Llama 4's.
        let attention = [("q", "attn_q", HIDDEN), ("k", "attn_k", KEYS), ("v", "attn_v", KEYS), ("o", "attn_output", HIDDEN)];
        for (module, parent, rows) in attention {
            let origin = Origin::Changed { layer, name: parent, rows, cols: HIDDEN };
            self.add(name(&format!("self_attn.{module}_proj.weight")), &[rows, HIDDEN], 1, origin);
        }
        let shape = |part, neurons| if part == Part::Down { [HIDDEN, neurons] } else { [neurons, HIDDEN] };
        if !is_moe(layer) {
            for part in Part::ALL {
                let [rows, cols] = shape(part, PARENT_NEURONS);
                let origin = Origin::Changed { layer, name: part.parent(), rows, cols };
                self.add(name(&format!("feed_forward.{}_proj.weight", part.name())), &[rows, cols], 1, origin);
            }
            return;
        }
        let router = Origin::Recipe(format!("{layer}.router"), EXPERTS * HIDDEN);
        self.add(name("feed_forward.router.weight"), &[EXPERTS, HIDDEN], 1, router);
        for part in Part::ALL {
            let module = name(&format!("feed_forward.shared_expert.{}_proj.weight", part.name()));
            self.add(module, &shape(part, NEURONS), 1, Origin::Shared(layer, part));
        }
        let (gate_up, down) = ([EXPERTS, HIDDEN, 2 * NEURONS], [EXPERTS, NEURONS, HIDDEN]);
        self.add(name("feed_forward.experts.gate_up_proj"), &gate_up, EXPERTS, Origin::GateUp(layer));
        self.add(name("feed_forward.experts.down_proj"), &down, EXPERTS, Origin::Down(layer));
    }
}

/// Matrices of 512 neurons [512, 576] turned around and put side by side: [576, 512 x matrices].
fn transposed(matrices: &[&[f32]]) -> Vec<f32> {
    let columns =
        (0..HIDDEN).flat_map(|col| matrices.iter().flat_map(move |matrix| matrix[col..].iter().step_by(HIDDEN).copied()));
    columns.collect()
}

/// To the nearest bf16, little endian.
fn rounded(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
}
