//! The reassembly of large frames from their fragments.

use bytes::{Bytes, BytesMut};

use crate::wire::{FrameError, TransferId, largest_frame, may_keep};

/// The maximum number of large frames that are transferred at the same time, in each direction.
pub(super) const MAX_TRANSFERS: usize = 16;

/// The first capacity of a buffer, in bytes. It grows with the received bytes.
const FIRST: usize = 1024 * 1024;

/// The large frames that are received in part.
pub(super) struct Reassembly {
    open: Vec<Transfer>,
    /// The frame that was completed last. When no other value shares it, its buffer is reused for a
    /// frame that is not much smaller.
    last: Bytes,
    max_message_size: usize,
}

struct Transfer {
    id: TransferId,
    buffer: BytesMut,
    filled: usize,
    total: usize,
}

impl Reassembly {
    pub(super) fn new(max_message_size: usize) -> Self {
        Self { open: Vec::new(), last: Bytes::new(), max_message_size }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// Adds the first fragment of a frame of `total` bytes, and returns the frame if it is
    /// complete.
    pub(super) fn begin(
        &mut self,
        id: TransferId,
        total: u32,
        bytes: &[u8],
    ) -> Result<Option<Bytes>, FrameError> {
        let (size, max) = (total as usize, largest_frame(self.max_message_size));
        if size > max {
            return Err(FrameError::TooLarge { size, max });
        }
        if self.open.iter().any(|it| it.id == id) {
            return Err(violation(id, "the number is already in use"));
        }
        if self.open.len() == MAX_TRANSFERS {
            return Err(violation(id, "too many concurrent transfers"));
        }
        // A value in the frame may share the buffer, and then keeps all of it.
        let spare = std::mem::take(&mut self.last).try_into_mut().ok();
        let buffer = spare.filter(|it| may_keep(size, it.capacity())).unwrap_or_default();
        self.open.push(Transfer { id, buffer, filled: 0, total: size });
        self.add(id, bytes, 0)
    }

    /// Adds another fragment, and returns the frame if it is complete. The last `left` bytes of the
    /// fragment are not received yet.
    pub(super) fn add(
        &mut self,
        id: TransferId,
        bytes: &[u8],
        left: usize,
    ) -> Result<Option<Bytes>, FrameError> {
        let transfer = self.find(id)?;
        if bytes.len() + left > transfer.total - transfer.filled {
            return Err(violation(id, "the fragments are longer than announced"));
        }
        transfer.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        Ok(self.filled(id, bytes.len()))
    }

    /// Returns the space for the next `len` bytes of a transfer.
    pub(super) fn space(&mut self, id: TransferId, len: usize) -> &mut [u8] {
        match self.find(id) {
            Ok(transfer) => &mut transfer.room(len)[..len],
            Err(_) => unreachable!("a transfer exists while its fragment is received"),
        }
    }

    /// Records that `len` bytes were written to the space, and returns the frame if it is complete.
    pub(super) fn filled(&mut self, id: TransferId, len: usize) -> Option<Bytes> {
        let at = self.open.iter().position(|it| it.id == id)?;
        let transfer = &mut self.open[at];
        transfer.filled += len;
        if transfer.filled < transfer.total {
            return None;
        }
        let Transfer { mut buffer, total, .. } = self.open.swap_remove(at);
        buffer.truncate(total);
        Some(buffer.freeze())
    }

    pub(super) fn abandon(&mut self, id: TransferId) -> Result<(), FrameError> {
        self.find(id)?;
        self.open.retain(|it| it.id != id);
        Ok(())
    }

    /// Keeps a complete frame while it is handled, and its buffer for the next frame.
    pub(super) fn last(&mut self, whole: Bytes) -> &Bytes {
        self.last = whole;
        &self.last
    }

    /// Returns whether a buffer is kept for the next frame.
    pub(super) fn has_spare(&self) -> bool {
        !self.last.is_empty()
    }

    /// Frees the buffer that is kept for the next frame.
    pub(super) fn free_spare(&mut self) {
        self.last = Bytes::new();
    }

    fn find(&mut self, id: TransferId) -> Result<&mut Transfer, FrameError> {
        let found = self.open.iter_mut().find(|it| it.id == id);
        found.ok_or_else(|| violation(id, "it has not begun"))
    }
}

impl Transfer {
    /// Returns the space after the filled bytes, at least `len` bytes.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let needed = self.filled + len;
        if self.buffer.capacity() < needed {
            let room = (2 * self.filled).max(needed).max(FIRST).min(self.total.max(needed));
            self.buffer.reserve(room - self.buffer.len());
        }
        if self.buffer.len() < needed {
            // Zeroing more than one fragment at a time would delay other frames.
            self.buffer.resize(needed, 0);
        }
        &mut self.buffer[self.filled..]
    }
}

fn violation(TransferId(transfer): TransferId, violation: &'static str) -> FrameError {
    FrameError::Transfer { transfer, violation }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives a frame of `len` bytes, and returns the capacity of its buffer, which is kept for
    /// the next frame.
    fn capacity_of_next(transfers: &mut Reassembly, len: u32) -> usize {
        let id = TransferId(7);
        transfers.begin(id, len, &[]).expect("the frame is small enough");
        transfers.space(id, len as usize);
        let whole = transfers.filled(id, len as usize).expect("the frame is complete");
        let buffer = whole.try_into_mut().expect("no other value shares the buffer");
        let capacity = buffer.capacity();
        transfers.last(buffer.freeze());
        capacity
    }

    #[test]
    fn buffer_is_reused_for_frame_of_similar_length() {
        let mut transfers = Reassembly::new(16 * 1024 * 1024);
        let first = capacity_of_next(&mut transfers, 8_000_000);

        let second = capacity_of_next(&mut transfers, 4_000_000);

        assert_eq!(second, first);
    }

    #[test]
    fn small_frame_does_not_keep_buffer_of_much_larger_frame() {
        let mut transfers = Reassembly::new(16 * 1024 * 1024);
        capacity_of_next(&mut transfers, 8_000_000);

        let capacity = capacity_of_next(&mut transfers, 100_000);

        assert!(capacity <= 400_000, "the frame keeps {capacity} bytes");
    }
}
