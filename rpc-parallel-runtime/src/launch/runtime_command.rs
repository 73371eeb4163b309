//! Commands to the runtime of a worker, from the thread that receives those of the master.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::transport::{Halves, split};
use crate::wire::BusyPoll;

/// A command to the runtime of a worker.
pub(super) enum RuntimeCommand {
    Connection(NewConnection),
    Listener(OwnedFd),
    End {
        within: Duration,
    },
    /// This process failed to receive a descriptor, or to serve its connection.
    MissingDescriptor(io::Error),
    /// This process has received `SIGTERM`, and not from its master.
    Terminate,
    /// The master has missed heartbeats for this time.
    MasterTimedOut {
        silence: Duration,
    },
}

/// The worker's end of a connection that the master has opened.
pub(super) enum NewConnection {
    Socket(OwnedFd),
    /// A transport that needs no registration: memory, or a channel of a stream.
    Halves(Halves),
}

impl NewConnection {
    /// Returns its transport, for the current tokio runtime.
    pub(super) fn open(self, busy_poll: BusyPoll) -> io::Result<Halves> {
        match self {
            Self::Socket(socket) => split(socket, busy_poll),
            Self::Halves(halves) => Ok(halves),
        }
    }
}
