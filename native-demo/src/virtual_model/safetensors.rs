//! The header of a virtual safetensors file.

use serde_json::{Map, Value, json};

use super::{Layout, TensorSpec};

/// The only file of weights in a Hugging Face directory.
const FILE: &str = "model.safetensors";
/// Tensors begin at a multiple of this.
const ALIGNMENT: usize = 8;

/// Lays `tensors`, which have formats that safetensors knows, out one after the other.
pub fn layout(tensors: Vec<TensorSpec>) -> Layout {
    let mut entries = Map::new();
    let mut offset = 0;
    for spec in &tensors {
        let end = offset + spec.bytes();
        entries
            .insert(spec.name.clone(), json!({ "dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    let mut start = header.len() as u64;
    let placed = tensors.into_iter().map(|spec| {
        let here = start;
        start += spec.bytes();
        (here, spec)
    });
    let tensors = placed.collect();
    Layout { name: FILE, header, tensors }
}
