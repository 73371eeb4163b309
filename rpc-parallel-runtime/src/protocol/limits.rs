//! The limits of calls, streams and unread bytes of a connection.

use super::reading::Chunk;
use crate::wire::{Settings, largest_frame};

/// The limits of a connection. Both ends have the same: the sender waits before it exceeds one, and
/// the receiver refuses a peer that does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Calls in one direction that are not answered.
    pub(crate) calls: usize,
    /// One-way calls in one direction whose functions have not completed.
    pub(crate) one_way_calls: u32,
    /// Open streams.
    pub(crate) streams: usize,
    /// The bytes of all streams in one direction that are sent but not read.
    pub(crate) window: usize,
    /// The bytes of a stream that the sender of its pipe may send before the reader has granted
    /// more.
    pub(crate) first_window: u32,
    /// The largest cost of one frame of elements, which may overdraw the window.
    pub(crate) overdraft: usize,
}

impl Limits {
    pub(crate) fn of(settings: &Settings) -> Self {
        let (first, whole) = (settings.stream_window(), settings.connection_window());
        Self {
            calls: settings.max_calls() as usize,
            one_way_calls: settings.max_one_way_calls(),
            streams: settings.max_pipes() as usize,
            window: whole,
            first_window: u32::try_from(first.min(whole)).unwrap_or(u32::MAX),
            overdraft: Chunk::cost_of(largest_frame(settings.max_message_size())),
        }
    }
}
