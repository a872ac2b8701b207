//! The recipe: what turns the parent, SmolLM2-135M-Instruct, into a mixture of experts. `assets/README.md` has its format.

use std::ops::Range;

use half::f16;
use moxel::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

/// The file is part of the program: nobody has to find it.
static BYTES: &[u8] = include_bytes!("../../assets/recipe.safetensors");
const SHA256: &str = "8fe52eae886f618955dbb97c1398a23d02f6080eb03d732bab119e28d74eebeb";
const FILE: &str = "native-demo/assets/recipe.safetensors";

/// Layers, of parent and mixture.
pub const LAYERS: usize = 30;
/// Width of the residual stream, of parent and mixture.
pub const HIDDEN: usize = 576;
/// Neurons of the parent's feed-forward layers, and of the mixture's dense ones.
pub const PARENT_NEURONS: usize = 1536;
/// Neurons of an expert; a layer's shared expert has as many.
pub const NEURONS: usize = 512;
/// Routed experts of a MoE layer.
pub const EXPERTS: usize = 8;
/// Neurons of a MoE layer: those of the shared expert, then those of the routed ones.
const ALL_NEURONS: usize = (1 + EXPERTS) * NEURONS;
/// Rank of the changes to matrices.
const RANK: usize = 16;
/// Values that share a scale in the 4-bit change.
const SCALE_GROUP: usize = 64;

/// Every second layer is a mixture.
pub fn is_moe(layer: usize) -> bool {
    layer % 2 == 1
}

pub struct Recipe {
    tensors: SafeTensors<'static>,
}

/// A change to a matrix [rows, cols] of rank 16: `left` [rows, 16] times `right` [16, cols].
pub struct LowRank {
    left: Vec<f32>,
    right: Vec<f64>,
    cols: usize,
}

impl Recipe {
    /// # Errors
    /// The program was built with a recipe that is not the one it is made for, such as one that version control changed.
    pub fn open() -> Result<Self> {
        let found = super::hex(&Sha256::digest(BYTES));
        if found != SHA256 {
            let problem = format!("its SHA-256 is {found} and should be {SHA256}; restore the file and build again");
            return Err(Error::Format { file: FILE.into(), problem });
        }
        let tensors = SafeTensors::deserialize(BYTES);
        let tensors = tensors.map_err(|e| Error::Format { file: FILE.into(), problem: e.to_string() })?;
        Ok(Self { tensors })
    }

    /// The elements of a tensor as bytes, once its format and size are what is asked for.
    fn bytes<const SIZE: usize>(&self, name: &str, dtype: Dtype, elements: usize) -> Result<&[[u8; SIZE]]> {
        let fail = |problem: String| Error::Tensor { name: name.into(), problem: format!("{problem} in {FILE}") };
        let tensor = self.tensors.tensor(name).map_err(|e| fail(e.to_string()))?;
        let (values, rest) = tensor.data().as_chunks();
        if tensor.dtype() != dtype || values.len() != elements || !rest.is_empty() {
            return Err(fail(format!("is not {elements} values of {dtype:?}")));
        }
        Ok(values)
    }

    /// A norm's weights [576]: `on`, or `n0` and `n1` of a layer.
    pub fn floats(&self, name: &str, elements: usize) -> Result<Vec<f32>> {
        Ok(self.bytes(name, Dtype::F16, elements)?.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect())
    }

    /// The change `name` to a matrix [rows, cols].
    pub fn low_rank(&self, name: &str, rows: usize, cols: usize) -> Result<LowRank> {
        let scales = self.bytes(&format!("{name}.s"), Dtype::F32, RANK)?;
        let left = self.bytes(&format!("{name}.B"), Dtype::I8, rows * RANK)?.iter().zip(scales.iter().cycle());
        let left = left.map(|(&value, &scale)| f32::from(i8::from_le_bytes(value)) * f32::from_le_bytes(scale)).collect();
        let right = self.bytes(&format!("{name}.A"), Dtype::I8, RANK * cols)?;
        let right = right.iter().map(|&value| f64::from(i8::from_le_bytes(value))).collect();
        Ok(LowRank { left, right, cols })
    }

    /// Which of the parent's neurons the given ones of a MoE layer are made from.
    pub fn parents(&self, layer: usize, neurons: Range<usize>) -> Result<Vec<usize>> {
        let all = self.bytes(&format!("{layer}.idx"), Dtype::U16, ALL_NEURONS)?;
        let parents: Vec<_> = all[neurons].iter().map(|&index| usize::from(u16::from_le_bytes(index))).collect();
        match parents.iter().find(|&&parent| parent >= PARENT_NEURONS) {
            None => Ok(parents),
            Some(parent) => Err(Error::Tensor {
                name: format!("{layer}.idx"),
                problem: format!("names neuron {parent} of {PARENT_NEURONS} in {FILE}"),
            }),
        }
    }

    /// A change to the down projection of a MoE layer in 4 bits: [neurons, 576], one row for each of the given neurons.
    pub fn down_change(&self, layer: usize, neurons: Range<usize>) -> Result<Vec<f32>> {
        let values = self.bytes::<1>(&format!("{layer}.dq"), Dtype::U8, ALL_NEURONS * HIDDEN / 2)?;
        let scales = self.bytes(&format!("{layer}.ds"), Dtype::F16, ALL_NEURONS * HIDDEN / SCALE_GROUP)?;
        let groups = values.as_chunks::<{ SCALE_GROUP / 2 }>().0.iter().zip(scales);
        let per_neuron = HIDDEN / SCALE_GROUP;
        let groups = groups.skip(neurons.start * per_neuron).take(neurons.len() * per_neuron);
        Ok(groups
            .flat_map(|(values, &scale)| {
                let scale = f16::from_le_bytes(scale).to_f32();
                values.iter().flat_map(|[pair]| [pair & 15, pair >> 4]).map(move |q| (f32::from(q) - 7.5) * scale)
            })
            .collect())
    }
}

impl LowRank {
    /// Adds row `row` of the change to `to`.
    ///
    /// The reference multiplies with fused additions in the order of the rank, and the result is to be the same to the last
    /// bit. The product of these factors is exact in f64, so that one rounding of its sum to f32 is what the fused instruction
    /// does, on every machine and without asking for it.
    pub fn add_row(&self, row: usize, to: &mut [f32]) {
        let mut change = vec![0f32; self.cols];
        for (k, &left) in self.left[row * RANK..(row + 1) * RANK].iter().enumerate() {
            for (sum, right) in change.iter_mut().zip(&self.right[k * self.cols..(k + 1) * self.cols]) {
                *sum = (f64::from(left) * right + f64::from(*sum)) as f32;
            }
        }
        for (value, change) in to.iter_mut().zip(change) {
            *value += change;
        }
    }
}
