//! Control commands, which a master sends to a worker over the control connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::transport::receive;

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

/// A command as the worker receives it from its control socket.
#[derive(Debug)]
pub(super) enum ReceivedCommand {
    Plain(ControlCommand),
    /// Serve this connection.
    Connection(ConnectionUse, OwnedFd),
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

/// Returns the command that a descriptor of the connection accompanies.
pub(super) fn connection_command(purpose: ConnectionUse) -> u8 {
    match purpose {
        ConnectionUse::Calls => CONNECTION,
        #[cfg(feature = "pool")]
        ConnectionUse::Items => ITEMS_CONNECTION,
    }
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
            CONNECTION => Self::Connection(ConnectionUse::Calls, descriptor()?),
            #[cfg(feature = "pool")]
            ITEMS_CONNECTION => Self::Connection(ConnectionUse::Items, descriptor()?),
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
            other => return Err(io::Error::other(format!("unknown control command {other}"))),
        }))
    }
}
