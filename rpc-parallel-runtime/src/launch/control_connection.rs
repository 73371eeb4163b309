//! The master's end of a control connection: commands go down to the worker, events come up.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;

use super::control_command::{ConnectionUse, ControlCommand};
use crate::transport::Dialing;
use crate::wire::BusyPoll;

/// The future of a start message that is being sent.
pub(super) type SendingStart<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// The master's end of the control connection of one worker. How its bytes travel depends on the
/// launcher. None of its functions waits for the worker, except for the futures.
pub(crate) trait ControlConnection: Send + Sync + 'static {
    /// Returns whether the connection carries descriptors.
    fn carries_descriptors(&self) -> bool;

    /// Sends the start message and its descriptors. It is the first message of the connection.
    ///
    /// # Errors
    ///
    /// The connection failed. It is no error if the worker has ended:
    /// the events that it has sent before contain the reason.
    fn send_start<'a>(
        &'a self,
        message: &'a [u8],
        descriptors: &'a [BorrowedFd<'a>],
    ) -> SendingStart<'a>;

    /// Sends a command.
    ///
    /// # Errors
    ///
    /// The worker does not receive the command: it has ended, has not read earlier commands, or the
    /// kernel has lacked memory for 1 s.
    fn send(&self, command: ControlCommand) -> io::Result<()>;

    /// Opens a transport whose other end the worker serves.
    fn open(&self, purpose: ConnectionUse, busy_poll: BusyPoll) -> Dialing<'_>;

    /// Sends the worker a listener, whose connections the worker then serves.
    ///
    /// # Errors
    ///
    /// The connection carries no descriptors, or as for [`send`](Self::send).
    fn send_listener(&self, listener: BorrowedFd<'_>) -> io::Result<()>;

    /// Receives bytes of events without waiting. No bytes are the end of the connection.
    ///
    /// # Errors
    ///
    /// `WouldBlock` means that no bytes have arrived.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Registers the connection with the epoll instance of the supervisor, so that an event with this
    /// data arrives when [`receive`](Self::receive) may have bytes. A connection that passes its
    /// events to the supervisor itself registers nothing.
    ///
    /// # Errors
    ///
    /// The kernel lacks memory for it.
    fn register(&self, epoll: &Arc<OwnedFd>, data: u64) -> io::Result<()>;

    /// Removes the connection from the epoll instance.
    fn deregister(&self, epoll: &OwnedFd);

    /// Ends the connection.
    fn close(&self);
}
