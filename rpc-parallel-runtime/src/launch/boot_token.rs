//! The boot token: an environment variable that identifies a new process as a worker, and holds
//! the number of masters above it.
//!
//! ```text
//! RPC_PARALLEL_WORKER=device:inode:master:depth
//! ```
//!
//! The first three fields have a meaning only for the process that the master has started: its
//! stdin is the socket with this device and inode, or its parent is the master with this process
//! id. The depth has a meaning for every process that inherits the variable. So the depth is
//! bounded, even if processes in between ignore that they were started as workers.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::process::{Pid, child_subreaper, getpid, getppid};

/// The environment variable that holds the boot token.
pub(crate) const BOOT_TOKEN_VARIABLE: &str = "RPC_PARALLEL_WORKER";

/// The identity of a socket on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SocketId {
    device: u64,
    inode: u64,
}

impl SocketId {
    /// Returns the id of a socket, or `None` if the descriptor is not a socket.
    pub(crate) fn of(descriptor: impl AsFd) -> io::Result<Option<Self>> {
        let metadata = File::from(descriptor.as_fd().try_clone_to_owned()?).metadata()?;
        let id = Self { device: metadata.dev(), inode: metadata.ino() };
        Ok(metadata.file_type().is_socket().then_some(id))
    }

    /// Moves the socket from stdin to another descriptor, and makes stdin `/dev/null`.
    pub(crate) fn take_socket() -> io::Result<OwnedFd> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let null = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(socket)
    }
}

/// The boot token of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BootToken {
    /// The control socket, which is the stdin of the worker.
    socket: SocketId,
    /// The process id of the master. Zero if the master adopts orphans: then a process may be its
    /// child without having been started by it.
    master: u32,
    /// The number of masters above the worker: 1 if its master is not a worker.
    depth: u32,
}

/// The purpose for which a process was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartedAs {
    /// The process was not started as a worker, as far as it can tell.
    Program,
    /// The process was started as a worker, and its stdin is the control socket.
    Worker,
    /// The process was started as a worker, but its stdin was closed or replaced.
    WorkerWithoutSocket,
}

impl BootToken {
    /// Returns the token for a worker of this process, whose own depth is `depth`.
    pub(super) fn for_worker(socket: SocketId, depth: u32) -> Self {
        // The init process and subreapers adopt orphans.
        let adopts = getpid().is_init() || child_subreaper().is_ok_and(|it| it.is_some());
        let master = if adopts { 0 } else { std::process::id() };
        Self { socket, master, depth: depth.saturating_add(1) }
    }

    /// Returns the token in the environment of this process. The token may belong to an ancestor.
    pub(crate) fn inherited() -> Option<Self> {
        env::var_os(BOOT_TOKEN_VARIABLE).as_deref().and_then(Self::parse)
    }

    /// Returns the number of masters above this process, according to its environment.
    pub(super) fn depth_here() -> u32 {
        Self::inherited().map_or(0, |it| it.depth)
    }

    fn parse(text: &OsStr) -> Option<Self> {
        let mut fields = text.to_str()?.split(':');
        let mut field = || fields.next();
        let token = Self {
            socket: SocketId { device: field()?.parse().ok()?, inode: field()?.parse().ok()? },
            master: field()?.parse().ok()?,
            depth: field()?.parse().ok()?,
        };
        field().is_none().then_some(token)
    }
}

impl StartedAs {
    /// Returns the purpose for which this process was started.
    ///
    /// It must be called before the process becomes a worker, because a worker moves the control
    /// socket away from stdin.
    pub(crate) fn here() -> Self {
        let Some(token) = BootToken::inherited() else { return Self::Program };
        if SocketId::of(rustix::stdio::stdin()).is_ok_and(|it| it == Some(token.socket)) {
            return Self::Worker;
        }
        let parent = getppid().map_or(0, |it| Pid::as_raw(Some(it)));
        let is_master = parent != 0 && u32::try_from(parent) == Ok(token.master);
        if is_master { Self::WorkerWithoutSocket } else { Self::Program }
    }
}

impl fmt::Display for BootToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket: SocketId { device, inode }, master, depth } = self;
        write!(f, "{device}:{inode}:{master}:{depth}")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn socket_id_identifies_one_socket() {
        let (one, other) = UnixStream::pair().expect("make a socket pair");

        let ids = [one.as_fd(), one.as_fd(), other.as_fd()].map(SocketId::of);

        let [first, same, second] =
            ids.map(|it| it.ok().flatten().expect("the descriptor is a socket"));
        assert_eq!(first, same);
        assert_ne!(first, second);
    }

    #[test]
    fn boot_token_reads_back_as_written() {
        let socket = SocketId { device: 8, inode: u64::MAX };

        let token = BootToken::for_worker(socket, 3);

        assert_eq!((token.socket, token.depth), (socket, 4));
        assert_eq!(BootToken::parse(OsStr::new(&token.to_string())), Some(token));
    }

    #[test]
    fn depth_of_boot_token_never_wraps() {
        let socket = SocketId { device: 8, inode: 1 };

        assert_eq!(BootToken::for_worker(socket, u32::MAX).depth, u32::MAX);
    }

    #[test]
    fn text_with_other_fields_is_no_boot_token() {
        for text in ["", "7", "1:2", "1:2:3", "1:2:3:4:5", "1:2:3:", "1:2:3:-4", "a:2:3:4"] {
            assert_eq!(BootToken::parse(OsStr::new(text)), None, "{text}");
        }
    }

    #[test]
    fn descriptor_that_is_no_socket_has_no_id() {
        let null = File::open("/dev/null").expect("open /dev/null");

        assert_eq!(SocketId::of(null).expect("the file is open"), None);
    }
}
