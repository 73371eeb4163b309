//! Files and directories that are locked while a program runs.
//!
//! The kernel releases the lock with the process, however it ends, so a lock tells a live owner from
//! the remains of a killed one. A process id cannot: it may have been reused.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat, statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Opens a file or directory of this user for reading, without following a symbolic link.
///
/// # Errors
///
/// There is no such file, or it has another type or owner.
pub(super) fn open_own(
    directory: impl AsFd,
    name: &Path,
    file_type: FileType,
) -> io::Result<OwnedFd> {
    // NONBLOCK, because opening a named pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link")),
        other => other?,
    };
    let status = fstat(&file)?;
    if FileType::from_raw_mode(status.st_mode) != file_type {
        return Err(io::Error::other("a file of another type has its name"));
    }
    if status.st_uid != geteuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to the user {}", status.st_uid)));
    }
    Ok(file)
}

/// Locks an open file, and returns whether no other process has locked it.
pub(super) fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether the name leads to this open file, which may have been removed or replaced since.
pub(super) fn is_at(file: impl AsFd, directory: impl AsFd, name: &Path) -> io::Result<bool> {
    let identity = |it: Stat| (it.st_dev, it.st_ino);
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(identity(found) == identity(fstat(file)?)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
