//! The program that workers run by default: the executable of this process.

use std::ffi::{OsStr, OsString};
use std::fs::read_link;
use std::io;

use rustix::process::{DumpableBehavior, dumpable_behavior};

use crate::transport::proc_pid;

/// The path of the running executable for a child process, even if its file was renamed, replaced or
/// deleted.
pub(super) const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// Returns the path of the running executable for other processes, in which `/proc/self` is that
/// process. It leads nowhere if this process is not in `/proc`.
pub(super) fn path_for_others() -> OsString {
    let file = match dumpable_behavior() {
        Ok(DumpableBehavior::Dumpable) => None,
        // Other processes of the same user cannot open the links of this one.
        _ => read_link(RUNNING_PROGRAM).ok(),
    };
    file.map_or_else(link_for_others, OsString::from)
}

fn link_for_others() -> OsString {
    let pid = proc_pid().unwrap_or_else(|_| std::process::id());
    format!("/proc/{pid}/exe").into()
}

/// Replaces the error of a start by its cause, if there is no `/proc`.
pub(super) fn explain_start_error(program: &OsStr, error: io::Error) -> io::Error {
    match proc_pid() {
        Err(cause) if program == RUNNING_PROGRAM && error.kind() == io::ErrorKind::NotFound => {
            let cure = "or select the executable with `MasterBuilder::worker_program`";
            io::Error::new(cause.kind(), format!("{cause}, {cure}"))
        }
        _ => error,
    }
}
