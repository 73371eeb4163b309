//! The boot token: an environment variable that tells a new process that it is a worker, and how
//! many levels of masters are above it.
//!
//! ```text
//! RPC_PARALLEL_WORKER=device:inode:master:depth
//! ```
//!
//! The first three fields count only in the process that the master started: the one whose stdin
//! is that socket, or whose parent is that master. The depth counts in every process that inherits
//! the variable, whatever that process is. So the count of levels is bounded, even where the
//! processes in between do not know that they were started as workers.

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

/// Names one socket of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SocketId {
    device: u64,
    inode: u64,
}

impl SocketId {
    /// Returns the mark of a socket; none if it is something else.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Option<Self>> {
        let socket = File::from(socket.as_fd().try_clone_to_owned()?).metadata()?;
        let boot_token = Self { device: socket.dev(), inode: socket.ino() };
        Ok(socket.file_type().is_socket().then_some(boot_token))
    }

    /// Takes the socket off stdin, which becomes `/dev/null`.
    pub(crate) fn take_socket() -> io::Result<OwnedFd> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let null = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(socket)
    }
}

/// What the environment tells a new process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BootToken {
    /// The control socket, which the worker finds as its stdin.
    socket: SocketId,
    /// The process id of the master. Zero where a process can get that parent without being
    /// started by it, so that the parent proves nothing.
    master: u32,
    /// How many levels of masters are above the worker: 1 below a master that is no worker.
    depth: u32,
}

/// What a process was started as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartedAs {
    /// Anything but a worker, as far as the process can know.
    Program,
    /// A worker. Its stdin is the control socket.
    Worker,
    /// A worker, but its stdin is not the control socket any more.
    WorkerWithoutSocket,
}

impl BootToken {
    /// Returns the token of a worker of this process, which is at this depth itself.
    pub(super) fn for_worker(socket: SocketId, depth: u32) -> Self {
        // Orphans are adopted by the init process and by subreapers.
        let adopts = getpid().is_init() || child_subreaper().is_ok_and(|it| it.is_some());
        let master = if adopts { 0 } else { std::process::id() };
        Self { socket, master, depth: depth.saturating_add(1) }
    }

    /// Returns the token in the environment of this process: its own, or inherited.
    pub(crate) fn inherited() -> Option<Self> {
        // Looked up first: most programs are no workers and have no such variable.
        env::var_os(BOOT_TOKEN_VARIABLE).as_deref().and_then(Self::parse)
    }

    /// Returns how many levels of masters are above this process, according to its environment.
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
    /// Returns what this process was started as. Meaningless once it has become a worker, because
    /// a worker moves its socket away from stdin.
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
    fn a_mark_names_one_socket() {
        let (one, other) = UnixStream::pair().expect("two sockets");

        let marks = [one.as_fd(), one.as_fd(), other.as_fd()].map(SocketId::of);

        let [first, same, second] = marks.map(|it| it.ok().flatten().expect("it is a socket"));
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
    fn what_is_no_socket_has_no_mark() {
        let null = File::open("/dev/null").expect("there is always a /dev/null");

        assert_eq!(SocketId::of(null).expect("it is open"), None);
    }
}
