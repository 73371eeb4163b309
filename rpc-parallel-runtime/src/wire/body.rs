//! The bytes of a received message.

use bytes::Bytes;

/// The smallest slice, in bytes, that is kept by sharing its buffer. A smaller one is copied,
/// because it would keep a much larger buffer allocated.
const MIN_SHARED_LEN: usize = 4 * 1024;

/// The bytes of a message, and the buffer that holds them if it can be shared.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    bytes: &'a [u8],
    buffer: Option<&'a Bytes>,
}

impl<'a> Body<'a> {
    /// Wraps bytes of a buffer that will be reused.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, buffer: None }
    }

    /// Wraps a buffer that can be shared.
    pub(crate) fn shared(buffer: &'a Bytes) -> Self {
        Self { bytes: buffer, buffer: Some(buffer) }
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the body that consists of `bytes`, which must be a slice of this one.
    pub(super) fn slice(self, bytes: &'a [u8]) -> Self {
        Self { bytes, ..self }
    }

    /// Returns all bytes, without a copy if the buffer can be shared.
    pub(crate) fn keep(self) -> Bytes {
        match self.buffer {
            Some(buffer) => buffer.slice_ref(self.bytes),
            None => Bytes::copy_from_slice(self.bytes),
        }
    }

    /// Returns a slice of the bytes, without a copy if it has at least [`MIN_SHARED_LEN`] bytes and
    /// the buffer can be shared.
    pub(super) fn keep_slice(self, bytes: &[u8]) -> Bytes {
        match self.buffer {
            Some(buffer) if bytes.len() >= MIN_SHARED_LEN => buffer.slice_ref(bytes),
            _ => Bytes::copy_from_slice(bytes),
        }
    }
}
