//! Bytes on their way to the transport.

use std::io::IoSlice;

use bytes::Bytes;

/// The bytes that are written next, in two segments.
///
/// A machine hands out one at a time. Whoever takes it writes it, as far as the transport has room,
/// and gives it back. The rest of it is handed out next, before all other frames.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    head: Vec<u8>,
    tail: Segment,
    /// The number of written bytes.
    written: usize,
    /// Whether a part of a stream or of a large frame is in it.
    is_bulk: bool,
    /// Whether the latency of the frames after it matters more than the throughput.
    prefers_latency: bool,
}

/// The second segment.
#[derive(Debug)]
pub(super) enum Segment {
    Frame(Vec<u8>),
    Fragment(Bytes),
}

impl Default for Segment {
    fn default() -> Self {
        Self::Frame(Vec::new())
    }
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(bytes) => bytes,
            Self::Fragment(bytes) => bytes,
        }
    }
}

impl Transmit {
    /// Makes a transmit of one frame.
    pub(super) fn of(head: Vec<u8>) -> Self {
        Self { head, ..Self::default() }
    }

    /// Makes a transmit of urgent frames and a turn of the lanes.
    pub(super) fn of_turn(head: Vec<u8>, tail: Segment, prefers_latency: bool) -> Self {
        Self { head, tail, written: 0, is_bulk: true, prefers_latency }
    }

    /// Returns the buffer of the first segment, for reuse.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.head
    }

    /// Adds bytes at the end of a transmit that has only one segment.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        debug_assert!(self.tail.bytes().is_empty());
        self.head.extend_from_slice(bytes);
    }

    /// Treats all bytes as written, because the peer does not read.
    pub(crate) fn skip(&mut self) {
        self.written = self.len();
    }

    /// Returns the segments that are not written.
    pub(crate) fn segments(&self) -> [IoSlice<'_>; 2] {
        let tail = self.tail.bytes();
        match self.head.get(self.written..) {
            Some(head) => [IoSlice::new(head), IoSlice::new(tail)],
            None => [IoSlice::new(&tail[self.written - self.head.len()..]), IoSlice::new(&[])],
        }
    }

    /// Records that the first `len` bytes of the segments were written.
    pub(crate) fn advance(&mut self, len: usize) {
        self.written += len;
        debug_assert!(self.written <= self.len());
    }

    pub(crate) fn is_written(&self) -> bool {
        self.written == self.len()
    }

    /// Returns whether a part of a stream or of a large frame is in it. Other tasks should run
    /// before the next one is written.
    pub(crate) fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    /// Returns whether the send buffer of the transport should be small.
    pub(crate) fn prefers_latency(&self) -> bool {
        self.prefers_latency
    }

    fn len(&self) -> usize {
        self.head.len() + self.tail.bytes().len()
    }
}
