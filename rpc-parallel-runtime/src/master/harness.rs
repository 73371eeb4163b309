//! `#[rpc_parallel::test]` under libtest: every such test is registered, and any test of the
//! executable can start workers.
//!
//! A worker is the test executable, run again with the arguments that select one registered test.
//! All tests of an executable share one master, which is made of what all registered tests ask
//! for. So whether a test can start workers, and which ones, depends on no other test that ran.

use std::sync::{Mutex, PoisonError};

use super::entry::{Entry, give_up, work_if_started_as_worker};
use super::expert::{Initialized, MasterBuilder, StartupError};
use crate::launch::{Outputs, Role, SpawnDefaults};
use crate::worker::submit;

/// A function with `#[rpc_parallel::test]`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Test {
    /// The path of the function, which begins with its crate.
    path: &'static str,
    entry: fn() -> Entry,
}

submit::collect!(Test);

impl Test {
    #[must_use]
    pub const fn new(path: &'static str, entry: fn() -> Entry) -> Self {
        Self { path, entry }
    }

    /// Runs a sync test, in a master.
    pub fn run_sync<T>(&self, test: impl FnOnce() -> T) -> T {
        self.begin();
        let _flush = FlushOutputs;
        test()
    }

    /// Runs an async test, in a master.
    pub fn run_async<T, F: Future<Output = T>>(&self, test: impl FnOnce() -> F) -> T {
        let entry = self.begin();
        let _flush = FlushOutputs;
        entry.block_on(test)
    }

    /// Becomes a worker, if that is what this process was started as, and a master otherwise.
    fn begin(&self) -> Entry {
        let entry = (self.entry)();
        work_if_started_as_worker(|arguments| arguments.eq(self.worker_args()));
        match become_master() {
            Ok(()) => entry,
            // A mistake in the tests, which fails each of them, and no other test.
            Err(error @ (StartupError::TestsDiffer { .. } | StartupError::TestSettings { .. })) => {
                panic!("{error}")
            }
            Err(error) => give_up("start the test", &error),
        }
    }

    /// Returns the arguments that make libtest run this test and nothing else.
    fn worker_args(&self) -> [&'static str; 6] {
        // libtest leaves the name of the crate out.
        let name = self.path.split_once("::").map_or(self.path, |(_, name)| name);
        ["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1", "--quiet"]
    }

    /// Returns the master that the test asks for.
    fn master(&self) -> Result<MasterBuilder, StartupError> {
        let master = (self.entry)().master();
        master.map_err(|why| StartupError::TestSettings { test: self.path, why })
    }
}

/// Returns how this process starts workers; none if nothing has prepared it to, and its executable
/// has no `#[rpc_parallel::test]`.
///
/// # Errors
///
/// The process has no role yet, and cannot become the master that its tests ask for.
pub(super) fn spawn_defaults() -> Result<Option<&'static SpawnDefaults>, StartupError> {
    if Role::spawn_defaults().is_none() && tests().next().is_some() {
        become_master()?;
    }
    Ok(Role::spawn_defaults())
}

/// Returns proof that this process can start workers, if it can.
///
/// In a test executable with a `#[rpc_parallel::test]` this makes the process a master, unless it
/// is something already.
#[must_use]
pub fn initialized() -> Option<Initialized> {
    spawn_defaults().ok().flatten()?;
    Initialized::here()
}

fn tests() -> impl Iterator<Item = &'static Test> {
    submit::iter::<Test>()
}

/// Makes this process the master that its registered tests ask for, unless it is one.
///
/// # Panics
///
/// The expression for the settings of a test panics.
fn become_master() -> Result<(), StartupError> {
    static DONE: Mutex<Option<Result<(), StartupError>>> = Mutex::new(None);
    // A panic leaves it as it was.
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    done.get_or_insert_with(start).clone()
}

fn start() -> Result<(), StartupError> {
    let first = tests().min_by_key(|it| it.path);
    let first = first.expect("callers are a registered test or found one");
    let master = first.master()?;
    for other in tests() {
        if other.master()? != master {
            return Err(StartupError::TestsDiffer { one: first.path, other: other.path });
        }
    }
    match master.worker_args(first.worker_args()).prints_before_worker_main(true).start() {
        // Where it is a master already, a test has called `Master::start`.
        Ok(_) | Err(StartupError::AlreadyMaster) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets nothing that workers have written be lost when a test ends, however it ends. Workers of
/// tests that run beside it are not its own to end.
struct FlushOutputs;

impl Drop for FlushOutputs {
    fn drop(&mut self) {
        Outputs::flush_all();
    }
}
