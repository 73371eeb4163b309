//! How a call says in which spans it is made.
//!
//! All of it can be read without the feature `tracing`, and is written only with it.

#[cfg(any(feature = "tracing", test))]
use serde::{Deserialize, Serialize};

/// Names a span in which a call was made, to the process that made it.
#[cfg(any(feature = "tracing", test))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct SpanKey {
    /// A random number of the process.
    pub(crate) process: u64,
    /// A number that the process uses once.
    pub(crate) span: u64,
}

/// How many of them a call hands on, at most.
pub(crate) const MOST_KEYS: usize = 8;

/// How long one of them is in a frame.
pub(super) const KEY_LEN: usize = 8 + 8;

/// The spans of a call as they stand in its frame, innermost first.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct SpanKeys<'a>(
    #[cfg_attr(
        not(any(feature = "tracing", test)),
        expect(dead_code, reason = "nobody asks for spans without the feature `tracing`")
    )]
    &'a [u8],
);

impl<'a> SpanKeys<'a> {
    pub(super) fn of(list: &'a [u8]) -> Self {
        Self(list)
    }

    /// Returns no more of them than are handed on.
    #[cfg(any(feature = "tracing", test))]
    pub(crate) fn iter(self) -> impl Iterator<Item = SpanKey> + 'a {
        let (keys, _) = self.0.as_chunks::<KEY_LEN>();
        keys.iter().take(MOST_KEYS).map(|it| {
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
