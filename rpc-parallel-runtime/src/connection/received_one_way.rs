//! A received one-way call that counts against the limit of its connection.

use std::sync::Arc;

use super::shared::Connection;
use crate::wire::FrameError;

/// A received one-way call. Dropping it records that the call has completed.
pub(super) struct ReceivedOneWay(Arc<Connection>);

impl ReceivedOneWay {
    /// Records that a one-way call was received.
    ///
    /// # Errors
    ///
    /// The peer has sent more than it may.
    pub(super) fn receive(connection: &Arc<Connection>) -> Result<Self, FrameError> {
        connection.lock().machine.receive_one_way()?;
        Ok(Self(connection.clone()))
    }
}

impl Drop for ReceivedOneWay {
    fn drop(&mut self) {
        // In a forked child, the connection belongs to the parent.
        if !self.0.is_inherited() {
            self.0.lock().machine.complete_one_way();
        }
    }
}
