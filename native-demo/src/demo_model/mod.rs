//! The demo model: a mixture of experts of Llama 4's architecture, carved from SmolLM2-135M-Instruct.
//!
//! It is computed from the parent's GGUF file and a recipe that is part of the program, tensor by tensor as it is read, and
//! presents itself as a Hugging Face checkpoint in bf16. `assets/README.md` says what it is and what it costs.

mod parent;
mod recipe;
mod side_files;
mod tensors;

use std::path::Path;
use std::sync::Arc;

use moxel::Result;
use moxel::weights::WeightSource;

use crate::virtual_model::{VirtualModel, safetensors};
use parent::Parent;
use recipe::Recipe;
use tensors::DemoTensors;

/// The demo model made from the parent at `gguf`; its entry is that of a Hugging Face directory, `""`.
///
/// # Errors
/// The file cannot be read, or is not the one that the recipe is made for.
pub async fn open(gguf: &Path) -> Result<Arc<dyn WeightSource>> {
    let parent = Parent::open(gguf).await?;
    let side_files = side_files::side_files(parent.metadata())?;
    let (tensors, list) = DemoTensors::new(parent, Recipe::open()?);
    Ok(Arc::new(VirtualModel::new("demo model".into(), side_files, safetensors::layout(list), tensors)))
}

/// A hash as it is usually written.
fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
