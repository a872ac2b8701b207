//! The header of one GGUF file: metadata and the descriptions of the tensors.

use super::{
    cursor::{Cursor, Parsed, Stop},
    types,
    values::{self, ElementBudget},
};
use crate::weights::{
    tensors::{HeaderTensor, MAX_TENSORS, byte_length, element_count},
    text::shown,
};
use serde_json::{Map, Value};

const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;

/// As many as ggml has.
const MAX_DIMENSIONS: u32 = 4;

/// Real files have a few dozen.
const MAX_KEYS: u64 = 1 << 16;

/// The least bytes of a key (length, type, a one-byte value) and of a tensor description.
const LEAST_KEY_BYTES: u64 = 8 + 4 + 1;
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

pub(super) struct Header {
    pub metadata: Map<String, Value>,
    pub tensors: Vec<HeaderTensor>,
}

/// Parses the header from the `window` at the start of a file of `file_size` bytes.
pub(super) fn parse(window: &[u8], file_size: u64) -> Parsed<Header> {
    let mut cursor = Cursor::new(window, file_size);
    check_magic(&mut cursor)?;
    let tensor_count = cursor.u64()?;
    let key_count = cursor.u64()?;
    if key_count > MAX_KEYS {
        return Err(Stop::Bad(format!("{key_count} metadata keys are absurd")));
    }
    if tensor_count > MAX_TENSORS as u64 {
        return Err(Stop::Bad(format!("{tensor_count} tensors are absurd")));
    }
    cursor.expect_room(key_count, LEAST_KEY_BYTES)?;
    let metadata = read_metadata(&mut cursor, key_count, file_size)?;
    let alignment = alignment(&metadata)?;

    cursor.expect_room(tensor_count, LEAST_TENSOR_BYTES)?;
    let mut described = Vec::new();
    for index in 0..tensor_count {
        let name = cursor.string().map_err(|stop| stop.about(|| format!("name of tensor {index}")))?;
        let about = |stop: Stop| stop.about(|| format!("tensor {}", shown(name)));
        described.push(Described::read(name, &mut cursor).map_err(about)?);
    }
    // The tensors begin at the next multiple of the alignment; a file without any may end before.
    let data_start = cursor.position().next_multiple_of(alignment);
    let tensors =
        described.into_iter().map(|tensor| tensor.locate(data_start, alignment)).collect::<Result<_, _>>().map_err(Stop::Bad)?;
    Ok(Header { metadata, tensors })
}

fn check_magic(cursor: &mut Cursor<'_>) -> Parsed<()> {
    let magic = cursor.array::<4>()?;
    let version = cursor.u32()?;
    // The magic is the same text in both byte orders; a byte-swapped version gives it away.
    let big_endian = magic == *b"FUGG" || (magic == *b"GGUF" && version != 0 && version & 0xffff == 0);
    if big_endian {
        return Err(Stop::Bad("big-endian GGUF files are not supported".to_owned()));
    }
    if magic != *b"GGUF" {
        return Err(Stop::Bad("this is no GGUF file: it does not begin with \"GGUF\"".to_owned()));
    }
    if version != 2 && version != 3 {
        return Err(Stop::Bad(format!("GGUF version {version} is not supported, only 2 and 3")));
    }
    Ok(())
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64, file_size: u64) -> Parsed<Map<String, Value>> {
    let mut budget = ElementBudget::for_file(file_size);
    let mut metadata = Map::new();
    for index in 0..count {
        let key = cursor.string().map_err(|stop| stop.about(|| format!("metadata key {index}")))?;
        let value = values::read(cursor, &mut budget).map_err(|stop| stop.about(|| shown(key)))?;
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(Stop::Bad(format!("the key {} is there twice", shown(key))));
        }
    }
    Ok(metadata)
}

fn alignment(metadata: &Map<String, Value>) -> Parsed<u64> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    value
        .as_u64()
        .filter(|alignment| alignment.is_power_of_two() && *alignment <= u64::from(u32::MAX))
        .ok_or_else(|| Stop::Bad(format!("{ALIGNMENT_KEY} is {value}, which is no power of two")))
}

/// A tensor description, its offset still relative to the end of the header.
struct Described {
    name: String,
    /// Outermost first.
    shape: Vec<u64>,
    type_id: u32,
    offset: u64,
}

impl Described {
    fn read(name: &str, cursor: &mut Cursor<'_>) -> Parsed<Described> {
        let rank = cursor.u32()?;
        if rank > MAX_DIMENSIONS {
            return Err(Stop::Bad(format!("it has {rank} dimensions, more than {MAX_DIMENSIONS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(cursor.u64()?);
        }
        shape.reverse();
        Ok(Described { name: name.to_owned(), shape, type_id: cursor.u32()?, offset: cursor.u64()? })
    }

    fn locate(self, data_start: u64, alignment: u64) -> Result<HeaderTensor, String> {
        let name = || shown(&self.name);
        if !self.offset.is_multiple_of(alignment) {
            return Err(format!("tensor {}: its offset {} is no multiple of the alignment {alignment}", name(), self.offset));
        }
        let dtype = types::dtype(self.type_id);
        let bytes = match &dtype {
            Ok(dtype) => byte_length(&self.shape, *dtype),
            // The size is not known; that it takes at least a byte keeps others from overlapping it.
            Err(_) => element_count(&self.shape).map(|count| count.min(1)),
        };
        let bytes = bytes.ok_or_else(|| format!("tensor {}: the shape {:?} is too large or cuts a block", name(), self.shape))?;
        let start = data_start.checked_add(self.offset);
        let range = start
            .and_then(|start| Some(start..start.checked_add(bytes)?))
            .ok_or_else(|| format!("tensor {}: its offset {} is past the end of the file", name(), self.offset))?;
        Ok(HeaderTensor { name: self.name, dtype, shape: self.shape, range })
    }
}
