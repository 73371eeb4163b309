//! A control connection over a Unix socket, which also carries descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

use super::control_command::{ConnectionUse, ControlCommand, connection_command, listener_command};
use super::control_connection::{ControlConnection, SendingStart};
use super::open_files::make_room;
use crate::transport::{Dialing, Fault, connected_pair, send, send_all, split, try_send};
use crate::wire::BusyPoll;

/// The number of bytes of the start message that are sent with its descriptors. Every socket buffer
/// has room for them.
const FIRST_BYTES: usize = 16 * 1024;

/// The master's end of the control socket of a worker on this host.
pub(super) struct SocketControl {
    socket: Arc<OwnedFd>,
}

impl SocketControl {
    /// Makes a control connection, and returns the worker's end too.
    pub(super) fn new() -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = connected_pair()?;
        make_room(theirs.as_fd());
        ours.set_nonblocking(true)?;
        Ok((Self { socket: Arc::new(ours.into()) }, theirs))
    }

    /// Sends bytes that the process reads before the start message.
    ///
    /// # Errors
    ///
    /// The connection failed. It is no error if the process has ended, or was not started: its
    /// launch reports the reason.
    pub(super) async fn send_before_start(&self, bytes: &[u8]) -> io::Result<()> {
        unless_gone(send_all(&self.socket, bytes).await)
    }
}

impl ControlConnection for SocketControl {
    fn carries_descriptors(&self) -> bool {
        true
    }

    fn send_start<'a>(
        &'a self,
        message: &'a [u8],
        descriptors: &'a [BorrowedFd<'a>],
    ) -> SendingStart<'a> {
        let (first, rest) = message.split_at(message.len().min(FIRST_BYTES));
        // Sent here, so that the descriptors need not outlive the first poll.
        let sent = send(&*self.socket, first, descriptors);
        Box::pin(async move {
            let sent = match sent {
                Ok(()) => send_all(&self.socket, rest).await,
                Err(error) => Err(error),
            };
            unless_gone(sent)
        })
    }

    fn send(&self, command: ControlCommand) -> io::Result<()> {
        match command {
            // The supervisor sends pings, and must not wait.
            ControlCommand::Ping => try_send(&*self.socket, &command.encode()).map(drop),
            _ => send(&*self.socket, &command.encode(), &[]),
        }
    }

    fn open(&self, purpose: ConnectionUse, busy_poll: BusyPoll) -> Dialing<'_> {
        let opened = connected_pair().and_then(|(ours, theirs)| {
            send(&*self.socket, &[connection_command(purpose)], &[theirs.as_fd()])?;
            Ok(ours)
        });
        Box::pin(async move { split(opened?, busy_poll) })
    }

    fn send_listener(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        send(&*self.socket, &[listener_command()], &[listener])
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&*self.socket, buffer, RecvFlags::DONTWAIT)?.0)
    }

    fn register(&self, epoll: &Arc<OwnedFd>, data: u64) -> io::Result<()> {
        Ok(epoll::add(epoll, &self.socket, EventData::new_u64(data), EventFlags::IN)?)
    }

    fn deregister(&self, epoll: &OwnedFd) {
        let _ = epoll::delete(epoll, &self.socket);
    }

    fn close(&self) {
        // It fails only if the worker has closed its end.
        let _ = shutdown(&*self.socket, Shutdown::Both);
    }
}

/// Ignores that the peer has closed its end.
fn unless_gone(sent: io::Result<()>) -> io::Result<()> {
    sent.or_else(|error| match Fault::of(&error) {
        Fault::PeerGone => Ok(()),
        _ => Err(error),
    })
}
