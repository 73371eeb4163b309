//! A control connection over a stream of bytes, which carries no descriptors: that of a process behind
//! ssh, or in a container.

use std::future::ready;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::control_command::{ConnectionUse, ControlCommand, channel_command};
use super::control_connection::{ControlConnection, SendingStart};
use crate::transport::{CONTROL, Dialing, Fault, Multiplexer};
use crate::wire::BusyPoll;

/// The master's end of a control connection over a stream. Connections to the worker are channels of
/// the same stream.
pub(super) struct StreamControl {
    stream: Arc<Multiplexer>,
    next_channel: AtomicU32,
}

impl StreamControl {
    pub(super) fn new(incoming: OwnedFd, outgoing: OwnedFd) -> io::Result<Self> {
        let stream = Arc::new(Multiplexer::new(incoming, outgoing, false)?);
        Ok(Self { stream, next_channel: AtomicU32::new(CONTROL + 1) })
    }
}

impl ControlConnection for StreamControl {
    fn carries_descriptors(&self) -> bool {
        false
    }

    fn send_start<'a>(&'a self, message: &'a [u8], _: &'a [BorrowedFd<'a>]) -> SendingStart<'a> {
        let sent = self.stream.send_control(message);
        Box::pin(ready(sent.or_else(|error| match Fault::of(&error) {
            Fault::PeerGone => Ok(()),
            _ => Err(error),
        })))
    }

    fn send(&self, command: ControlCommand) -> io::Result<()> {
        self.stream.send_control(&command.encode())
    }

    fn open(&self, purpose: ConnectionUse, _: BusyPoll) -> Dialing<'_> {
        let channel = self.next_channel.fetch_add(1, Ordering::Relaxed);
        // The command precedes all bytes of the channel.
        let sent = self.stream.send_control(&channel_command(purpose, channel));
        Box::pin(ready(sent.map(|()| self.stream.channel(channel))))
    }

    fn send_listener(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only the process that has started the worker can connect to it: its launcher reaches \
             it by a stream of bytes, and the worker has no address",
        ))
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.pump();
        self.stream.receive_control(buffer)
    }

    fn register(&self, epoll: &Arc<OwnedFd>, data: u64) -> io::Result<()> {
        self.stream.register(epoll, data)
    }

    fn deregister(&self, _: &OwnedFd) {
        self.stream.deregister();
    }

    fn close(&self) {
        self.stream.end();
    }
}
