//! The bytes of a received message.

use bytes::Bytes;

/// The smallest slice, in bytes, that is kept by sharing its buffer. A copy of a smaller one is
/// cheap.
const MIN_SHARED_LEN: usize = 4 * 1024;

/// Returns whether a value of `len` bytes may keep a buffer of `capacity` bytes allocated for as
/// long as it lives: the value is at least a quarter of the buffer.
pub(crate) fn may_keep(len: usize, capacity: usize) -> bool {
    len >= capacity / 4
}

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
    pub(crate) fn slice(self, bytes: &'a [u8]) -> Self {
        Self { bytes, ..self }
    }

    /// Returns all bytes, without a copy if the buffer can be shared.
    pub(crate) fn keep(self) -> Bytes {
        match self.buffer {
            Some(buffer) => buffer.slice_ref(self.bytes),
            None => Bytes::copy_from_slice(self.bytes),
        }
    }

    /// Returns a slice of the bytes, without a copy if it has at least [`MIN_SHARED_LEN`] bytes,
    /// the buffer can be shared, and the slice [may keep](may_keep) it.
    pub(super) fn keep_slice(self, bytes: &[u8]) -> Bytes {
        let len = bytes.len();
        match self.buffer {
            Some(buffer) if len >= MIN_SHARED_LEN && may_keep(len, buffer.len()) => {
                buffer.slice_ref(bytes)
            }
            _ => Bytes::copy_from_slice(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_is_shared_from_quarter_of_buffer_on() {
        let buffer = Bytes::from(vec![7; 40_000]);

        for (len, shared) in [(3_000, false), (9_999, false), (10_000, true), (40_000, true)] {
            let kept = Body::shared(&buffer).keep_slice(&buffer[..len]);

            assert_eq!(kept, buffer[..len]);
            assert_eq!(buffer.as_ptr_range().contains(&kept.as_ptr()), shared, "{len} bytes");
        }
    }

    #[test]
    fn slice_of_slice_is_compared_with_whole_buffer() {
        let buffer = Bytes::from(vec![7; 40_000]);
        let body = Body::shared(&buffer).slice(&buffer[..9_000]);

        let kept = body.keep_slice(&buffer[..8_000]);

        assert!(!buffer.as_ptr_range().contains(&kept.as_ptr()));
    }
}
