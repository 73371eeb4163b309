//! Fragments: the pieces in which a large frame travels.

/// The largest fragment, in bytes. A frame larger than this travels in fragments.
pub(crate) const MAX_FRAGMENT_LEN: usize = 64 * 1024;

/// Identifies a large frame that travels in fragments, per connection and direction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TransferId(pub(crate) u32);
