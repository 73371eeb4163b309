//! The half of a connection that the calling end reads.

use std::io;
use std::task::{Context, Poll};

use super::inbox::Inbox;
use super::shared::{Connection, Locked};
use crate::protocol::Received;
use crate::transport::Reader;
use crate::wire::FrameError;

/// The half of a connection that the calling end reads. The driver reads it, and beside it a thread
/// that waits for an answer.
pub(super) struct Receiving {
    pub(super) reader: Box<dyn Reader>,
    pub(super) inbox: Inbox,
    /// How the peer has broken the protocol, if a waiting thread has noticed it.
    broken: Option<FrameError>,
}

impl Receiving {
    pub(super) fn new(reader: Box<dyn Reader>, inbox: Inbox) -> Self {
        Self { reader, inbox, broken: None }
    }

    /// Receives available bytes for the driver. Returns `false` at the end of the stream.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.inbox.poll_receive(&mut *self.reader, cx)
    }

    /// Handles all received frames.
    ///
    /// # Errors
    ///
    /// The peer has broken the protocol.
    pub(super) fn deliver<'a>(
        &mut self,
        connection: &'a Connection,
        mut locked: Locked<'a>,
    ) -> Result<(), FrameError> {
        // The lock is held across frames, but not while a callback of the user may run.
        while let Some(frame) = self.inbox.decoder.next_frame()? {
            // The frames of a closed connection concern nothing.
            if locked.lost().is_none()
                && let Received::Deliver(stream) = locked.machine.handle(frame)?
            {
                locked = connection.deliver(locked, stream, frame);
            }
        }
        Ok(())
    }

    /// Receives and handles available bytes for a thread that waits for an answer. Returns their
    /// number.
    ///
    /// The driver handles the end of the stream, and errors.
    #[cfg(feature = "pool")]
    pub(super) fn try_receive(&mut self, connection: &Connection) -> usize {
        if self.broken.is_some() {
            return 0;
        }
        let Ok(received) = self.inbox.try_receive(&mut *self.reader) else { return 0 };
        if let Err(error) = self.deliver(connection, connection.lock()) {
            self.broken = Some(error);
            connection.wake_driver();
        }
        received
    }

    /// Takes the error that a waiting thread has noticed.
    pub(super) fn take_broken(&mut self) -> Option<FrameError> {
        self.broken.take()
    }
}
