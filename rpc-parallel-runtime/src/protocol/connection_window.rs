//! The flow-control window of a whole connection.

use std::mem;

use rustc_hash::FxHashSet;

use super::grant::Grant;
use super::limits::Limits;
use crate::wire::{FrameError, StreamId};

/// Bounds the bytes of all streams in one direction that are sent but not read, in addition to the
/// windows of the streams.
pub(super) struct ConnectionWindow {
    /// The number of bytes by which the peer may exceed the window of this side.
    overdraft: usize,
    /// The size of the peer's window, in bytes.
    peer_window: usize,
    /// The number of bytes that this side may send. One frame may overdraw it.
    credit: i64,
    /// The streams whose writers wait for credit of the connection.
    blocked: FxHashSet<StreamId>,
    /// The bytes that the peer may send.
    granted: Grant,
}

impl ConnectionWindow {
    pub(super) fn new(limits: &Limits) -> Self {
        let (overdraft, peer_window) = (limits.receive.overdraft, limits.send.window);
        let credit = i64::try_from(peer_window).unwrap_or(i64::MAX);
        let (blocked, granted) = (FxHashSet::default(), Grant::new(limits.receive.window));
        Self { overdraft, peer_window, credit, blocked, granted }
    }

    /// Returns the size of the window that this side grants, in bytes.
    pub(super) fn size(&self) -> usize {
        self.granted.limit()
    }

    /// Returns whether elements may be sent.
    pub(super) fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// Takes the credit for elements.
    pub(super) fn take_credit(&mut self, cost: usize) {
        self.credit -= i64::try_from(cost).unwrap_or(i64::MAX);
    }

    /// Registers the writer of a stream that waits for credit of the connection.
    pub(super) fn block(&mut self, stream: StreamId) {
        self.blocked.insert(stream);
    }

    /// Adds credit, and returns the streams whose writers have waited for it.
    pub(super) fn add_credit(&mut self, bytes: usize) -> FxHashSet<StreamId> {
        self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        if self.has_credit() { mem::take(&mut self.blocked) } else { FxHashSet::default() }
    }

    /// Checks that the peer has not returned more credit than was taken.
    pub(super) fn check_credit(&self) -> Result<(), &'static str> {
        match usize::try_from(self.credit).is_ok_and(|it| it > self.peer_window) {
            true => Err("credit of the connection for more than was written"),
            false => Ok(()),
        }
    }

    /// Handles received elements of a stream.
    pub(super) fn receive(&mut self, cost: usize, stream: StreamId) -> Result<(), FrameError> {
        // The frame that overdraws the window may overtake those of other streams.
        if self.granted.receive(cost, self.overdraft) {
            return Ok(());
        }
        let violation = "elements exceed the credit of the connection";
        Err(FrameError::Stream { stream: stream.0, violation })
    }

    /// Records that elements were read. Returns the credit for the peer.
    pub(super) fn note_read(&mut self, cost: usize) -> usize {
        self.granted.complete(cost)
    }
}
