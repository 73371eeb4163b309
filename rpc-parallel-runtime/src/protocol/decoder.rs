//! The received bytes of a connection that are not handled yet.

use bytes::Bytes;
use rustc_hash::FxHashSet;

use super::reassembly::Reassembly;
use crate::wire::{
    Body, CallId, Frame, FrameError, TransferId, find_cancels, is_of_transfer, parse, split,
    split_partial,
};

/// The minimum size of the buffer, in bytes.
const MIN_BUFFER: usize = 8 * 1024;

/// The size to which a larger buffer shrinks when it is empty, in bytes.
const KEPT_BUFFER: usize = 64 * 1024;

/// The number of bytes that are received in addition to the rest of a fragment.
const BESIDE: usize = 4 * 1024;

/// Buffers received bytes, and splits them into frames.
///
/// The buffer grows with the received bytes, never with an announced length, and shrinks again when
/// it is empty. The fragments of large frames are reassembled here.
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    handled: usize,
    filled: usize,
    /// The end of the bytes that [`scan_for_cancels`](Self::scan_for_cancels) has scanned.
    scanned: usize,
    /// The number of bytes that were handled and removed from the buffer.
    removed: u64,
    reassembly: Reassembly,
    /// The rest of a fragment, in bytes, which is received directly into its frame.
    direct: Option<(TransferId, usize)>,
    /// A reassembled large frame that is not handled yet.
    whole: Option<Bytes>,
    max_message_size: usize,
}

impl Decoder {
    pub(crate) fn new(max_message_size: usize) -> Self {
        Self {
            buffer: Vec::new(),
            handled: 0,
            filled: 0,
            scanned: 0,
            removed: 0,
            reassembly: Reassembly::new(max_message_size),
            direct: None,
            whole: None,
            max_message_size,
        }
    }

    /// Returns the space for the bytes that are received next: the first part is filled before the
    /// second.
    pub(crate) fn space(&mut self) -> [&mut [u8]; 2] {
        self.make_room();
        match self.direct {
            None => [&mut self.buffer[self.filled..], &mut []],
            Some((transfer, left)) => {
                let fragment = self.reassembly.space(transfer, left);
                [fragment, &mut self.buffer[self.filled..][..BESIDE]]
            }
        }
    }

    /// Records that `len` bytes were received into the [space](Self::space).
    pub(crate) fn received(&mut self, len: usize) {
        let mut direct = 0;
        if let Some((transfer, left)) = self.direct {
            direct = len.min(left);
            self.whole = self.reassembly.filled(transfer, direct);
            self.direct = Some((transfer, left - direct)).filter(|(_, left)| *left > 0);
            self.removed += direct as u64;
        }
        self.filled += len - direct;
    }

    /// Returns the next complete frame.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        while self.whole.is_none() && is_of_transfer(&self.buffer[self.handled..self.filled]) {
            let received = &self.buffer[self.handled..self.filled];
            let Some((frame, len)) = split(received, self.max_message_size)? else { break };
            self.whole = match frame {
                Frame::Begin { transfer, total, bytes } => {
                    self.reassembly.begin(transfer, total, bytes)?
                }
                Frame::Fragment { transfer, bytes } => self.reassembly.add(transfer, bytes, 0)?,
                Frame::Abandon { transfer } => {
                    self.reassembly.abandon(transfer)?;
                    None
                }
                _ => None,
            };
            self.handled += len;
        }
        if let Some(whole) = self.whole.take() {
            let whole = self.reassembly.last(whole);
            return parse(Body::shared(whole)).map(Some);
        }
        let received = &self.buffer[self.handled..self.filled];
        if let Some((frame, len)) = split(received, self.max_message_size)? {
            self.handled += len;
            return Ok(Some(frame));
        }
        if let Some((transfer, bytes, left)) = split_partial(received) {
            self.reassembly.add(transfer, bytes, left)?;
            self.direct = Some((transfer, left));
            self.handled = self.filled;
        }
        Ok(None)
    }

    /// Returns the number of bytes that are not handled.
    pub(crate) fn waiting(&self) -> usize {
        self.filled - self.handled
    }

    /// Returns the total number of bytes that were handled.
    pub(crate) fn position(&self) -> u64 {
        self.removed + self.handled as u64
    }

    /// Returns whether a large frame is being received.
    pub(crate) fn is_receiving_large(&self) -> bool {
        self.reassembly.is_busy()
    }

    /// Returns whether a buffer is kept for the next large frame.
    pub(crate) fn has_spare(&self) -> bool {
        self.reassembly.has_spare()
    }

    /// Frees the buffer that is kept for the next large frame.
    pub(crate) fn free_spare(&mut self) {
        self.reassembly.free_spare();
    }

    /// Scans the frames that are not handled for cancels, and adds the cancelled calls to the set.
    pub(crate) fn scan_for_cancels(&mut self, cancels: &mut FxHashSet<CallId>) {
        self.scanned = self.scanned.max(self.handled);
        let received = &self.buffer[self.scanned..self.filled];
        self.scanned += find_cancels(received, |call| {
            cancels.insert(call);
        });
    }

    fn make_room(&mut self) {
        self.removed += self.handled as u64;
        if self.handled == self.filled {
            (self.handled, self.filled, self.scanned) = (0, 0, 0);
            if self.buffer.len() > KEPT_BUFFER {
                self.buffer = vec![0; KEPT_BUFFER];
            }
        } else if self.handled > 0 {
            self.buffer.copy_within(self.handled..self.filled, 0);
            self.scanned = self.scanned.saturating_sub(self.handled);
            (self.handled, self.filled) = (0, self.filled - self.handled);
        }
        if self.filled == self.buffer.len() {
            self.buffer.resize((self.filled * 2).max(MIN_BUFFER), 0);
        }
    }
}
