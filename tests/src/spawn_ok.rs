//! Functions that start or reach a worker and panic with the whole error where that fails.

use std::error::Error;
use std::fmt::Write;
use std::panic::Location;

use futures_util::future::BoxFuture;
use rpc_parallel::Spawner;
use rpc_parallel::expert::Served;
use rpc_parallel::prelude::*;

/// Starts a worker of this type with the default options.
///
/// An argument of `init` may be anything that converts into it: `Fixture::spawn_ok(())`.
pub trait SpawnOk: Served + Sized {
    /// Starts a worker and connects to it.
    ///
    /// # Panics
    ///
    /// Panics if the worker does not start.
    #[track_caller]
    fn spawn_ok(init: impl Into<Self::Init>) -> BoxFuture<'static, Self::Client>
    where
        Self: Served<Client: WorkerClient<Connection: ConnectionState<Self, Init = ()>>>,
    {
        Self::spawner().spawn_ok(init)
    }

    /// Starts a worker and returns its handle.
    ///
    /// # Panics
    ///
    /// Panics if the worker does not start.
    #[track_caller]
    fn start_ok(init: impl Into<Self::Init>) -> BoxFuture<'static, Worker<Self>> {
        Self::spawner().start_ok(init)
    }
}

impl<S: Served> SpawnOk for S {}

/// Starts a worker with the options of a spawner.
pub trait SpawnerOk<S: Served>: Sized {
    /// Starts a worker and connects to it.
    ///
    /// # Panics
    ///
    /// Panics if the worker does not start.
    #[track_caller]
    fn spawn_ok(self, init: impl Into<S::Init>) -> BoxFuture<'static, S::Client>
    where
        S: Served<Client: WorkerClient<Connection: ConnectionState<S, Init = ()>>>;

    /// Starts a worker and returns its handle.
    ///
    /// # Panics
    ///
    /// Panics if the worker does not start.
    #[track_caller]
    fn start_ok(self, init: impl Into<S::Init>) -> BoxFuture<'static, Worker<S>>;
}

impl<S: Served> SpawnerOk<S> for Spawner<S> {
    #[track_caller]
    fn spawn_ok(self, init: impl Into<S::Init>) -> BoxFuture<'static, S::Client>
    where
        S: Served<Client: WorkerClient<Connection: ConnectionState<S, Init = ()>>>,
    {
        expect_ok("start", self.spawn(init.into()))
    }

    #[track_caller]
    fn start_ok(self, init: impl Into<S::Init>) -> BoxFuture<'static, Worker<S>> {
        expect_ok("start", self.start(init.into()))
    }
}

/// Connects to a worker.
pub trait ConnectOk<S: Served> {
    /// Connects to the worker.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be reached.
    #[track_caller]
    fn connect_ok(&self) -> BoxFuture<'static, S::Client>
    where
        S: Served<Client: WorkerClient<Connection: ConnectionState<S, Init = ()>>>;
}

impl<S: Served> ConnectOk<S> for Worker<S> {
    #[track_caller]
    fn connect_ok(&self) -> BoxFuture<'static, S::Client>
    where
        S: Served<Client: WorkerClient<Connection: ConnectionState<S, Init = ()>>>,
    {
        let worker = self.clone();
        expect_ok("connect to", async move { worker.connect(()).await })
    }
}

#[track_caller]
fn expect_ok<T, E: Error>(
    verb: &'static str,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
) -> BoxFuture<'static, T> {
    let caller = Location::caller();
    Box::pin(async move {
        future.await.unwrap_or_else(|error| {
            panic!("{caller}: failed to {verb} a worker: {}", with_causes(&error))
        })
    })
}

/// Returns what an error and its causes display.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
