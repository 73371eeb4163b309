//! What spawners are told of deaths, for tests that wait for it.

use std::panic::Location;
use std::sync::Arc;

use rpc_parallel::WorkerFailure;
use rpc_parallel::error::ExitReason;
use tokio::sync::watch;

use crate::waiting::soon;

/// The failures that have been reported. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<watch::Sender<Vec<WorkerFailure>>>);

impl Failures {
    /// Returns what notes a failure: give it to `on_failure`.
    pub fn note(&self) -> impl Fn(WorkerFailure) + Send + Sync + 'static {
        let failures = self.0.clone();
        move |failure| failures.send_modify(|it| it.push(failure))
    }

    /// Waits until so many failures have been reported, and returns all there are.
    ///
    /// # Panics
    ///
    /// There are not so many soon.
    #[track_caller]
    pub fn count(&self, count: usize) -> impl Future<Output = Vec<WorkerFailure>> {
        self.wait_for(move |it| it.len() >= count)
    }

    /// Waits until the failure of a worker of this name has been reported, and returns those that
    /// have been before.
    ///
    /// # Panics
    ///
    /// There is none soon.
    #[track_caller]
    pub fn before(&self, name: &'static str) -> impl Future<Output = Vec<WorkerFailure>> {
        let place = move |failures: &[WorkerFailure]| {
            failures.iter().position(|it| it.worker().name() == Some(name))
        };
        let waiting = self.wait_for(move |it| place(it).is_some());
        async move {
            let mut failures = waiting.await;
            failures.truncate(place(&failures).unwrap_or_default());
            failures
        }
    }

    #[track_caller]
    fn wait_for(
        &self,
        mut reported: impl FnMut(&[WorkerFailure]) -> bool,
    ) -> impl Future<Output = Vec<WorkerFailure>> {
        let mut failures = self.0.subscribe();
        let place = Location::caller();
        async move {
            let waited = soon(failures.wait_for(|it| reported(it))).await;
            waited.unwrap_or_else(|_| panic!("{place}: nobody reports any more")).clone()
        }
    }

    /// Waits for the first failure.
    ///
    /// # Panics
    ///
    /// There is none soon, or there are more.
    #[track_caller]
    pub fn first(&self) -> impl Future<Output = WorkerFailure> {
        let (counting, place) = (self.count(1), Location::caller());
        async move {
            let mut failures = counting.await;
            assert_eq!(failures.len(), 1, "{place}: {failures:?}");
            failures.remove(0)
        }
    }

    /// Returns the failures that have been reported so far.
    #[must_use]
    pub fn list(&self) -> Vec<WorkerFailure> {
        self.0.borrow().clone()
    }

    /// Returns how the workers died of whom failures have been reported so far.
    #[must_use]
    pub fn deaths(&self) -> Vec<ExitReason> {
        self.0.borrow().iter().map(WorkerFailure::exit_reason).collect()
    }
}
