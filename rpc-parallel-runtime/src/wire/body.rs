//! A message as it was received.

use bytes::Bytes;

/// A part of a buffer is shared with it from this size on; smaller ones would keep too much alive.
const SHARED: usize = 4 * 1024;

/// The bytes of a message, and the buffer they lie in if that can be shared.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    bytes: &'a [u8],
    buffer: Option<&'a Bytes>,
}

impl<'a> Body<'a> {
    /// Bytes that are borrowed from a buffer which is used again.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, buffer: None }
    }

    /// Bytes whose buffer can be shared.
    pub(crate) fn shared(buffer: &'a Bytes) -> Self {
        Self { bytes: buffer, buffer: Some(buffer) }
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns a part of this body, of which `bytes` must be one.
    pub(super) fn part(self, bytes: &'a [u8]) -> Self {
        Self { bytes, ..self }
    }

    /// Keeps all of it, without a copy if its buffer can be shared.
    pub(crate) fn keep(self) -> Bytes {
        match self.buffer {
            Some(buffer) => buffer.slice_ref(self.bytes),
            None => Bytes::copy_from_slice(self.bytes),
        }
    }

    /// Keeps a part of it, without a copy if that is large and its buffer can be shared.
    pub(super) fn keep_part(self, part: &[u8]) -> Bytes {
        match self.buffer {
            Some(buffer) if part.len() >= SHARED => buffer.slice_ref(part),
            _ => Bytes::copy_from_slice(part),
        }
    }
}
