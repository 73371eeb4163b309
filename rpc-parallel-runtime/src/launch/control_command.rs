//! Control commands, which a master sends to a worker over the control connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::runtime_command::NewConnection;
use crate::transport::{Halves, receive};

/// A command that needs no descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ControlCommand {
    /// Answer with a heartbeat.
    Ping,
    /// Send the stats of the process.
    Stats,
    /// End within this time.
    End { within: Duration },
    /// Keep running after the end of the master, whose `start_detached` has returned a handle.
    Detach,
}

/// The use of a connection between a master and its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectionUse {
    /// Calls of the worker's functions. The worker's runtime serves it.
    Calls,
    /// The items of maps. A separate thread of the worker serves it.
    #[cfg(feature = "pool")]
    Items,
}

/// A command as the worker receives it.
pub(super) enum ReceivedCommand {
    Plain(ControlCommand),
    /// Serve this connection.
    Connection(ConnectionUse, NewConnection),
    /// Serve the connections of this listener.
    Listener(OwnedFd),
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
const CHANNEL: u8 = 8;
#[cfg(feature = "pool")]
const ITEMS_CHANNEL: u8 = 9;

/// Returns the command that a descriptor of the connection accompanies.
pub(super) fn connection_command(purpose: ConnectionUse) -> u8 {
    match purpose {
        ConnectionUse::Calls => CONNECTION,
        #[cfg(feature = "pool")]
        ConnectionUse::Items => ITEMS_CONNECTION,
    }
}

/// Encodes the command to serve a channel of the stream that carries the command.
pub(super) fn channel_command(purpose: ConnectionUse, channel: u32) -> [u8; 5] {
    let kind = match purpose {
        ConnectionUse::Calls => CHANNEL,
        #[cfg(feature = "pool")]
        ConnectionUse::Items => ITEMS_CHANNEL,
    };
    let [c0, c1, c2, c3] = channel.to_le_bytes();
    [kind, c0, c1, c2, c3]
}

/// Returns the command that a descriptor of the listener accompanies.
pub(super) fn listener_command() -> u8 {
    LISTENER
}

impl ControlCommand {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Ping => vec![PING],
            Self::Stats => vec![STATS],
            Self::Detach => vec![DETACH],
            Self::End { within } => {
                let millis = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                [&[END], &millis.to_le_bytes()[..]].concat()
            }
        }
    }
}

impl ReceivedCommand {
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
            CONNECTION => {
                Self::Connection(ConnectionUse::Calls, NewConnection::Socket(descriptor()?))
            }
            #[cfg(feature = "pool")]
            ITEMS_CONNECTION => {
                Self::Connection(ConnectionUse::Items, NewConnection::Socket(descriptor()?))
            }
            LISTENER => Self::Listener(descriptor()?),
            PING => Self::Plain(ControlCommand::Ping),
            STATS => Self::Plain(ControlCommand::Stats),
            DETACH => Self::Plain(ControlCommand::Detach),
            END => {
                let mut millis = [0; 4];
                if receive(&control, &mut millis, &mut Vec::new())? < millis.len() {
                    return Ok(None);
                }
                let within = Duration::from_millis(u32::from_le_bytes(millis).into());
                Self::Plain(ControlCommand::End { within })
            }
            other => return Err(unknown(other)),
        }))
    }

    /// Decodes the first command of a stream, and returns it with its length in bytes. Returns `None`
    /// if it is incomplete. `channel` opens a channel of the stream.
    pub(super) fn decode(
        bytes: &[u8],
        channel: impl Fn(u32) -> Halves,
    ) -> io::Result<Option<(Self, usize)>> {
        let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
        let number = rest.first_chunk().map(|it| u32::from_le_bytes(*it));
        let connection =
            |purpose, id| Self::Connection(purpose, NewConnection::Halves(channel(id)));
        Ok(Some(match (*kind, number) {
            (PING, _) => (Self::Plain(ControlCommand::Ping), 1),
            (STATS, _) => (Self::Plain(ControlCommand::Stats), 1),
            (DETACH, _) => (Self::Plain(ControlCommand::Detach), 1),
            (END, Some(millis)) => {
                let within = Duration::from_millis(millis.into());
                (Self::Plain(ControlCommand::End { within }), 5)
            }
            (CHANNEL, Some(id)) => (connection(ConnectionUse::Calls, id), 5),
            #[cfg(feature = "pool")]
            (ITEMS_CHANNEL, Some(id)) => (connection(ConnectionUse::Items, id), 5),
            (END | CHANNEL, None) => return Ok(None),
            #[cfg(feature = "pool")]
            (ITEMS_CHANNEL, None) => return Ok(None),
            (other, _) => return Err(unknown(other)),
        }))
    }
}

fn unknown(kind: u8) -> io::Error {
    io::Error::other(format!("unknown control command {kind}"))
}
