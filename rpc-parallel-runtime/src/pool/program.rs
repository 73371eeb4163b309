//! The one pool of a program: it is started when it is first needed.
//!
//! It lives on the background runtime, so it does not depend on the runtime in which it was first
//! used, which may end before the program.

use std::env;
use std::mem;
use std::sync::{LazyLock, Mutex, MutexGuard};

use tokio::sync::{oneshot, watch};

use super::background;
use super::builder::PoolBuilder;
use super::error::{PoolError, PoolErrorKind};
use super::handle::Pool;
use super::process::process_launcher;
use super::race::{Either, race};
use super::size::MAX_WORKERS;
use crate::connection::task;
use crate::launch::Role;
use crate::transport::Origin;
use crate::worker::{InitWithoutArgument, Processes, Served, WorkerClient};

/// The environment variable that sets the number of workers.
const WORKERS_VARIABLE: &str = "RPC_PARALLEL_WORKERS";

/// Returns the pool on which the maps of process functions run.
fn program_pool() -> &'static ProgramPool<Processes> {
    static POOL: LazyLock<ProgramPool<Processes>> = LazyLock::new(ProgramPool::new);
    &POOL
}

/// Configures the pool of the program, on which the maps of process functions run. Several calls add
/// to each other.
///
/// Default: one worker for each core that this process may use. The environment variable
/// `RPC_PARALLEL_WORKERS` sets another number, which takes precedence over that of this function. In
/// a worker, the default is one worker, and the variable has no effect, so that maps inside of maps
/// do not multiply the number of processes.
///
/// The pool is started when a map first needs it. It ends with the program, or by [`shutdown`].
///
/// # Errors
///
/// The pool is running.
///
/// ```
/// # fn example() -> Result<(), rpc_parallel::pool::PoolError> {
/// rpc_parallel::pool::configure(|pool| pool.workers(4).threads_per_worker(1))?;
/// # Ok(())
/// # }
/// ```
pub fn configure(
    configure: impl FnOnce(PoolBuilder<Processes>) -> PoolBuilder<Processes>,
) -> Result<(), PoolError> {
    program_pool().configure(configure)
}

/// Shuts down the pool of the program, if it runs: its workers end. The next map starts another one.
///
/// # Errors
///
/// The ends of some workers were not orderly.
///
/// # Cancel safety
///
/// Dropping the future after its first poll does not stop the shutdown.
pub async fn shutdown() -> Result<(), PoolError> {
    program_pool().shutdown().await
}

/// Returns the pool of the program, which is started first if it does not run.
pub(in crate::pool) async fn pool() -> Result<Pool<Processes>, PoolError> {
    program_pool().get().await
}

/// A pool that is started when it is first needed, and again if no worker of it is left.
pub(in crate::pool) struct ProgramPool<S>(Mutex<State<S>>);

struct State<S> {
    /// The process that was configured.
    origin: Origin,
    builder: PoolBuilder<S>,
    current: Option<Current<S>>,
}

/// A pool that is being started or runs, and its task. Dropping this ends both.
struct Current<S> {
    /// The pool, as soon as it has started.
    started: StartedPool<S>,
    /// Requests the shutdown. The result is sent to the sender in the request.
    shutdown: oneshot::Sender<oneshot::Sender<Result<(), PoolError>>>,
}

type StartedPool<S> = watch::Receiver<Option<Result<Pool<S>, PoolError>>>;

impl<S> ProgramPool<S>
where
    S: Served<Init = (), Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
{
    pub(in crate::pool) fn new() -> Self {
        Self(Mutex::new(State::new()))
    }

    /// Configures the pool. Several calls add to each other.
    ///
    /// # Errors
    ///
    /// The pool is running.
    pub(in crate::pool) fn configure(
        &self,
        configure: impl FnOnce(PoolBuilder<S>) -> PoolBuilder<S>,
    ) -> Result<(), PoolError> {
        let builder = self.state().builder.clone();
        let configured = configure(builder);
        let mut state = self.state();
        if state.current.as_ref().is_some_and(Current::is_usable) {
            return Err(PoolErrorKind::Running.into());
        }
        let previous = mem::replace(&mut state.builder, configured);
        drop(state);
        drop(previous);
        Ok(())
    }

    /// Returns the pool, which is started first if it does not run.
    ///
    /// # Errors
    ///
    /// The pool did not start. The next call tries again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the start.
    pub(in crate::pool) async fn get(&self) -> Result<Pool<S>, PoolError> {
        let mut started = self.begin();
        let pool = started.wait_for(Option::is_some).await;
        match pool.as_deref() {
            Ok(Some(pool)) => pool.clone(),
            Ok(None) | Err(_) => Err(thread_error("it ended before the pool had started")),
        }
    }

    /// Shuts the pool down, if it runs. The next [`get`](Self::get) starts another one.
    ///
    /// # Errors
    ///
    /// The ends of some workers were not orderly.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll does not stop the shutdown.
    pub(in crate::pool) async fn shutdown(&self) -> Result<(), PoolError> {
        let current = self.state().current.take();
        let Some(Current { shutdown, .. }) = current else { return Ok(()) };
        let (reply, result) = oneshot::channel();
        // It fails if the pool has failed to start, or no worker is left.
        let _ = shutdown.send(reply);
        result.await.unwrap_or(Ok(()))
    }

    /// Starts the pool if it does not run.
    fn begin(&self) -> StartedPool<S> {
        let (begun, started, previous) = {
            let mut state = self.state();
            if let Some(current) = state.current.as_ref().filter(|it| it.is_usable()) {
                return current.started.clone();
            }
            let (current, begun) = Current::begin(state.builder.clone());
            (begun, current.started.clone(), state.current.replace(current))
        };
        drop(previous);
        begun.start();
        started
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        let mut state = self.0.lock().expect("no thread panics while it holds this lock");
        // A worker that was forked from its master begins unconfigured, like one that was executed.
        if state.origin.is_other_process() {
            // Not dropped under the lock: it holds launchers of the user.
            mem::forget(mem::replace(&mut *state, State::new()));
        }
        state
    }
}

impl<S> State<S>
where
    S: Served<Init = (), Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
{
    fn new() -> Self {
        Self { origin: Origin::here(), builder: PoolBuilder::new(), current: None }
    }
}

/// A pool whose task has not been started yet.
struct Begun<S> {
    builder: PoolBuilder<S>,
    publish: watch::Sender<Option<Result<Pool<S>, PoolError>>>,
    requested: oneshot::Receiver<oneshot::Sender<Result<(), PoolError>>>,
}

impl<S> Begun<S>
where
    S: Served<Init = (), Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
{
    /// Starts the task of the pool. An error is published like that of the pool.
    fn start(self) {
        let Self { builder, publish, requested } = self;
        let fail = publish.clone();
        let run = async move {
            let pool = match with_environment(builder) {
                Ok(builder) => builder.local_launcher(process_launcher()).spawn(()).await,
                Err(error) => Err(error),
            };
            publish.send_replace(Some(pool.clone()));
            let Ok(pool) = pool else { return };
            match race(requested, pool.core().over()).await {
                Either::First(Ok(reply)) => {
                    let _ = reply.send(pool.shutdown().await);
                }
                Either::First(Err(_)) | Either::Second(_) => {}
            }
        };
        match background::runtime() {
            // Owner: the `Current` of the pool. The task ends when that is dropped.
            Ok(runtime) => drop(runtime.spawn(task(run))),
            Err(error) => drop(fail.send_replace(Some(Err(thread_error(error))))),
        }
    }
}

impl<S> Current<S> {
    fn begin(builder: PoolBuilder<S>) -> (Self, Begun<S>) {
        let (publish, started) = watch::channel(None);
        let (shutdown, requested) = oneshot::channel();
        (Self { started, shutdown }, Begun { builder, publish, requested })
    }

    /// Returns whether the pool is being started or has workers.
    fn is_usable(&self) -> bool {
        match &*self.started.borrow() {
            Some(Ok(pool)) => !pool.core().is_over(),
            Some(Err(_)) => false,
            None => self.started.has_changed().is_ok(),
        }
    }
}

fn thread_error(error: impl ToString) -> PoolError {
    PoolErrorKind::Thread { why: error.to_string() }.into()
}

/// Applies the number of workers in the environment, if there is one.
///
/// The pool of a worker has one worker unless its program sets another number. Otherwise the maps
/// inside of the functions of a pool of N workers would run on N² processes.
fn with_environment<S: Served>(builder: PoolBuilder<S>) -> Result<PoolBuilder<S>, PoolError> {
    if Role::current() == Some(Role::Worker) {
        return Ok(builder.workers_by_default(1));
    }
    match env::var_os(WORKERS_VARIABLE) {
        Some(value) if !value.is_empty() => {
            let value = value.to_string_lossy();
            Ok(builder.workers(parse_workers(&value)?))
        }
        Some(_) | None => Ok(builder),
    }
}

fn parse_workers(value: &str) -> Result<usize, PoolError> {
    let workers = value.parse().ok().filter(|it| (1..=MAX_WORKERS).contains(it));
    workers.ok_or_else(|| {
        let why = format!("expected a number from 1 to {MAX_WORKERS}");
        PoolErrorKind::Environment { value: value.to_owned(), why }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_workers_is_read_from_text() {
        assert!(parse_workers("1").is_ok_and(|it| it == 1));
        assert!(parse_workers("65536").is_ok_and(|it| it == 65_536));
    }

    #[test]
    fn other_text_is_error_that_names_variable_and_range() {
        for value in ["0", "-1", "many", " 4", "65537", "18446744073709551616", "4.0"] {
            let error = parse_workers(value).expect_err("it is not a number of workers");

            let text = format!(
                "failed to read a number of workers from `RPC_PARALLEL_WORKERS={value}`: expected \
                 a number from 1 to 65536"
            );
            assert_eq!(error.to_string(), text);
        }
    }
}
