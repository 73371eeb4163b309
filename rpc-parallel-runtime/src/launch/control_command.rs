//! What a master tells a worker that runs.
//!
//! Where sending fails because memory is short it is retried for 1 s, and the thread blocks meanwhile.
//! After any error the worker has received nothing of the order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::transport::{receive, send, send_once};

/// What a worker is told.
#[derive(Debug)]
pub(super) enum ControlCommand {
    /// Serve this connection.
    Connection(OwnedFd),
    /// Serve the connections that come to this listener.
    Listener(OwnedFd),
    /// Give a sign of life.
    Ping,
    /// Tell how the process is doing.
    Stats,
    /// End, within this time.
    End { within: Duration },
    /// Do not end with your master: somebody has your handle.
    Detach,
    /// Something that came with a descriptor, for which this process had no room.
    MissingDescriptor(io::Error),
}

const CONNECTION: u8 = 1;
const LISTENER: u8 = 2;
const PING: u8 = 3;
const END: u8 = 4;
const STATS: u8 = 5;
const DETACH: u8 = 6;

/// Hands a worker its end of a new connection.
pub(super) fn send_connection(control: impl AsFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    send(control, &[CONNECTION], &[socket])
}

/// Hands a worker a listener, whose connections it shall serve.
pub(super) fn send_listener(control: impl AsFd, listener: BorrowedFd<'_>) -> io::Result<()> {
    send(control, &[LISTENER], &[listener])
}

/// Asks a worker for a sign of life. It does not block.
///
/// # Errors
///
/// The worker was not asked.
pub(super) fn send_ping(control: impl AsFd) -> io::Result<()> {
    send_once(control, PING)
}

/// Asks a worker how its process is doing.
pub(super) fn request_stats(control: impl AsFd) -> io::Result<()> {
    send(control, &[STATS], &[])
}

/// Tells a detached worker that its start has come to its end.
pub(super) fn send_detach(control: impl AsFd) -> io::Result<()> {
    send(control, &[DETACH], &[])
}

/// Tells a worker to end in order, within this time.
pub(super) fn send_end(control: impl AsFd, within: Duration) -> io::Result<()> {
    let mut bytes = [END, 0, 0, 0, 0];
    let millis = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    bytes[1..].copy_from_slice(&millis.to_le_bytes());
    send(control, &bytes, &[])
}

impl ControlCommand {
    /// Waits for the next order; none when the master is gone.
    pub(super) fn receive(control: impl AsFd) -> io::Result<Option<Self>> {
        let (mut kind, mut descriptors) = ([0], Vec::new());
        match receive(&control, &mut kind, &mut descriptors) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // It has been read, but for what came with it; whoever sent that sees that it is closed.
            Err(error) if error.kind() == io::ErrorKind::Other => {
                return Ok(Some(Self::MissingDescriptor(error)));
            }
            Err(error) => return Err(error),
        }
        let mut descriptor = || {
            let missing = || io::Error::other("an order without its descriptor");
            descriptors.pop().ok_or_else(missing)
        };
        Ok(Some(match kind[0] {
            CONNECTION => Self::Connection(descriptor()?),
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
            other => return Err(io::Error::other(format!("unknown order {other}"))),
        }))
    }
}
