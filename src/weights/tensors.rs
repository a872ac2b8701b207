//! The list of tensors that both formats produce, and the checks that both need.

use super::{dtype::DType, text::shown};
use crate::{Error, Result};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

/// More tensors than any known checkpoint has, by an order of magnitude.
pub(super) const MAX_TENSORS: usize = 1_000_000;

/// One tensor of a checkpoint: what it is and where its bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the checkpoint.
    pub name: String,
    /// How the elements are stored.
    pub dtype: DType,
    /// The dimensions, outermost first as in numpy (GGUF's own order, reversed).
    pub shape: Vec<usize>,
    /// The file that holds it.
    pub file: Arc<str>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// The number of elements.
    pub fn elements(&self) -> u64 {
        // Cannot wrap: the parsers admit only shapes whose bytes lie inside a file.
        self.shape.iter().fold(1, |product, &dim| product.saturating_mul(dim as u64))
    }

    /// The number of bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// A tensor as a header describes it, before it is known whether its format can be computed with.
#[derive(Debug)]
pub(super) struct HeaderTensor {
    pub name: String,
    /// The format, or the file's own name for one that is not supported.
    pub dtype: Result<DType, String>,
    pub shape: Vec<u64>,
    /// Counted from the start of the file. Of an unsupported format, whose size may be unknown, at
    /// least the first byte.
    pub range: Range<u64>,
}

/// All tensors of a checkpoint, in the order of the files.
#[derive(Debug, Default)]
pub(super) struct TensorTable {
    listed: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    /// Name and format of the tensors that cannot be computed with: an error only when asked for,
    /// since many checkpoints carry integer buffers that nobody needs.
    unsupported: BTreeMap<String, String>,
}

impl TensorTable {
    /// Adds the tensors of one file. `shown_file` is how messages call it.
    pub fn add_file(&mut self, file: &Arc<str>, shown_file: &str, file_size: u64, tensors: Vec<HeaderTensor>) -> Result<()> {
        check_ranges(&tensors, file_size).map_err(|problem| format_error(shown_file, problem))?;
        for tensor in tensors {
            if self.contains(&tensor.name) {
                let problem = format!("tensor {} is there twice", shown(&tensor.name));
                return Err(format_error(shown_file, problem));
            }
            if self.by_name.len() + self.unsupported.len() >= MAX_TENSORS {
                let problem = format!("the checkpoint has more than {MAX_TENSORS} tensors");
                return Err(format_error(shown_file, problem));
            }
            match tensor.dtype {
                Ok(dtype) => {
                    let shape = checked_shape(&tensor, dtype).map_err(|problem| format_error(shown_file, problem))?;
                    self.by_name.insert(tensor.name.clone(), self.listed.len());
                    self.listed.push(TensorInfo { name: tensor.name, dtype, shape, file: file.clone(), range: tensor.range });
                }
                Err(format) => {
                    self.unsupported.insert(tensor.name, format);
                }
            }
        }
        Ok(())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.unsupported.contains_key(name)
    }

    pub fn len(&self) -> usize {
        self.by_name.len() + self.unsupported.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, TensorInfo> {
        self.listed.iter()
    }

    pub fn unsupported(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unsupported.iter().map(|(name, format)| (name.as_str(), format.as_str()))
    }

    pub fn find(&self, name: &str) -> Result<Option<&TensorInfo>> {
        if let Some(format) = self.unsupported.get(name) {
            let supported: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
            return Err(Error::Tensor {
                name: shown(name),
                problem: format!("its format {} is not supported yet; supported are {}", shown(format), supported.join(", ")),
            });
        }
        Ok(self.by_name.get(name).and_then(|&index| self.listed.get(index)))
    }
}

/// The shape in the host's integers, once it is certain that it and the bytes agree.
fn checked_shape(tensor: &HeaderTensor, dtype: DType) -> Result<Vec<usize>, String> {
    let name = || shown(&tensor.name);
    let too_large = || format!("tensor {}: the shape {:?} is too large", name(), tensor.shape);
    if let Some(&row) = tensor.shape.last()
        && !row.is_multiple_of(dtype.block_len() as u64)
    {
        return Err(format!("tensor {}: rows of {row} elements are not whole blocks of {} ({dtype})", name(), dtype.block_len()));
    }
    let bytes = byte_length(&tensor.shape, dtype).ok_or_else(too_large)?;
    let stored = tensor.range.end - tensor.range.start;
    if bytes != stored {
        return Err(format!(
            "tensor {}: the shape {:?} in {dtype} takes {bytes} bytes, but the file gives it {stored}",
            name(),
            tensor.shape
        ));
    }
    tensor.shape.iter().map(|&dim| usize::try_from(dim).map_err(|_| too_large())).collect()
}

/// The bytes of a tensor, or `None` if it has no whole number of blocks or overflows.
pub(super) fn byte_length(shape: &[u64], dtype: DType) -> Option<u64> {
    dtype.bytes_for(element_count(shape)?)
}

/// The product of the dimensions, or `None` if it overflows, even where a later dimension is 0.
pub(super) fn element_count(shape: &[u64]) -> Option<u64> {
    shape
        .iter()
        .filter(|&&dim| dim != 0)
        .try_fold(1u64, |product, &dim| product.checked_mul(dim))
        .map(|product| if shape.contains(&0) { 0 } else { product })
}

/// Every tensor lies inside the file, and no two share a byte.
pub(super) fn check_ranges(tensors: &[HeaderTensor], file_size: u64) -> Result<(), String> {
    let mut in_order: Vec<&HeaderTensor> = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let Range { start, end } = tensor.range;
        if start > end || end > file_size {
            return Err(format!(
                "tensor {} should lie at bytes {start}..{end}, but the file has {file_size} bytes",
                shown(&tensor.name)
            ));
        }
        if start < end {
            in_order.push(tensor);
        }
    }
    in_order.sort_by_key(|tensor| tensor.range.start);
    for pair in in_order.windows(2) {
        if let [first, second] = pair
            && second.range.start < first.range.end
        {
            return Err(format!("tensors {} and {} overlap", shown(&first.name), shown(&second.name)));
        }
    }
    Ok(())
}

/// [`Error::Format`] of `file`.
pub(super) fn format_error(file: &str, problem: impl Into<String>) -> Error {
    Error::Format { file: file.to_owned(), problem: problem.into() }
}
