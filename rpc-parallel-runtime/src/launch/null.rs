//! `/dev/null`, which some containers lack.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;

pub(super) const NULL: &str = "/dev/null";

/// Returns an input without bytes: `/dev/null`, or a pipe that has ended if that is missing.
pub(super) fn null_input() -> io::Result<OwnedFd> {
    match File::open(NULL) {
        Ok(null) => Ok(null.into()),
        Err(_) => Ok(io::pipe()?.0.into()),
    }
}

/// Opens `/dev/null` as an output. A pipe cannot replace it, because a pipe without a reader fails
/// the writer.
pub(super) fn null_output() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().write(true).open(NULL)?.into())
}
