//! The failure reports that `on_failure` callbacks receive.

use std::panic::Location;
use std::sync::Arc;

use rpc_parallel::WorkerFailure;
use rpc_parallel::error::ExitReason;
use tokio::sync::watch;

use crate::waiting::soon;

/// The exit reason of a process that a test killed.
pub const KILLED: ExitReason = ExitReason::Signaled { signal: 9, core_dumped: false };

/// The failures that have been reported. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<watch::Sender<Vec<WorkerFailure>>>);

impl Failures {
    /// Returns a callback for `on_failure` that records each failure.
    pub fn callback(&self) -> impl Fn(WorkerFailure) + Send + Sync + 'static {
        let failures = self.0.clone();
        move |failure| failures.send_modify(|it| it.push(failure))
    }

    /// Waits until at least this many failures have been reported, and returns all of them.
    ///
    /// # Panics
    ///
    /// Panics if fewer are reported in time.
    #[track_caller]
    pub fn count(&self, count: usize) -> impl Future<Output = Vec<WorkerFailure>> {
        self.wait_for(move |it| it.len() >= count)
    }

    /// Waits until the failure of a worker of this name has been reported, and returns the failures
    /// that were reported before.
    ///
    /// # Panics
    ///
    /// Panics if it is not reported in time.
    #[track_caller]
    pub fn before(&self, name: &'static str) -> impl Future<Output = Vec<WorkerFailure>> {
        let index = move |failures: &[WorkerFailure]| {
            failures.iter().position(|it| it.worker().name() == Some(name))
        };
        let waiting = self.wait_for(move |it| index(it).is_some());
        async move {
            let mut failures = waiting.await;
            failures.truncate(index(&failures).unwrap_or_default());
            failures
        }
    }

    #[track_caller]
    fn wait_for(
        &self,
        mut reported: impl FnMut(&[WorkerFailure]) -> bool,
    ) -> impl Future<Output = Vec<WorkerFailure>> {
        let mut failures = self.0.subscribe();
        let caller = Location::caller();
        async move {
            let waited = soon(failures.wait_for(|it| reported(it))).await;
            waited.unwrap_or_else(|_| panic!("{caller}: all callbacks were dropped")).clone()
        }
    }

    /// Waits for the first failure.
    ///
    /// # Panics
    ///
    /// Panics if none is reported in time, or more than one.
    #[track_caller]
    pub fn first(&self) -> impl Future<Output = WorkerFailure> {
        let (counting, caller) = (self.count(1), Location::caller());
        async move {
            let mut failures = counting.await;
            assert_eq!(failures.len(), 1, "{caller}: {failures:?}");
            failures.remove(0)
        }
    }

    /// Returns the failures that have been reported so far.
    #[must_use]
    pub fn list(&self) -> Vec<WorkerFailure> {
        self.0.borrow().clone()
    }

    /// Returns the exit reasons of the failures that have been reported so far.
    #[must_use]
    pub fn exit_reasons(&self) -> Vec<ExitReason> {
        self.0.borrow().iter().map(WorkerFailure::exit_reason).collect()
    }
}
