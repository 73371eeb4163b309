//! The program that workers run by default: the executable of this process.
//!
//! If this process was started by `ld.so ./program`, the executable is the dynamic loader, and
//! workers are started by it in the same way.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, read_link};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use rustix::process::{DumpableBehavior, dumpable_behavior};

use crate::transport::proc_pid;
use crate::worker::OwnObject;

/// The path of the running executable for a child process, even if its file was renamed, replaced or
/// deleted.
pub(super) const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// Returns the path of the running executable for other processes, in which `/proc/self` is that
/// process. It leads nowhere if this process is not in `/proc`.
pub(super) fn path_for_others() -> OsString {
    if cfg!(miri) {
        // Miri has no `prctl`, and no processes that could execute the path.
        return RUNNING_PROGRAM.into();
    }
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

/// Returns the arguments before those of the worker. If the dynamic loader is the executable of this
/// process, it runs the program of this process by them.
pub(super) fn loader_arguments() -> &'static [OsString] {
    static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();
    ARGUMENTS.get_or_init(read_loader_arguments)
}

fn read_loader_arguments() -> Vec<OsString> {
    if cfg!(miri) {
        return Vec::new();
    }
    let object = OwnObject::find();
    // Otherwise the executable is the program, or has loaded a shared library with this code.
    let Some(program) = object.program_run_by_loader() else { return Vec::new() };
    let command_line = fs::read("/proc/self/cmdline").unwrap_or_default();
    let mut arguments = loader_options(&command_line, env::args_os().len());
    arguments.push(program.into());
    arguments
}

/// Returns the options of the dynamic loader in a command line. Behind them are the arguments of the
/// program, the first of which is the program.
fn loader_options(command_line: &[u8], program_arguments: usize) -> Vec<OsString> {
    let arguments = command_line.strip_suffix(b"\0").unwrap_or(command_line);
    let arguments: Vec<_> = arguments.split(|it| *it == 0).collect();
    let options = arguments.len().saturating_sub(program_arguments);
    let options = arguments.iter().take(options).skip(1);
    options.map(|it| OsStr::from_bytes(it).to_owned()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_options_are_between_loader_and_program() {
        let line = b"ld.so\0--library-path\0/lib dir\0./program\0one\0\0";

        assert_eq!(loader_options(line, 3), ["--library-path", "/lib dir"]);
        assert_eq!(loader_options(b"ld.so\0./program\0", 1), [""; 0]);
        assert_eq!(loader_options(b"", 1), [""; 0]);
    }

    #[test]
    fn program_without_loader_has_no_arguments_before_those_of_worker() {
        assert!(loader_arguments().is_empty());
    }
}
