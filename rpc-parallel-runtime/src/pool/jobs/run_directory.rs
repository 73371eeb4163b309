//! The path of the run directory, as all processes of the program know it.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use crate::launch::{JobSocket, Role};
use crate::wire::WorkerId;

/// The environment variable by which jobs, and all processes that they start, receive the path.
///
/// The id of the keeper precedes the path, because another program that one of these processes starts
/// inherits the variable.
const VARIABLE: &str = "RPC_PARALLEL_RUN_DIRECTORY";

/// The run directory of the program, in the process at the top.
static CURRENT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Returns the run directory of the program, if the program has one: a private directory, which is
/// removed when the first process and all jobs have ended.
///
/// [`FirstProcess::run_directory`](crate::FirstProcess::run_directory) makes it. All jobs know it, the
/// process that has called [`run`](crate::run), and all workers that jobs start, unless their
/// environment was cleared.
///
/// ```
/// use std::fs;
///
/// use rpc_parallel::prelude::*;
/// use rpc_parallel::process::run_directory;
///
/// #[rpc_parallel::process]
/// fn save(name: &str, text: &str) -> Result<(), AnyError> {
///     let directory = run_directory().ok_or("the program has no run directory")?;
///     Ok(fs::write(directory.join(name), text)?)
/// }
/// ```
#[must_use]
pub fn run_directory() -> Option<PathBuf> {
    match Role::current()? {
        Role::Master => current().clone(),
        Role::Worker => parse(env::var_os(VARIABLE)?, JobSocket::get()?.keeper().id),
    }
}

/// Sets the run directory, in the process at the top.
pub(in crate::pool) fn set_run_directory(path: Option<PathBuf>) {
    *current() = path;
}

/// Returns the name and the value of the environment variable for jobs.
pub(super) fn run_directory_variable() -> Option<(&'static str, OsString)> {
    let path = current().clone()?;
    Some((VARIABLE, format(path, JobSocket::get()?.keeper().id)))
}

fn format(path: PathBuf, keeper: WorkerId) -> OsString {
    let mut value = OsString::from(format!("{keeper}:"));
    value.push(path);
    value
}

/// Returns the path, if the value belongs to the program with this keeper.
fn parse(value: OsString, keeper: WorkerId) -> Option<PathBuf> {
    let path = value.as_bytes().strip_prefix(format!("{keeper}:").as_bytes())?;
    Some(OsString::from_vec(path.to_vec()).into())
}

fn current() -> MutexGuard<'static, Option<PathBuf>> {
    CURRENT.lock().expect("no code panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_of_other_program_is_no_run_directory() {
        let (ours, other) = (WorkerId::random(), WorkerId::random());
        let path = PathBuf::from(OsString::from_vec(b"/tmp/a:\xff".to_vec()));
        let value = format(path.clone(), ours);

        assert_eq!(parse(value.clone(), ours), Some(path));
        assert_eq!(parse(value, other), None);
        assert_eq!(parse("/tmp".into(), ours), None);
    }
}
