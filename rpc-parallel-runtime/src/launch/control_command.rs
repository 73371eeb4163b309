//! Control commands, which a master sends to a worker over the control socket.
//!
//! A send that fails because memory is short is retried for 1 s, and blocks the thread. After an
//! error the worker has received nothing of the command.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::transport::{receive, send, send_once};

/// A command of the master to the worker.
#[derive(Debug)]
pub(super) enum ControlCommand {
    /// Serve this connection.
    Connection(OwnedFd),
    /// Serve this connection for the items of maps.
    #[cfg(feature = "pool")]
    ItemsConnection(OwnedFd),
    /// Serve the connections of this listener.
    Listener(OwnedFd),
    /// Answer with a heartbeat.
    Ping,
    /// Send the stats of the process.
    Stats,
    /// End within this time.
    End { within: Duration },
    /// Keep running after the end of the master, whose `start_detached` has returned a handle.
    Detach,
    /// A command whose descriptor this process failed to receive: it has too many open files.
    MissingDescriptor(io::Error),
}

const CONNECTION: u8 = 1;
const LISTENER: u8 = 2;
const PING: u8 = 3;
const END: u8 = 4;
const STATS: u8 = 5;
const DETACH: u8 = 6;
#[cfg(feature = "pool")]
const ITEMS_CONNECTION: u8 = 7;

/// Sends the worker its end of a new connection.
pub(super) fn send_connection(control: impl AsFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    send(control, &[CONNECTION], &[socket])
}

/// Sends the worker its end of a new connection for the items of maps.
#[cfg(feature = "pool")]
pub(super) fn send_items_connection(control: impl AsFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    send(control, &[ITEMS_CONNECTION], &[socket])
}

/// Sends the worker a listener, whose connections it then serves.
pub(super) fn send_listener(control: impl AsFd, listener: BorrowedFd<'_>) -> io::Result<()> {
    send(control, &[LISTENER], &[listener])
}

/// Requests a heartbeat. It does not block.
///
/// # Errors
///
/// The request was not sent.
pub(super) fn send_ping(control: impl AsFd) -> io::Result<()> {
    send_once(control, PING)
}

/// Requests the stats of the worker's process.
pub(super) fn request_stats(control: impl AsFd) -> io::Result<()> {
    send(control, &[STATS], &[])
}

/// Lets a detached worker keep running after the end of its master.
pub(super) fn send_detach(control: impl AsFd) -> io::Result<()> {
    send(control, &[DETACH], &[])
}

/// Requests the orderly end of a worker within this time.
pub(super) fn send_end(control: impl AsFd, within: Duration) -> io::Result<()> {
    let mut bytes = [END, 0, 0, 0, 0];
    let millis = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    bytes[1..].copy_from_slice(&millis.to_le_bytes());
    send(control, &bytes, &[])
}

impl ControlCommand {
    /// Waits for the next command. Returns `None` after the master has closed its end.
    pub(super) fn receive(control: impl AsFd) -> io::Result<Option<Self>> {
        let (mut kind, mut descriptors) = ([0], Vec::new());
        match receive(&control, &mut kind, &mut descriptors) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // The command was read and its descriptor was dropped: the peer of that connection sees
            // its end.
            Err(error) if error.kind() == io::ErrorKind::Other => {
                return Ok(Some(Self::MissingDescriptor(error)));
            }
            Err(error) => return Err(error),
        }
        let mut descriptor = || {
            let missing = || io::Error::other("control command without its descriptor");
            descriptors.pop().ok_or_else(missing)
        };
        Ok(Some(match kind[0] {
            CONNECTION => Self::Connection(descriptor()?),
            #[cfg(feature = "pool")]
            ITEMS_CONNECTION => Self::ItemsConnection(descriptor()?),
            LISTENER => Self::Listener(descriptor()?),
            PING => Self::Ping,
            STATS => Self::Stats,
            DETACH => Self::Detach,
            END => {
                let mut millis = [0; 4];
                if receive(&control, &mut millis, &mut Vec::new())? < millis.len() {
                    return Ok(None);
                }
                let within = Duration::from_millis(u32::from_le_bytes(millis).into());
                Self::End { within }
            }
            other => return Err(io::Error::other(format!("unknown control command {other}"))),
        }))
    }
}
