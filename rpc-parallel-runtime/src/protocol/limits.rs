//! The limits of calls, streams and unread bytes of a connection.

use super::reading::Chunk;
use crate::wire::{ReceiveLimits, largest_frame};

/// The limits of a connection. Each end enforces its own, and keeps to those of its peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The limits of what this end receives. It refuses a peer that exceeds one.
    pub(crate) receive: DirectionLimits,
    /// The limits of what the peer receives. This end waits before it exceeds one.
    pub(crate) send: DirectionLimits,
}

/// The limits of one direction of a connection, which its receiver announces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectionLimits {
    /// Calls that are not answered.
    pub(crate) calls: usize,
    /// One-way calls whose functions have not completed.
    pub(crate) one_way_calls: u32,
    /// Open streams of both directions.
    pub(crate) streams: usize,
    /// The bytes of all streams that are sent but not read.
    pub(crate) window: usize,
    /// The bytes of a stream that the sender of its pipe may send before the reader has granted
    /// more.
    pub(crate) first_window: u32,
    /// The largest cost of one frame of elements, which may overdraw the window.
    pub(crate) overdraft: usize,
}

impl Limits {
    pub(crate) fn new(own: &ReceiveLimits, peer: &ReceiveLimits) -> Self {
        Self { receive: DirectionLimits::of(own), send: DirectionLimits::of(peer) }
    }

    /// Returns the limit of the open streams of a connection: the smaller one of both ends.
    pub(crate) fn open_streams(&self) -> usize {
        self.receive.streams.min(self.send.streams)
    }
}

impl DirectionLimits {
    fn of(announced: &ReceiveLimits) -> Self {
        let (first, whole) = (announced.stream_window, announced.connection_window);
        Self {
            calls: announced.max_calls as usize,
            one_way_calls: announced.max_one_way_calls,
            streams: announced.max_pipes as usize,
            window: whole,
            first_window: u32::try_from(first.min(whole)).unwrap_or(u32::MAX),
            overdraft: Chunk::cost_of(largest_frame(announced.max_message_size)),
        }
    }
}
