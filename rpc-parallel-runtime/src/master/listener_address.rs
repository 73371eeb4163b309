//! Where workers accept connections, and how another process opens one.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::connect_error::ConnectErrorKind;
use super::connecting::dial;
use crate::transport::{Halves, ListenerDial, address_owner};
use crate::wire::{Settings, WorkerId, WorkerLabel, host_name};

/// Where a worker accepts connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ListenerAddress {
    /// A Unix socket on the host of the worker.
    #[serde(rename = "unix")]
    Unix {
        /// The path of the socket.
        ///
        /// The socket is in no directory. The path is `/proc/PID/fd/N`, a descriptor of the worker's
        /// master, of a detached worker itself, or of the process that
        /// [serves](crate::Spawn::serve) the worker. It becomes invalid when that process exits. It
        /// has no meaning in a container with a PID namespace of its own.
        path: PathBuf,
    },
}

impl ListenerAddress {
    /// Opens a transport to the worker with this label.
    pub(super) async fn dial(
        &self,
        label: &WorkerLabel,
        settings: Settings,
    ) -> Result<Halves, ConnectErrorKind> {
        let Self::Unix { path } = self;
        let dialed = dial(&ListenerDial::new(path, settings.busy_poll()), settings).await;
        dialed.map_err(|kind| match kind {
            // The path may lead to nothing here, and to the worker there.
            ConnectErrorKind::NoSuchWorker if label.host != host_name() => {
                ConnectErrorKind::Unreachable(io::Error::new(
                    io::ErrorKind::HostUnreachable,
                    format!(
                        "it runs on host `{}`, and only processes of that host can connect to its \
                         Unix socket `{self}`",
                        label.host
                    ),
                ))
            }
            kind => kind,
        })
    }

    /// Returns the id of the process that keeps the address of a worker.
    pub(super) fn owner(&self, worker: WorkerId) -> Option<u32> {
        let Self::Unix { path } = self;
        address_owner(path, worker)
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path } => path.display().fmt(f),
        }
    }
}
