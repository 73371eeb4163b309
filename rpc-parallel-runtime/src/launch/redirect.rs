//! Targets of a worker's stdout and stderr.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use tokio::net::unix::pipe::Receiver;

use super::null::null_output;
use crate::wire::fields;

/// The target of a worker's stdout or stderr.
///
/// Default: [`inherit`](Self::inherit).
#[derive(Clone, Debug, Default)]
pub struct Redirect(Target);

#[derive(Clone, Debug, Default)]
enum Target {
    #[default]
    Inherit,
    Null,
    File {
        path: PathBuf,
        append: bool,
    },
    Pipe(Arc<OwnedFd>),
    Prefixed,
}

impl Redirect {
    /// Writes to the same stream as the master. This is the default.
    ///
    /// The stderr of a worker that is not detached passes through its master, which relays it and
    /// keeps the last lines for the [failure report](crate::WorkerFailure::stderr). For the worker,
    /// it is a pipe and not a terminal.
    #[must_use]
    pub fn inherit() -> Self {
        Self(Target::Inherit)
    }

    /// Writes to the same stream as the master, line by line, each with a prefix: `[name] `, or
    /// `[pid 1234] ` for a worker without a name.
    ///
    /// Lines of several workers, and lines that the master prints with `println!` and `eprintln!`,
    /// do not mix. There is one exception: where the master holds the lock of std's stream for more
    /// than 50 ms, lines of workers are written without the lock, and may end up inside a line that
    /// the master writes in several pieces. An incomplete line of the master stays in std's buffer
    /// until its end is printed, and follows the lines of workers that are written in the meantime.
    ///
    /// A last line without a newline gets one. A line of more than 64 KiB becomes several lines.
    ///
    /// ```
    /// use rpc_parallel::Redirect;
    ///
    /// let shown = Redirect::prefixed();
    /// // Ledger::spawner().name("ledger").stdout(shown.clone()).stderr(shown).start(path).await?
    /// ```
    #[must_use]
    pub fn prefixed() -> Self {
        Self(Target::Prefixed)
    }

    /// Discards the output.
    #[must_use]
    pub fn null() -> Self {
        Self(Target::Null)
    }

    /// Appends to a file, which is created if it does not exist.
    ///
    /// The worker opens the file: a relative path is relative to the worker's current directory.
    #[must_use]
    pub fn append(path: impl Into<PathBuf>) -> Self {
        Self(Target::File { path: path.into(), append: true })
    }

    /// Writes to a file, which is created or truncated.
    ///
    /// The worker opens the file: a relative path is relative to the worker's current directory.
    #[must_use]
    pub fn truncate(path: impl Into<PathBuf>) -> Self {
        Self(Target::File { path: path.into(), append: false })
    }

    /// Makes an operating system pipe, and returns the redirect to it and its reading end.
    ///
    /// A worker blocks while the pipe is full. The reader sees the end of the pipe when the worker
    /// and all processes that it started have closed the stream, and the redirect and its clones
    /// are dropped.
    ///
    /// # Errors
    ///
    /// An error is returned if the pipe cannot be made, for example because too many files are
    /// open.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    ///
    /// ```
    /// # async fn example() -> std::io::Result<()> {
    /// use rpc_parallel::Redirect;
    ///
    /// let (stdout, reader) = Redirect::piped()?;
    /// // let ledger = Ledger::spawner().stdout(stdout).start(path).await?;
    /// // Reads what the ledger prints: tokio::io::BufReader::new(reader).lines()
    /// # drop((stdout, reader));
    /// # Ok(())
    /// # }
    /// ```
    pub fn piped() -> io::Result<(Self, Receiver)> {
        let (reader, writer) = io::pipe()?;
        let reader = Receiver::from_owned_fd(reader.into())?;
        Ok((Self(Target::Pipe(Arc::new(writer.into()))), reader))
    }

    /// Returns whether this process relays the output with a prefix.
    pub(super) fn is_prefixed(&self) -> bool {
        matches!(self.0, Target::Prefixed)
    }

    pub(super) fn output(&self) -> Output {
        match &self.0 {
            Target::Inherit => Output::Inherit,
            Target::Null => Output::Null,
            Target::File { path, append } => {
                Output::File { path: path.clone().into_os_string(), append: *append }
            }
            Target::Pipe(_) | Target::Prefixed => Output::Descriptor,
        }
    }

    /// Returns the pipe of [`piped`](Self::piped), which the start message hands to the worker.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Target::Pipe(pipe) => Some(pipe.as_fd()),
            Target::Inherit | Target::Null | Target::File { .. } | Target::Prefixed => None,
        }
    }
}

/// A redirect as the start message describes it to the worker.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Output {
    /// The stream stays as it is.
    Inherit,
    Null,
    File {
        path: OsString,
        append: bool,
    },
    /// The next descriptor that came with the start message.
    Descriptor,
}

fields!(enum Output { 0 => Inherit, 1 => Null, 2 => File { path, append }, 3 => Descriptor });

impl Output {
    /// Opens the new target of the stream. Returns `None` if the stream stays as it is.
    pub(super) fn open(
        &self,
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Inherit => Ok(None),
            Self::Null => null_output().map(Some),
            Self::File { path, append } => Ok(Some(open(Path::new(path), *append)?.into())),
            Self::Descriptor => match descriptors.next() {
                Some(descriptor) => Ok(Some(descriptor)),
                None => Err(io::Error::other("the start message has no descriptor for it")),
            },
        }
    }
}

fn open(path: &Path, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    if append {
        options.append(true);
    } else {
        options.write(true).truncate(true);
    }
    // A worker leads a session: a terminal that it opens must not become its controlling terminal.
    options.create(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(path)
}
