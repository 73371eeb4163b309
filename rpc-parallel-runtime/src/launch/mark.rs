//! The mark by which a process knows that it was started as a worker.
//!
//! It is an environment variable that names one socket, and it counts only in the process whose
//! stdin is that very socket. So it may be inherited by whatever a worker starts: it means
//! nothing there, because no worker keeps its socket as stdin.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The environment variable that holds the mark.
pub(crate) const MARK_VARIABLE: &str = "RPC_PARALLEL_WORKER";

/// Names one socket of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    device: u64,
    inode: u64,
}

impl Mark {
    /// Returns the mark of a socket; none if it is something else.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Option<Self>> {
        let socket = File::from(socket.as_fd().try_clone_to_owned()?).metadata()?;
        let mark = Self { device: socket.dev(), inode: socket.ino() };
        Ok(socket.file_type().is_socket().then_some(mark))
    }

    /// Says whether this process was started as a worker and has not begun to be one.
    pub(crate) fn is_set() -> bool {
        // Read at once and only here: most programs are no workers, and have no such variable.
        let set = std::env::var_os(MARK_VARIABLE);
        let named = set.as_deref().and_then(Self::parse);
        named.is_some() && Self::of(rustix::stdio::stdin()).is_ok_and(|it| it == named)
    }

    /// Says whether this process was started with a mark, for itself or for what has started it.
    pub(crate) fn is_known() -> bool {
        std::env::var_os(MARK_VARIABLE).as_deref().and_then(Self::parse).is_some()
    }

    /// Takes the socket off stdin, which becomes `/dev/null`.
    pub(crate) fn take_socket() -> io::Result<OwnedFd> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let null = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(socket)
    }

    fn parse(text: &OsStr) -> Option<Self> {
        let (device, inode) = text.to_str()?.split_once(':')?;
        Some(Self { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_mark_names_one_socket_and_reads_back() {
        let (one, other) = UnixStream::pair().expect("two sockets");

        let marks = [one.as_fd(), one.as_fd(), other.as_fd()].map(Mark::of);

        let [first, same, second] = marks.map(|it| it.ok().flatten().expect("it is a socket"));
        assert_eq!(first, same);
        assert_ne!(first, second);
        assert_eq!(Mark::parse(OsStr::new(&first.to_string())), Some(first));
    }

    #[test]
    fn what_is_no_socket_has_no_mark() {
        let null = File::open("/dev/null").expect("there is always a /dev/null");

        assert_eq!(Mark::of(null).expect("it is open"), None);
        assert_eq!(Mark::parse(OsStr::new("7")), None);
    }
}
