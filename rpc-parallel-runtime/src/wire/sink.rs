//! Where a message is written, never more of it than allowed.

use std::io::{self, Write};

use bytes::Bytes;

use super::field::fields;

/// A message is larger than the settings allow.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, thiserror::Error, serde::Serialize, serde::Deserialize,
)]
#[error("message of {size} bytes, of which {max} are allowed")]
pub struct TooLarge {
    /// The size of the message, in bytes.
    pub size: usize,
    /// The largest size allowed, in bytes.
    pub max: usize,
}

fields!(struct TooLarge { size, max });

/// Bytes that belong at a place of a buffer, and are not copied to it.
#[derive(Debug)]
pub(crate) struct Splice {
    /// How many bytes of the buffer stand before them.
    pub(super) at: usize,
    pub(super) bytes: Bytes,
}

/// A place in a [`Sink`].
pub(crate) struct SinkPosition {
    buffer: usize,
    size: usize,
    spliced: usize,
}

/// Appends a message to a buffer up to a limit, and only counts what lies beyond it.
///
/// So the memory for a message that is too large is never allocated, and its size is still known.
pub struct Sink<'a> {
    buffer: &'a mut Vec<u8>,
    size: usize,
    max: usize,
    /// Where the frame begins that large bytes are spliced into; they are copied if there is none.
    start: Option<usize>,
    spliced: Vec<Splice>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>, max: usize) -> Self {
        Self { buffer, size: 0, max, start: None, spliced: Vec::new() }
    }

    /// Makes a sink that need not copy large bytes; `start` is where the frame begins.
    pub(super) fn splicing(buffer: &'a mut Vec<u8>, start: usize, max: usize) -> Self {
        Self { start: Some(start), ..Self::new(buffer, max) }
    }

    /// Writes bytes that the sink may keep.
    pub(super) fn write_shared(&mut self, bytes: Bytes) {
        match self.start {
            Some(start) if bytes.len() >= super::frame_writer::PART => {
                self.size = self.size.saturating_add(bytes.len());
                if self.size <= self.max {
                    self.spliced.push(Splice { at: self.buffer.len() - start, bytes });
                }
            }
            _ => self.write_all(&bytes).expect("a sink takes everything"),
        }
    }

    /// Writes bytes one by one, where they do not lie in a slice.
    pub(super) fn extend(&mut self, bytes: impl ExactSizeIterator<Item = u8>) {
        self.size = self.size.saturating_add(bytes.len());
        if self.size <= self.max {
            self.buffer.extend(bytes);
        }
    }

    /// Says whether large bytes are better copied into a buffer of their own than into this one.
    pub(super) fn splices(&self, len: usize) -> bool {
        self.start.is_some()
            && len >= super::frame_writer::PART
            && self.size.saturating_add(len) <= self.max
    }

    /// Remembers where the sink is.
    pub(crate) fn mark(&self) -> SinkPosition {
        SinkPosition { buffer: self.buffer.len(), size: self.size, spliced: self.spliced.len() }
    }

    /// Takes back what has been written since.
    pub(crate) fn rewind(&mut self, mark: &SinkPosition) {
        self.buffer.truncate(mark.buffer);
        self.size = mark.size;
        self.spliced.truncate(mark.spliced);
    }

    /// Returns how much may be written.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Returns how much has been written.
    pub(crate) fn len(&self) -> usize {
        self.size
    }

    /// Says whether everything fitted.
    pub(crate) fn finish(self) -> Result<Vec<Splice>, TooLarge> {
        let Self { size, max, spliced, .. } = self;
        if size > max { Err(TooLarge { size, max }) } else { Ok(spliced) }
    }
}

impl Write for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size = self.size.saturating_add(bytes.len());
        if self.size <= self.max {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversized_bytes_are_counted_and_not_kept() {
        let mut buffer = Vec::new();
        let mut sink = Sink::new(&mut buffer, 10);

        for _ in 0..1000 {
            sink.write_all(b"1234").expect("a sink takes everything");
        }

        let refused = sink.finish().expect_err("it is too large");
        assert_eq!(refused, TooLarge { size: 4000, max: 10 });
        assert_eq!(buffer, b"12341234");
    }
}
