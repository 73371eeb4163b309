//! Items that have to run.

use std::ops::Range;

use bytes::Bytes;

/// Items that were pulled together, encoded one after the other.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The index of the first item in the map.
    pub(super) first_index: u64,
    pub(super) count: u32,
    pub(super) items: Bytes,
}

impl Block {
    pub(super) fn index_of(&self, item: u32) -> u64 {
        self.first_index + u64::from(item)
    }

    /// The share of some of the items in the bytes of the block. The shares of all items add up to
    /// the length of the block.
    pub(super) fn bytes_of(&self, range: &Range<u32>) -> u64 {
        let before = |item: u32| {
            let part = self.items.len() as u128 * u128::from(item);
            (part / u128::from(self.count.max(1))) as u64
        };
        before(range.end) - before(range.start)
    }
}

/// Consecutive items of a block that have to run.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) block: Block,
    pub(super) range: Range<u32>,
    /// The number of workers that have died while they ran these items.
    pub(super) deaths: u8,
}

impl Span {
    pub(super) fn len(&self) -> u32 {
        self.range.end - self.range.start
    }

    pub(super) fn first_index(&self) -> u64 {
        self.block.index_of(self.range.start)
    }

    /// Removes the items after the first `len`, and returns them.
    pub(super) fn split_off(&mut self, len: u32) -> Self {
        let at = self.range.start + len.min(self.len());
        let rest = Self { range: at..self.range.end, ..self.clone() };
        self.range.end = at;
        rest
    }
}
