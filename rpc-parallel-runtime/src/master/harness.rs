//! `#[rpc_parallel::test]` under libtest: each such test is registered, and any test of the
//! executable can start workers.
//!
//! A worker is the test executable, run again with the arguments that select one registered test.
//! All tests of an executable share one master, whose configuration all registered tests must agree
//! on. So whether a test can start workers does not depend on the tests that ran before it.

use std::sync::{Mutex, PoisonError};

use super::entry::{Entry, exit_with_error, work_if_started_as_worker};
use super::expert::{Initialized, MasterBuilder, StartupError};
use crate::launch::{Outputs, Role, SpawnDefaults};
use crate::worker::submit;

/// A function with `#[rpc_parallel::test]`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Test {
    /// The path of the function. It begins with the name of the crate.
    path: &'static str,
    entry: fn() -> Entry,
}

submit::collect!(Test);

impl Test {
    #[must_use]
    pub const fn new(path: &'static str, entry: fn() -> Entry) -> Self {
        Self { path, entry }
    }

    /// Runs a test that is not async, in a master.
    pub fn run_sync<T>(&self, test: impl FnOnce() -> T) -> T {
        self.assume_role();
        let _flush = FlushOutputs;
        test()
    }

    /// Runs an async test, in a master.
    pub fn run_async<T, F: Future<Output = T>>(&self, test: impl FnOnce() -> F) -> T {
        let entry = self.assume_role();
        let _flush = FlushOutputs;
        entry.block_on(test)
    }

    /// Becomes a worker if this process was started as one, and a master otherwise.
    fn assume_role(&self) -> Entry {
        let entry = (self.entry)();
        work_if_started_as_worker(|arguments| arguments.eq(self.worker_args()));
        match become_master() {
            Ok(()) => entry,
            // A mistake in the registered tests. It fails each of them, and no other test.
            Err(error @ (StartupError::TestsDiffer { .. } | StartupError::TestSettings { .. })) => {
                panic!("{error}")
            }
            Err(error) => exit_with_error("start the test", &error),
        }
    }

    /// Returns the arguments that make libtest run only this test.
    fn worker_args(&self) -> [&'static str; 6] {
        // In libtest, names of tests do not contain the crate.
        let name = self.path.split_once("::").map_or(self.path, |(_, name)| name);
        ["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1", "--quiet"]
    }

    /// Returns the builder of the master that the test configures.
    fn master(&self) -> Result<MasterBuilder, StartupError> {
        let master = (self.entry)().master();
        master.map_err(|why| StartupError::TestSettings { test: self.path, why })
    }
}

/// Returns how this process starts workers. `None` if it has no role and its executable has no
/// `#[rpc_parallel::test]`.
///
/// # Errors
///
/// The process has no role yet, and failed to become the master that its tests configure.
pub(crate) fn spawn_defaults() -> Result<Option<&'static SpawnDefaults>, StartupError> {
    if Role::spawn_defaults().is_none() && tests().next().is_some() {
        become_master()?;
    }
    Ok(Role::spawn_defaults())
}

/// Returns proof that this process can start workers, or `None` if it cannot.
///
/// In a test executable with a `#[rpc_parallel::test]`, this makes the process a master, unless it
/// has a role already.
#[must_use]
pub fn initialized() -> Option<Initialized> {
    spawn_defaults().ok().flatten()?;
    Initialized::here()
}

fn tests() -> impl Iterator<Item = &'static Test> {
    submit::iter::<Test>()
}

/// Makes this process the master that its registered tests configure, unless it is one.
///
/// # Panics
///
/// Panics if the expression for the settings of a test does.
fn become_master() -> Result<(), StartupError> {
    static RESULT: Mutex<Option<Result<(), StartupError>>> = Mutex::new(None);
    // A panic of `start_master` leaves the value unchanged, so a poisoned lock is usable.
    let mut result = RESULT.lock().unwrap_or_else(PoisonError::into_inner);
    result.get_or_insert_with(start_master).clone()
}

fn start_master() -> Result<(), StartupError> {
    let first = tests().min_by_key(|it| it.path);
    let first = first.expect("the callers are registered tests or found one");
    let master = first.master()?;
    for other in tests() {
        if other.master()? != master {
            return Err(StartupError::TestsDiffer { one: first.path, other: other.path });
        }
    }
    match master.worker_args(first.worker_args()).prints_before_worker_main(true).start() {
        // Already a master: a test has called `MasterBuilder::start`.
        Ok(_) | Err(StartupError::AlreadyMaster) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Passes on the output of workers when it is dropped, however a test ends.
///
/// It does not end the workers, because they can belong to tests that run at the same time.
struct FlushOutputs;

impl Drop for FlushOutputs {
    fn drop(&mut self) {
        Outputs::flush_all();
    }
}
