//! Where a message is written, never more of it than allowed.

use std::io;

/// A message is larger than the settings allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("message of {size} bytes, of which {max} are allowed")]
pub struct TooLarge {
    /// The size of the message, in bytes.
    pub size: usize,
    /// The largest size allowed, in bytes.
    pub max: usize,
}

/// Appends a message to a buffer up to a limit, and only counts what lies beyond it.
///
/// So the memory for a message that is too large is never allocated, and its size is still known.
pub struct Sink<'a> {
    buffer: &'a mut Vec<u8>,
    size: usize,
    max: usize,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>, max: usize) -> Self {
        Self { buffer, size: 0, max }
    }

    /// Says whether everything fitted.
    pub(crate) fn finish(self) -> Result<(), TooLarge> {
        let Self { size, max, .. } = self;
        if size > max { Err(TooLarge { size, max }) } else { Ok(()) }
    }
}

impl io::Write for Sink<'_> {
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
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_too_large_is_counted_and_not_kept() {
        let mut buffer = Vec::new();
        let mut sink = Sink::new(&mut buffer, 10);

        for _ in 0..1000 {
            sink.write_all(b"1234").expect("a sink takes everything");
        }

        assert_eq!(sink.finish(), Err(TooLarge { size: 4000, max: 10 }));
        assert_eq!(buffer, b"12341234");
    }
}
