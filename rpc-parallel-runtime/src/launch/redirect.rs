//! Where a worker's output goes.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use tokio::net::unix::pipe::Receiver;

use crate::wire::fields;

/// Where the stdout or the stderr of a worker goes.
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
    /// To where the master's own goes. This is the default.
    ///
    /// A worker's stderr passes through its master on the way, which remembers the last lines: they
    /// stand in the error that tells of its death.
    #[must_use]
    pub fn inherit() -> Self {
        Self(Target::Inherit)
    }

    /// To where the master's own goes, line by line, each with the worker's name in front: `[name] `,
    /// or `[pid 1234] ` for a worker without one.
    ///
    /// Lines of several workers, and those that the master prints by `println!` and `eprintln!`,
    /// do not mix. Lines of a worker are written without the lock of std's stream where the master
    /// holds it for more than 50 ms; they may then stand inside a line that the master writes in
    /// several pieces. What the master has printed of a line waits in std's buffer for the end of
    /// the line, and comes after lines of workers that are written meanwhile.
    ///
    /// A last line without an end gets one, and a line of more than 64 KiB becomes several.
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

    /// To nowhere.
    #[must_use]
    pub fn null() -> Self {
        Self(Target::Null)
    }

    /// To the end of a file, which is created if there is none.
    ///
    /// The worker opens it: a relative path begins at its current directory.
    #[must_use]
    pub fn append(path: impl Into<PathBuf>) -> Self {
        Self(Target::File { path: path.into(), append: true })
    }

    /// To a file, which is created or emptied.
    ///
    /// The worker opens it: a relative path begins at its current directory.
    #[must_use]
    pub fn truncate(path: impl Into<PathBuf>) -> Self {
        Self(Target::File { path: path.into(), append: false })
    }

    /// To whoever reads the other end of the pipe that this makes.
    ///
    /// A worker whose output is not read waits when the pipe is full. The pipe ends when the worker
    /// and whatever it started have ended, and the redirect and its clones are dropped.
    ///
    /// # Errors
    ///
    /// Too many files are open.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn piped() -> io::Result<(Self, Receiver)> {
        let (reader, writer) = io::pipe()?;
        let reader = Receiver::from_owned_fd(reader.into())?;
        Ok((Self(Target::Pipe(Arc::new(writer.into()))), reader))
    }

    /// Says whether the worker's lines pass through this process.
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

    /// Returns the pipe that must be handed over to the worker, where it was made for the caller.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Target::Pipe(pipe) => Some(pipe.as_fd()),
            Target::Inherit | Target::Null | Target::File { .. } | Target::Prefixed => None,
        }
    }
}

/// What a worker is told about where one of its outputs goes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Output {
    /// Where it goes already.
    Inherit,
    Null,
    File {
        path: OsString,
        append: bool,
    },
    /// To the next descriptor that was handed over.
    Descriptor,
}

fields!(enum Output { 0 => Inherit, 1 => Null, 2 => File { path, append }, 3 => Descriptor });

impl Output {
    /// Opens what takes the place of the worker's output; none if it stays as it is.
    pub(super) fn open(
        &self,
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Inherit => Ok(None),
            Self::Null => Ok(Some(OpenOptions::new().write(true).open("/dev/null")?.into())),
            Self::File { path, append } => Ok(Some(open(Path::new(path), *append)?.into())),
            Self::Descriptor => match descriptors.next() {
                Some(descriptor) => Ok(Some(descriptor)),
                None => Err(io::Error::other("the master handed no descriptor over")),
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
    // A worker leads a session, whose terminal this must not become.
    options.create(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(path)
}
