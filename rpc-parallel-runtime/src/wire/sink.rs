//! The buffer that a message is encoded into, with a size limit.

use std::io::{self, Write};

use bytes::Bytes;

use super::fragment::MAX_FRAGMENT_LEN;

/// A message exceeds [`max_message_size`](crate::Settings::max_message_size).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, thiserror::Error, serde::Serialize, serde::Deserialize,
)]
#[error("message of {size} bytes exceeds the limit of {max} bytes")]
pub struct TooLarge {
    /// The size of the encoded message, in bytes.
    pub size: usize,
    /// The largest allowed size, in bytes.
    pub max: usize,
}

/// Bytes that belong at a position of a frame, and are not copied into its buffer.
#[derive(Clone, Debug)]
pub(crate) struct Splice {
    /// The number of bytes of the buffer that precede them.
    pub(super) at: usize,
    pub(super) bytes: Bytes,
}

/// A position in a [`Sink`] to return to.
pub(crate) struct SinkPosition {
    buffer: usize,
    size: usize,
    spliced: usize,
}

/// Appends a message to a buffer up to a limit, and only counts the bytes beyond the limit.
///
/// So the error for a message that is too large has its full size, and no memory is allocated for
/// it.
pub struct Sink<'a> {
    buffer: &'a mut Vec<u8>,
    size: usize,
    max: usize,
    /// The position in the buffer where the frame begins, if large byte sequences may be spliced
    /// into it. `None` means that they are copied.
    start: Option<usize>,
    spliced: Vec<Splice>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>, max: usize) -> Self {
        Self { buffer, size: 0, max, start: None, spliced: Vec::new() }
    }

    /// Creates a sink that does not copy large byte sequences. `start` is the position in the
    /// buffer where the frame begins.
    pub(super) fn splicing(buffer: &'a mut Vec<u8>, start: usize, max: usize) -> Self {
        Self { start: Some(start), ..Self::new(buffer, max) }
    }

    /// Writes bytes, without a copy if there are at least [`MAX_FRAGMENT_LEN`] of them.
    pub(super) fn write_shared(&mut self, bytes: Bytes) {
        match self.start {
            Some(start) if bytes.len() >= MAX_FRAGMENT_LEN => {
                self.size = self.size.saturating_add(bytes.len());
                if self.size <= self.max {
                    self.spliced.push(Splice { at: self.buffer.len() - start, bytes });
                }
            }
            _ => self.write_all(&bytes).expect("writing to a sink cannot fail"),
        }
    }

    /// Writes bytes from an iterator.
    pub(super) fn extend(&mut self, bytes: impl ExactSizeIterator<Item = u8>) {
        self.size = self.size.saturating_add(bytes.len());
        if self.size <= self.max {
            self.buffer.extend(bytes);
        }
    }

    /// Returns whether `len` bytes would be spliced, so that the caller should copy them into a
    /// buffer of their own.
    pub(super) fn splices(&self, len: usize) -> bool {
        self.start.is_some() && len >= MAX_FRAGMENT_LEN && self.size.saturating_add(len) <= self.max
    }

    /// Returns the current position, for [`rewind`](Self::rewind).
    pub(crate) fn position(&self) -> SinkPosition {
        SinkPosition { buffer: self.buffer.len(), size: self.size, spliced: self.spliced.len() }
    }

    /// Removes everything that was written after `position`.
    pub(crate) fn rewind(&mut self, position: &SinkPosition) {
        self.buffer.truncate(position.buffer);
        self.size = position.size;
        self.spliced.truncate(position.spliced);
    }

    /// Returns the limit, in bytes.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Returns the number of bytes written, including those beyond the limit.
    pub(crate) fn len(&self) -> usize {
        self.size
    }

    /// Returns the spliced bytes.
    ///
    /// # Errors
    ///
    /// The message exceeds the limit.
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
