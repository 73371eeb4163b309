//! Pools of fixtures.

use std::error::Error;
use std::fmt::Write;
use std::panic::Location;

use futures_util::future::BoxFuture;
use rpc_parallel::pool::{Pool, PoolBuilder, PoolError, PoolSpawning};
use rpc_parallel::prelude::*;

use crate::fixture::{Fixture, ScriptedClient};
use crate::script::Script;
use crate::waiting::soon;

/// Makes a builder of a pool with this many fixtures.
pub fn fixtures(workers: usize) -> PoolBuilder<Fixture> {
    Fixture::pool().workers(workers)
}

/// Starts pools of fixtures.
pub trait PoolOk {
    /// Starts a pool.
    ///
    /// # Panics
    ///
    /// Panics if the pool does not start in time.
    #[track_caller]
    fn spawn_ok(self, script: impl Into<Script>) -> BoxFuture<'static, Pool<Fixture>>;
}

impl PoolOk for PoolBuilder<Fixture> {
    #[track_caller]
    fn spawn_ok(self, script: impl Into<Script>) -> BoxFuture<'static, Pool<Fixture>> {
        started(self.spawn(script.into()))
    }
}

/// Waits until a pool has started.
///
/// # Panics
///
/// Panics if the pool does not start in time.
#[track_caller]
pub fn started(pool: PoolSpawning<Fixture>) -> BoxFuture<'static, Pool<Fixture>> {
    let (caller, pool) = (Location::caller(), soon(pool));
    Box::pin(async move {
        pool.await.unwrap_or_else(|error| panic!("{caller}: {}", with_causes(&error)))
    })
}

/// Waits until the worker with this index serves, and returns its client.
///
/// # Panics
///
/// Panics if it does not serve in time.
pub async fn worker(pool: &Pool<Fixture>, index: usize) -> ScriptedClient {
    soon(pool.worker(index)).await.expect("the worker serves")
}

/// Returns the process ids of all workers, by their index.
///
/// # Panics
///
/// Panics if a worker does not answer.
pub async fn pids(pool: &Pool<Fixture>) -> Vec<u32> {
    let pids = soon(pool.broadcast(ScriptedClient::PID, &())).await.expect("the pool serves");
    pids.into_iter().map(|it| it.expect("the worker answers")).collect()
}

/// Waits until the process of a worker is another one than this.
///
/// # Panics
///
/// Panics if it is not replaced in time.
pub async fn pid_after(pool: &Pool<Fixture>, index: usize, previous: u32) -> u32 {
    soon(async {
        loop {
            let worker = pool.worker(index).await.expect("the worker serves");
            match worker.pid().await {
                Ok(pid) if pid != previous => return pid,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

/// Waits for a failure of a pool whose processes keep failing.
///
/// # Panics
///
/// Panics if there is no failure in time.
pub async fn pool_error<T>(attempt: impl Future<Output = Result<T, PoolError>>) -> PoolError {
    soon(attempt).await.map(drop).expect_err("the pool has no worker")
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
