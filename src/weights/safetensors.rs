//! The header of a safetensors file: eight bytes of length, then JSON, then the tensors.
//!
//! The `safetensors` crate's own `Metadata` is not used for reading: it counts in `usize`, so that a
//! file of more than 4 GB cannot be described in the browser, keeps one of two equal names without a
//! word, and refuses formats it does not know even in tensors that nobody asks for.

use super::{
    dtype::DType,
    source::{WeightSource, display_name, read_exactly},
    tensors::{HeaderTensor, MAX_TENSORS, format_error},
    text::shown,
};
use crate::Result;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{collections::HashSet, fmt};

/// The format's own limit for the JSON header.
const MAX_HEADER: u64 = 100_000_000;

/// More dimensions than any weight has; bounds what a list of them can make us hold.
const MAX_RANK: usize = 8;

/// Reads the header of `file` and lists its tensors.
pub(super) async fn read_header(source: &dyn WeightSource, file: &str, file_size: u64) -> Result<Vec<HeaderTensor>> {
    let fail = |problem: String| format_error(&display_name(source, file), problem);
    if file_size < 8 {
        return Err(fail(format!("the file has {file_size} bytes, too few for a safetensors header")));
    }
    let prefix = read_exactly(source, file, 0..8).await?;
    let length = prefix.iter().rev().fold(0u64, |length, &byte| (length << 8) | u64::from(byte));
    if length > MAX_HEADER {
        return Err(fail(format!("this is no safetensors file: its header would have {length} bytes, more than {MAX_HEADER}")));
    }
    let data_start = 8 + length;
    if data_start > file_size {
        return Err(fail(format!("the header should have {length} bytes, but the file ends after {file_size}; it was cut off")));
    }
    let header = read_exactly(source, file, 8..data_start).await?;
    parse_header(&header, data_start).map_err(fail)
}

fn parse_header(header: &[u8], data_start: u64) -> Result<Vec<HeaderTensor>, String> {
    let text = std::str::from_utf8(header).map_err(|error| format!("the header is not UTF-8: {error}"))?;
    let Entries(entries) =
        serde_json::from_str(text).map_err(|error| format!("the header is not a valid safetensors header: {error}"))?;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let [start, end] = entry.data_offsets;
        let range = data_start.checked_add(start).zip(data_start.checked_add(end));
        let Some((start, end)) = range else {
            return Err(format!("tensor {}: the offsets {start}..{end} are absurd", shown(&name)));
        };
        let dtype = supported(&entry.dtype).ok_or(entry.dtype);
        tensors.push(HeaderTensor { name, dtype, shape: entry.shape, range: start..end });
    }
    Ok(tensors)
}

fn supported(dtype: &str) -> Option<DType> {
    match dtype {
        "F32" => Some(DType::F32),
        "F16" => Some(DType::F16),
        "BF16" => Some(DType::BF16),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    #[serde(deserialize_with = "bounded_shape")]
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's entries in file order, each name once.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("{} is there twice", shown(&name))));
            }
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry =
                map.next_value::<Entry>().map_err(|error| A::Error::custom(format!("tensor {}: {error}", shown(&name))))?;
            if entries.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            entries.push((name, entry));
        }
        Ok(Entries(entries))
    }
}

fn bounded_shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct Shape;

    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_RANK} dimensions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut dims: A) -> Result<Vec<u64>, A::Error> {
            let mut shape = Vec::new();
            while let Some(dim) = dims.next_element()? {
                if shape.len() == MAX_RANK {
                    return Err(A::Error::custom(format!("more than {MAX_RANK} dimensions")));
                }
                shape.push(dim);
            }
            Ok(shape)
        }
    }

    deserializer.deserialize_seq(Shape)
}
