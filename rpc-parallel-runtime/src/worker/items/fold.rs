//! The accumulator of a reduction.

/// The accumulator of consecutive items of one batch.
pub(super) struct Fold {
    serial: u64,
    pub(super) batch: u64,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) value: Vec<u8>,
}

impl Fold {
    /// Begins an accumulator with the result of an item.
    pub(super) fn new((serial, batch, item): (u64, u64, u32), value: Vec<u8>) -> Self {
        Self { serial, batch, from: item, to: item + 1, value }
    }

    /// Returns the serial number of the batch.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Writes the input of the function that combines the accumulator with a result.
    pub(super) fn write_input(&self, result: &[u8], input: &mut Vec<u8>) {
        input.clear();
        input.extend_from_slice(&self.value);
        input.extend_from_slice(result);
    }

    /// Replaces the accumulator by that with one more item, and keeps the buffer of the old one.
    pub(super) fn extend(&mut self, value: &mut Vec<u8>) {
        std::mem::swap(&mut self.value, value);
        self.to += 1;
    }
}
