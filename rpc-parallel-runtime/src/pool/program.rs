//! The pool of the program, which runs process functions: `score::map(..)` uses it.
//!
//! There is one pool for each tokio runtime, because its tasks and connections live on the runtime.
//! A program has one runtime, as a rule.

use std::collections::HashMap;
use std::env;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;

use super::builder::PoolBuilder;
use super::error::{PoolError, PoolErrorKind};
use super::pool::Pool;
use super::spawn_pool::SpawnPool;
use crate::connection::task;
use crate::launch::Role;
use crate::worker::Processes;

/// The environment variable with the number of workers of the pool.
const WORKERS_VARIABLE: &str = "RPC_PARALLEL_WORKERS";

#[derive(Default)]
struct Program {
    pools: HashMap<Id, Arc<OnceCell<Pool<Processes>>>>,
    configure: Option<Configure>,
}

type Configure = Arc<dyn Fn(PoolBuilder<Processes>) -> PoolBuilder<Processes> + Send + Sync>;

fn program() -> MutexGuard<'static, Program> {
    static PROGRAM: LazyLock<Mutex<Program>> = LazyLock::new(Mutex::default);
    PROGRAM.lock().expect("no thread panics while it holds this lock")
}

/// Configures the pool of the program, on which the maps of process functions run. Default: one
/// worker for each core that this process may use, or the number in the environment variable
/// `RPC_PARALLEL_WORKERS`; in a worker, one worker.
///
/// The pool is started when a map first needs it, and ends with the tokio runtime or by
/// [`shutdown`]. This function has an effect on pools that are started later.
///
/// ```
/// rpc_parallel::pool::configure(|pool| pool.workers(4).threads_per_worker(1));
/// ```
pub fn configure(
    configure: impl Fn(PoolBuilder<Processes>) -> PoolBuilder<Processes> + Send + Sync + 'static,
) {
    let previous = program().configure.replace(Arc::new(configure));
    drop(previous);
}

/// Shuts down the pool of the program: its workers run `on_shutdown` and end. A later map starts
/// another pool.
///
/// # Errors
///
/// Workers did not end in order, see [`Pool::shutdown`].
///
/// # Panics
///
/// Panics outside of a tokio runtime.
///
/// # Cancel safety
///
/// Dropping the future after its first poll does not stop the shutdown.
pub async fn shutdown() -> Result<(), PoolError> {
    let pool = program().pools.remove(&Handle::current().id());
    match pool.as_ref().and_then(|it| it.get()) {
        Some(pool) => pool.shutdown().await,
        None => Ok(()),
    }
}

/// Returns the pool of the current runtime. Starts it if there is none.
///
/// # Cancel safety
///
/// Dropping the future ends workers that are being started, unless another caller waits for them.
pub(super) async fn pool() -> Result<Pool<Processes>, PoolError> {
    let runtime = Handle::current().id();
    let (cell, configure) = {
        let mut program = program();
        let configure = program.configure.clone();
        (program.pools.entry(runtime).or_default().clone(), configure)
    };
    let start = async || {
        let mut builder = Processes::pool();
        if let Some(workers) = default_workers()? {
            builder = builder.workers(workers);
        }
        if let Some(configure) = &configure {
            builder = configure(builder);
        }
        let pool = builder.spawn(()).await?;
        // Owner: the runtime, which drops the task when it ends.
        tokio::spawn(task(forget_with_runtime(runtime)));
        Ok(pool)
    };
    cell.get_or_try_init(start).await.cloned()
}

/// Returns the number of workers, if it is not that of the cores.
fn default_workers() -> Result<Option<usize>, PoolError> {
    // The workers of the pool are as many as the cores. If each had a pool of that size for the maps
    // inside of its functions, there would be the square of that number.
    if Role::current() == Some(Role::Worker) {
        return Ok(Some(1));
    }
    let Some(value) = env::var_os(WORKERS_VARIABLE) else { return Ok(None) };
    let value = value.to_string_lossy().into_owned();
    match value.parse() {
        Ok(workers) => Ok(Some(workers)),
        Err(_) => {
            let why = "expected a number of workers".to_owned();
            Err(PoolErrorKind::Environment { value, why }.into())
        }
    }
}

/// Removes the pool of a runtime when the runtime ends.
async fn forget_with_runtime(runtime: Id) {
    struct Forget(Id);
    impl Drop for Forget {
        fn drop(&mut self) {
            let pool = program().pools.remove(&self.0);
            // Dropped without the lock, because this ends its tasks.
            drop(pool);
        }
    }
    let _forget = Forget(runtime);
    std::future::pending::<()>().await;
}
