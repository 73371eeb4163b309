//! The boot token: an environment variable that identifies a new process as a worker, and holds
//! the number of masters above it.
//!
//! ```text
//! RPC_PARALLEL_WORKER=device:inode:master:depth
//! RPC_PARALLEL_WORKER=stdio:depth
//! RPC_PARALLEL_WORKER=stream:device:inode:depth
//! ```
//!
//! The first form is for a process on the host of its master. Its stdin is the socket with this
//! device and inode, or its parent is the master with this process id. Other processes that inherit
//! the variable are no workers.
//!
//! The second form is for a process whose stdin and stdout are the control connection, and whose
//! master cannot know their identity. The process executes itself again with the third form, so that
//! the processes that it starts later do not inherit the second one.
//!
//! The depth has a meaning for every process that inherits the variable. So the depth is bounded,
//! even if processes in between ignore that they were started as workers.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, child_subreaper, getpid, getppid};

use super::null::null_input;
use super::running_program::{RUNNING_PROGRAM, loader_arguments};

/// The environment variable that holds the boot token.
pub(crate) const BOOT_TOKEN_VARIABLE: &str = "RPC_PARALLEL_WORKER";

/// The identity of a socket or pipe on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the id of a socket, or `None` if the descriptor is not a socket.
    pub(crate) fn of_socket(descriptor: impl AsFd) -> io::Result<Option<Self>> {
        let metadata = File::from(descriptor.as_fd().try_clone_to_owned()?).metadata()?;
        let id = Self { device: metadata.dev(), inode: metadata.ino() };
        Ok(metadata.file_type().is_socket().then_some(id))
    }

    fn of(descriptor: impl AsFd) -> io::Result<Self> {
        let metadata = File::from(descriptor.as_fd().try_clone_to_owned()?).metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    fn parse<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut field = || fields.next()?.parse().ok();
        Some(Self { device: field()?, inode: field()? })
    }

    /// Moves the streams of a worker over stdio to other descriptors. Stdin becomes empty, and
    /// stdout becomes stderr: the launcher passes that on.
    pub(crate) fn take_stdio() -> io::Result<(OwnedFd, OwnedFd)> {
        let incoming = Self::take_socket()?;
        let outgoing = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Ok((incoming, outgoing))
    }

    /// Moves the socket from stdin to another descriptor, and makes stdin empty.
    pub(crate) fn take_socket() -> io::Result<OwnedFd> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::stdio::dup2_stdin(null_input()?)?;
        Ok(socket)
    }
}

/// The boot token of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BootToken {
    link: TokenLink,
    /// The number of masters above the worker: 1 if its master is not a worker.
    depth: u32,
}

/// How the worker finds its control connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TokenLink {
    Socket {
        /// The control socket, which is the stdin of the worker.
        socket: FileId,
        /// The process id of the master. Zero if the master adopts orphans: then a process may be
        /// its child without having been started by it.
        master: u32,
    },
    /// By its stdin and stdout, whatever they are. The process executes itself again with the next
    /// form of the token, because processes that it starts must not inherit this one.
    Stdio,
    /// By its stdin, which is this pipe or socket, and its stdout.
    Stream { stdin: FileId },
}

/// The purpose for which a process was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartedAs {
    /// The process was not started as a worker, as far as it can tell.
    Program,
    /// The process was started as a worker, and its stdin is the control socket, or its stdin and
    /// stdout are the control connection.
    Worker,
    /// The process was started as a worker, but its stdin was closed or replaced.
    WorkerWithoutSocket,
}

impl BootToken {
    /// Returns the token for a worker of this process, whose own depth is `depth`.
    pub(super) fn for_worker(socket: FileId, depth: u32) -> Self {
        // The init process and subreapers adopt orphans.
        let adopts = getpid().is_init() || child_subreaper().is_ok_and(|it| it.is_some());
        let master = if adopts { 0 } else { std::process::id() };
        Self { link: TokenLink::Socket { socket, master }, depth: depth.saturating_add(1) }
    }

    /// Returns the token for a worker of a process whose own depth is `depth`, which finds its
    /// control connection by its stdin and stdout.
    pub(super) fn over_stdio(depth: u32) -> Self {
        Self { link: TokenLink::Stdio, depth: depth.saturating_add(1) }
    }

    /// Executes this process again, with a token that identifies its stdin.
    pub(super) fn execute_again(self) -> io::Error {
        let mut arguments = env::args_os();
        let stdin = match FileId::of(rustix::stdio::stdin()) {
            Ok(stdin) => stdin,
            Err(error) => return error,
        };
        let token = Self { link: TokenLink::Stream { stdin }, ..self };
        let mut command = Command::new(RUNNING_PROGRAM);
        command.arg0(arguments.next().unwrap_or_default());
        command.args(loader_arguments()).args(arguments);
        command.env(BOOT_TOKEN_VARIABLE, token.to_string()).exec()
    }

    /// Returns whether this process finds its control connection by its stdin and stdout.
    pub(super) fn is_over_stdio(self) -> bool {
        matches!(self.link, TokenLink::Stream { .. })
    }

    /// Returns whether this process must [execute itself again](Self::execute_again).
    pub(super) fn identifies_no_stdin(self) -> bool {
        self.link == TokenLink::Stdio
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
        let mut fields = text.to_str()?.split(':').peekable();
        let link = match *fields.peek()? {
            "stdio" => {
                fields.next();
                TokenLink::Stdio
            }
            "stream" => {
                fields.next();
                TokenLink::Stream { stdin: FileId::parse(&mut fields)? }
            }
            _ => {
                let socket = FileId::parse(&mut fields)?;
                TokenLink::Socket { socket, master: fields.next()?.parse().ok()? }
            }
        };
        let token = Self { link, depth: fields.next()?.parse().ok()? };
        fields.next().is_none().then_some(token)
    }
}

impl StartedAs {
    /// Returns the purpose for which this process was started.
    ///
    /// It must be called before the process becomes a worker, because a worker moves the control
    /// socket away from stdin.
    pub(crate) fn here() -> Self {
        let (socket, master) = match BootToken::inherited().map(|it| it.link) {
            None => return Self::Program,
            Some(TokenLink::Stdio) => return Self::Worker,
            Some(TokenLink::Stream { stdin }) => {
                let own = FileId::of(rustix::stdio::stdin());
                return if own.is_ok_and(|it| it == stdin) { Self::Worker } else { Self::Program };
            }
            Some(TokenLink::Socket { socket, master }) => (socket, master),
        };
        if FileId::of_socket(rustix::stdio::stdin()).is_ok_and(|it| it == Some(socket)) {
            return Self::Worker;
        }
        let parent = getppid().map_or(0, |it| Pid::as_raw(Some(it)));
        let is_master = parent != 0 && u32::try_from(parent) == Ok(master);
        if is_master { Self::WorkerWithoutSocket } else { Self::Program }
    }
}

impl fmt::Display for BootToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.link {
            TokenLink::Socket { socket: FileId { device, inode }, master } => {
                write!(f, "{device}:{inode}:{master}:")?;
            }
            TokenLink::Stdio => f.write_str("stdio:")?,
            TokenLink::Stream { stdin: FileId { device, inode } } => {
                write!(f, "stream:{device}:{inode}:")?;
            }
        }
        write!(f, "{}", self.depth)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn socket_id_identifies_one_socket() {
        let (one, other) = UnixStream::pair().expect("make a socket pair");

        let ids = [one.as_fd(), one.as_fd(), other.as_fd()].map(FileId::of_socket);

        let [first, same, second] =
            ids.map(|it| it.ok().flatten().expect("the descriptor is a socket"));
        assert_eq!(first, same);
        assert_ne!(first, second);
    }

    #[test]
    fn boot_token_reads_back_as_written() {
        let socket = FileId { device: 8, inode: u64::MAX };

        let over_stdio = BootToken::over_stdio(3);
        let over_stream = BootToken { link: TokenLink::Stream { stdin: socket }, depth: 4 };
        let tokens = [BootToken::for_worker(socket, 3), over_stdio, over_stream];

        for token in tokens {
            assert_eq!(token.depth, 4);
            assert_eq!(BootToken::parse(OsStr::new(&token.to_string())), Some(token));
        }
        assert_eq!(tokens[1].to_string(), "stdio:4");
    }

    #[test]
    fn depth_of_boot_token_never_wraps() {
        let socket = FileId { device: 8, inode: 1 };

        assert_eq!(BootToken::for_worker(socket, u32::MAX).depth, u32::MAX);
    }

    #[test]
    fn text_with_other_fields_is_no_boot_token() {
        for text in [
            "",
            "7",
            "1:2",
            "1:2:3",
            "1:2:3:4:5",
            "1:2:3:",
            "1:2:3:-4",
            "a:2:3:4",
            "stdio",
            "stdio:",
            "stdio:1:2",
            "used:a",
        ] {
            assert_eq!(BootToken::parse(OsStr::new(text)), None, "{text}");
        }
    }

    #[test]
    fn descriptor_that_is_no_socket_has_no_id() {
        let null = File::open("/dev/null").expect("open /dev/null");

        assert_eq!(FileId::of_socket(null).expect("the file is open"), None);
    }
}
