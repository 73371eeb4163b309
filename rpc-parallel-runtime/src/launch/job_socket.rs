//! The socket by which the processes of a program reach the keeper of its jobs, in the process at the
//! top of the tree.
//!
//! All processes hold the same end of one socket pair. A process that wants a connection sends one
//! end of another socket pair over it, and the supervisor of the top process passes that end to the
//! keeper. So there is no listener, and a program without jobs pays for one descriptor only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use super::job_keeper::JobKeeper;
use super::role::Role;
use crate::transport::{connected_pair, receive as receive_bytes, send};
use crate::wire::WorkerId;
use crate::worker::{AcceptJobs, accept_jobs};

/// The end that all processes share.
pub(crate) struct JobSocket {
    keeper: JobKeeper,
    socket: OwnedFd,
}

static SOCKET: OnceLock<JobSocket> = OnceLock::new();

/// A request for a connection is one byte, which the descriptor accompanies.
const REQUEST: u8 = 1;

impl JobSocket {
    /// Returns the socket, if this process has one: it is a worker of a program with process
    /// functions, or the top process and has started a supervisor.
    pub(crate) fn get() -> Option<&'static Self> {
        SOCKET.get()
    }

    pub(crate) fn keeper(&self) -> &JobKeeper {
        &self.keeper
    }

    /// Sends one end of a socket pair to the keeper, which serves it as a connection.
    ///
    /// # Errors
    ///
    /// The top process has ended.
    pub(crate) fn request(&self, connection: UnixStream) -> io::Result<()> {
        send(&self.socket, &[REQUEST], &[connection.as_fd()])
    }

    /// Takes the socket of a worker, which is the last of the descriptors that its master has sent.
    /// Returns the others.
    pub(super) fn inherit(
        keeper: Option<JobKeeper>,
        mut descriptors: Vec<OwnedFd>,
    ) -> Vec<OwnedFd> {
        if let Some(keeper) = keeper
            && let Some(socket) = descriptors.pop()
        {
            SOCKET.get_or_init(|| Self { keeper, socket });
        }
        descriptors
    }

    /// Makes the socket pair if this is the top process of a program with process functions, and
    /// returns the end that receives requests, with the function that accepts them.
    pub(super) fn make() -> io::Result<Option<(OwnedFd, AcceptJobs)>> {
        let (Some(Role::Master), Some(accept)) = (Role::current(), accept_jobs()) else {
            return Ok(None);
        };
        let settings = Role::spawn_defaults().map(|it| it.settings).unwrap_or_default();
        let (requests, socket) = connected_pair()?;
        let keeper = JobKeeper { id: WorkerId::random(), settings };
        SOCKET.get_or_init(|| Self { keeper, socket: socket.into() });
        Ok(Some((requests.into(), accept)))
    }
}

impl AsFd for JobSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives one request, and passes its connection to the keeper. Without the descriptor, which the
/// kernel has discarded, the other process gets the end of its connection.
pub(super) fn receive(requests: &OwnedFd, AcceptJobs(accept): AcceptJobs) {
    let mut descriptors = Vec::new();
    let received = receive_bytes(requests, &mut [0], &mut descriptors);
    if let (Ok(1), Some(connection), Some(socket)) = (received, descriptors.pop(), SOCKET.get()) {
        accept(socket.keeper.id, connection);
    }
}
