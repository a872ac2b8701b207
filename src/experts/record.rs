//! An expert as one contiguous range of bytes, in the layout that the kernels read.

use std::ops::Range;

use crate::packing::Layout;

/// Records begin and end at multiples of this, in a file and in memory: a page.
pub(crate) const RECORD_ALIGNMENT: u64 = 4096;

/// What an expert is made of: its matrices one after the other, those of gate and up, then those of down. A matrix is the
/// array of its quants, then that of its side words, little-endian words as [`Layout::pack_group`] makes them, group after
/// group. Zeros follow up to [`RECORD_ALIGNMENT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// gate stacked over up; two matrices where their formats differ.
    pub(crate) gate_up: Vec<Layout>,
    pub(crate) down: Vec<Layout>,
}

/// Where a matrix of a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) layout: Layout,
    pub(crate) quants: Range<u64>,
    /// Empty for float formats.
    pub(crate) side: Range<u64>,
}

impl Record {
    /// The matrices in order.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Layout> {
        self.gate_up.iter().chain(&self.down)
    }

    /// Where each matrix is, in order.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut at = 0;
        let mut next = |bytes: u64| {
            at += bytes;
            at - bytes..at
        };
        let words = |layout: &Layout, words: usize| 4 * (layout.groups() * words) as u64;
        self.matrices()
            .map(|layout| Place {
                layout: *layout,
                quants: next(words(layout, layout.group_quants())),
                side: next(words(layout, layout.group_side())),
            })
            .collect()
    }

    /// Bytes of the record without the padding.
    pub(crate) fn content(&self) -> u64 {
        self.matrices().map(Layout::bytes).sum()
    }

    /// Bytes of the record.
    pub(crate) fn bytes(&self) -> u64 {
        self.content().next_multiple_of(RECORD_ALIGNMENT)
    }
}
