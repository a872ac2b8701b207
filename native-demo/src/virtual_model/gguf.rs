//! The header of a virtual GGUF file, version 3.

use moxel::weights::DType;

use super::{Layout, TensorSpec};

/// The file's name, which is also the entry to open.
pub const FILE: &str = "model.gguf";
/// Tensors begin at a multiple of this, the format's default.
const ALIGNMENT: u64 = 32;

/// The kinds of metadata that are needed here.
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

/// Lays `tensors` out one after the other.
pub fn layout<K: AsRef<str>>(metadata: &[(K, Value)], tensors: Vec<TensorSpec>) -> Layout {
    let mut header = b"GGUF".to_vec();
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut header, key.as_ref());
        put_value(&mut header, value);
    }
    let mut end = 0;
    let mut offsets = Vec::with_capacity(tensors.len());
    for spec in &tensors {
        let offset = u64::next_multiple_of(end, ALIGNMENT);
        put_text(&mut header, &spec.name);
        header.extend((spec.shape.len() as u32).to_le_bytes());
        // Innermost dimension first.
        spec.shape.iter().rev().for_each(|&dim| header.extend((dim as u64).to_le_bytes()));
        header.extend(type_id(spec.dtype).to_le_bytes());
        header.extend(offset.to_le_bytes());
        offsets.push(offset);
        end = offset + spec.bytes();
    }
    let data = (header.len() as u64).next_multiple_of(ALIGNMENT);
    let tensors = offsets.into_iter().map(|offset| data + offset).zip(tensors).collect();
    Layout { name: FILE, header, tensors }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    const ARRAY: u32 = 9;
    let mut number = |id: u32| out.extend(id.to_le_bytes());
    match value {
        Value::U32(value) => {
            number(4);
            number(*value);
        }
        Value::F32(value) => {
            number(6);
            number(value.to_bits());
        }
        Value::Bool(value) => {
            number(7);
            out.push(u8::from(*value));
        }
        Value::Text(text) => {
            number(8);
            put_text(out, text);
        }
        Value::Texts(texts) => {
            number(ARRAY);
            number(8);
            out.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Value::I32s(values) => {
            number(ARRAY);
            number(5);
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
    }
}

/// The format's number in `enum ggml_type`.
fn type_id(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        DType::Q8_0 => 8,
        DType::Q4K => 12,
        DType::Q5K => 13,
        DType::Q6K => 14,
        DType::BF16 => 30,
    }
}
