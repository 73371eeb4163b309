//! The tracing spans in which a call is made, as they travel in its frame.
//!
//! Without the feature `tracing` they are parsed and ignored, and never written.

#[cfg(any(feature = "tracing", test))]
use serde::{Deserialize, Serialize};

/// Identifies a span of the process that made a call.
#[cfg(any(feature = "tracing", test))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct SpanKey {
    /// The random number that identifies the process.
    pub(crate) process: u64,
    /// The number of the span, unique in its process.
    pub(crate) span: u64,
}

/// The largest number of span keys that a call carries.
pub(crate) const MAX_SPAN_KEYS: usize = 8;

/// The length of one span key in a frame, in bytes.
pub(super) const KEY_LEN: usize = 8 + 8;

/// The encoded span keys of a call, innermost first.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct SpanKeys<'a>(
    #[cfg_attr(
        not(any(feature = "tracing", test)),
        expect(dead_code, reason = "spans are used only with the feature `tracing`")
    )]
    &'a [u8],
);

impl<'a> SpanKeys<'a> {
    pub(super) fn of(list: &'a [u8]) -> Self {
        Self(list)
    }

    /// Returns the first [`MAX_SPAN_KEYS`] keys.
    #[cfg(any(feature = "tracing", test))]
    pub(crate) fn iter(self) -> impl Iterator<Item = SpanKey> + 'a {
        let (keys, _) = self.0.as_chunks::<KEY_LEN>();
        keys.iter().take(MAX_SPAN_KEYS).map(|it| {
            let [p0, p1, p2, p3, p4, p5, p6, p7, span @ ..] = *it;
            SpanKey {
                process: u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]),
                span: u64::from_le_bytes(span),
            }
        })
    }
}

#[cfg(any(feature = "tracing", test))]
impl SpanKey {
    pub(super) fn to_bytes(self) -> [u8; KEY_LEN] {
        let mut bytes = [0; KEY_LEN];
        bytes[..8].copy_from_slice(&self.process.to_le_bytes());
        bytes[8..].copy_from_slice(&self.span.to_le_bytes());
        bytes
    }
}
