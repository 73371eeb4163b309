//! The builder that configures and starts a pool.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;

use super::core::PoolCore;
use super::error::{PoolError, PoolErrorKind};
use super::handle::Pool;
use super::lease::Lease;
use super::recycling::Recycling;
use super::size::Groups;
use super::slot_task::add_workers;
use super::template::{Init, Template};
use crate::connection::WorkerFailure;
use crate::launch::{Launcher, SharedLauncher};
use crate::master::{
    OnFailure, PreparedSpawn, RestartPolicy, Spawn, Spawner, encode_init, require_runtime,
};
use crate::wire::Settings;
use crate::worker::{InitWithoutArgument, Served, WorkerClient};

/// The variables that set the number of threads of common libraries.
const THREAD_VARIABLES: [&str; 5] = [
    "RAYON_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
];

/// A builder that configures and starts a [`Pool`] of workers of type `S`. [`SpawnPool::pool`] makes
/// one.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_parallel::launch::{ResourceLimit, WrapperLauncher};
/// use rpc_parallel::prelude::*;
///
/// # #[rpc_parallel::worker]
/// # trait Parse { async fn parse(&self, text: &str) -> usize; }
/// # #[derive(Default, WorkerState)]
/// # struct Parser;
/// # #[rpc_parallel::worker]
/// # impl Parse for Parser {
/// #     async fn parse(&self, text: &str) -> usize { text.len() }
/// # }
/// # async fn example() -> Result<(), AnyError> {
/// let pool = Parser::pool()
///     .workers(4)
///     .on(WrapperLauncher::new("nice"), 2) // and two that get only spare processor time
///     .configure(|spawner, worker_index| {
///         spawner
///             .limit(ResourceLimit::memory(2 << 30))
///             .stderr(Redirect::append(format!("parser-{worker_index}.err")))
///     })
///     .threads_per_worker(1)
///     .recycle_above_memory(500 << 20)
///     .spawn(())
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// [`SpawnPool::pool`]: super::SpawnPool::pool
#[must_use = "a builder starts nothing until `spawn` is called"]
pub struct PoolBuilder<S> {
    groups: Groups,
    configure: Option<Configure<S>>,
    threads: Option<usize>,
    replace_limit: (u32, Duration),
    recycling: Recycling,
    on_failure: Option<OnFailure>,
}

/// The future of a pool whose workers are being started.
///
/// The first poll starts the workers. [`PoolBuilder::spawn`] describes its errors.
///
/// # Panics
///
/// Polling the future panics outside of a tokio runtime, and in a runtime without the I/O or the
/// time driver.
///
/// # Cancel safety
///
/// Dropping the future ends the workers that have been started.
#[must_use = "a pool starts only when this is awaited"]
pub struct PoolSpawning<S>(SpawningFuture<S>);

type SpawningFuture<S> = Pin<Box<dyn Future<Output = Result<Pool<S>, PoolError>> + Send>>;

/// Configures the spawner of the worker with this index.
type Configure<S> = Arc<dyn Fn(Spawner<S>, usize) -> Spawner<S> + Send + Sync>;

impl<S: Served> PoolBuilder<S> {
    pub(super) fn new() -> Self {
        Self {
            groups: Groups::default(),
            configure: None,
            threads: None,
            replace_limit: (5, Duration::from_secs(60)),
            recycling: Recycling::default(),
            on_failure: None,
        }
    }

    /// Sets the number of workers that are started without a launcher.
    ///
    /// Default: the number of cores that this process may use, which depends on its CPU affinity and
    /// on the quota of its cgroup. If there are workers [on a launcher](Self::on): none.
    pub fn workers(mut self, workers: usize) -> Self {
        self.groups.local = Some(workers);
        self
    }

    /// Sets the number of workers if no other number was set.
    pub(super) fn workers_by_default(mut self, workers: usize) -> Self {
        self.groups.set_default(workers);
        self
    }

    /// Sets what starts the workers without a launcher of their own. Default: an exec.
    pub(super) fn local_launcher(mut self, launcher: Option<SharedLauncher>) -> Self {
        self.groups.local_launcher = launcher;
        self
    }

    /// Adds workers that a launcher starts. Several calls add several groups of workers.
    ///
    /// The workers without a launcher have the first indices, and the groups follow in the order of
    /// the calls.
    pub fn on(mut self, launcher: impl Launcher, workers: usize) -> Self {
        self.groups.launched.push((SharedLauncher(Arc::new(launcher)), workers));
        self
    }

    /// Sets a function that configures the spawner of each worker. Its second argument is the index
    /// of the worker, which is unique in the pool. Default: none.
    ///
    /// The function is called once for each index, before the worker starts. Replacements are
    /// started in the same way. The spawner has the name `<type>-<index>`, for example `Parser-0`,
    /// and the function may set another one. A [`RestartPolicy`] has no effect: the pool itself
    /// replaces its workers. If the function is set again, it replaces the earlier one.
    pub fn configure(
        mut self,
        configure: impl Fn(Spawner<S>, usize) -> Spawner<S> + Send + Sync + 'static,
    ) -> Self {
        self.configure = Some(Arc::new(configure));
        self
    }

    /// Sets the number of threads that common libraries use in each worker. Default: inherited,
    /// usually one thread per core in each of the workers.
    ///
    /// A pool with a worker per core uses all cores, so thread pools in its workers only compete
    /// with each other. This function sets the environment variables `RAYON_NUM_THREADS`,
    /// `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS` and `TOKIO_WORKER_THREADS` of
    /// the workers.
    pub fn threads_per_worker(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets how many times a worker may be replaced within a time because it has failed. Default: 5
    /// times within 60 s.
    ///
    /// A failure counts only if the process has not received a call or an item. Later failures are
    /// attributed to the inputs, so any number of inputs may kill their worker. The delay before a
    /// replacement is at least 1 ms, and grows to 1 s while no process of the worker answers.
    ///
    /// A worker that reaches the limit is not replaced, and the others do its work. When all
    /// workers have reached it, operations of the pool fail with
    /// [`ReplaceLimitReached`](super::PoolErrorKind::ReplaceLimitReached).
    pub fn replace_limit(mut self, times: u32, within: Duration) -> Self {
        self.replace_limit = (times, within);
        self
    }

    /// Replaces each worker after this number of calls. Default: never. 0 counts as 1.
    ///
    /// The limits of recycling are for code that leaks. The replacement is started first. Then it
    /// takes the place of the old worker, which ends with the last of its clients and calls: no call
    /// is lost. At most one worker in eight, and at least one, is being replaced at a time.
    ///
    /// Calls are counted when a guard of [`get`](Pool::get) is dropped, and 4 times a second. One-way
    /// calls and set-up calls are not counted.
    pub fn recycle_after_calls(mut self, calls: u64) -> Self {
        self.recycling.after_calls(calls);
        self
    }

    /// Replaces each worker after this number of items of maps. Default: never. 0 counts as 1.
    ///
    /// See [`recycle_after_calls`](Self::recycle_after_calls).
    pub fn recycle_after_items(mut self, items: u64) -> Self {
        self.recycling.after_items(items);
        self
    }

    /// Replaces a worker whose resident size exceeds this number of bytes and that has received a
    /// call or an item. Default: never. The size is checked 4 times a second.
    ///
    /// See [`recycle_after_calls`](Self::recycle_after_calls).
    pub fn recycle_above_memory(mut self, bytes: u64) -> Self {
        self.recycling.above_memory(bytes);
        self
    }

    /// Replaces each worker when it has served for this long. Default: never. At least 100 ms.
    ///
    /// See [`recycle_after_calls`](Self::recycle_after_calls).
    pub fn recycle_after(mut self, age: Duration) -> Self {
        self.recycling.after(age);
        self
    }

    /// Sets a callback for failures of the workers. Default: none.
    ///
    /// It is called as described at [`Spawner::on_failure`], also for replacements that do not
    /// start. If [`configure`](Self::configure) sets a callback for a worker, that is called instead.
    pub fn on_failure(mut self, callback: impl Fn(WorkerFailure) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(callback));
        self
    }

    /// Starts the workers in parallel, all with the same argument of `init`.
    ///
    /// The argument is encoded once. It is kept for replacements.
    ///
    /// # Errors
    ///
    /// - [`ZeroWorkers`](super::PoolErrorKind::ZeroWorkers) or
    ///   [`TooManyWorkers`](super::PoolErrorKind::TooManyWorkers): the number of workers is 0 or
    ///   more than 65536.
    /// - [`Spawn`](super::PoolErrorKind::Spawn): a worker did not start. The error names it, and the
    ///   other workers are ended.
    pub fn spawn(self, init: S::Init) -> PoolSpawning<S>
    where
        S: Served<Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
    {
        // The limits of the workers are checked for each of them.
        let unlimited = Settings::default().with_max_message_size(u32::MAX as usize);
        self.spawn_init(Init::Same(encode_init(&init, unlimited)))
    }

    /// Starts the workers in parallel, each with an argument of `init` of its own.
    ///
    /// The function is called once for the index of each worker. Its result is kept for
    /// replacements.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_each(
        self,
        init: impl Fn(usize) -> S::Init + Send + Sync + 'static,
    ) -> PoolSpawning<S>
    where
        S: Served<Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
    {
        let encode = move |index, settings| encode_init(&init(index), settings);
        self.spawn_init(Init::Each(Box::new(encode)))
    }

    fn spawn_init(self, init: Init) -> PoolSpawning<S>
    where
        S: Served<Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
    {
        let (recycling, (times, within)) = (self.recycling, self.replace_limit);
        let workers = self.groups.workers();
        let template = self.template(init);
        // Prepared here, so that the callbacks run in the span of this call.
        let prepared = workers.and_then(|workers| {
            (0..workers).map(|index| template.prepare(index)).collect::<Result<Vec<_>, _>>()
        });
        let policy = RestartPolicy::for_batch()
            .backoff(Duration::from_millis(1)..=Duration::from_secs(1))
            .limit(times, within);
        PoolSpawning(Box::pin(async move {
            let prepared = prepared?;
            require_runtime("starting a pool");
            let lease = start(prepared, recycling, policy).await?;
            Ok(Pool::new(lease, template))
        }))
    }

    fn template(self, init: Init) -> Template
    where
        S: Served<Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
    {
        let Self { groups, configure, threads, on_failure, .. } = self;
        Template::new(move |index| {
            let path = S::WORKER_TYPE.path();
            let name = format!("{}-{index}", short_name(&path));
            let mut spawner = S::spawner().name(name);
            spawner = spawner.shared_on_failure(on_failure.clone());
            if let Some(launcher) = groups.launcher(index) {
                spawner = spawner.shared_launcher(launcher.clone());
            }
            if let Some(threads) = threads {
                let threads = threads.to_string();
                let set = |spawner: Spawner<S>, it: &str| spawner.env(it, &threads);
                spawner = THREAD_VARIABLES.into_iter().fold(spawner, set);
            }
            if let Some(configure) = &configure {
                spawner = configure(spawner, index);
            }
            let encode = |settings| init.encode(index, settings);
            let prepared = spawner.prepare(index, &encode, &|settings| encode_init(&(), settings));
            prepared.map_err(|error| PoolErrorKind::Spawn { worker_index: index, error }.into())
        })
    }
}

/// Starts the workers of a new pool.
async fn start(
    workers: Vec<PreparedSpawn>,
    recycling: Recycling,
    policy: RestartPolicy,
) -> Result<Arc<Lease>, PoolError> {
    // Boxed, so that it is compiled once and not for each type of worker.
    let start: Starting = Box::pin(async move {
        let core = PoolCore::new(recycling, policy, workers.len(), Handle::current());
        let lease = Lease::new(core.clone());
        add_workers(&core, 0, workers).await?;
        Ok(lease)
    });
    start.await
}

type Starting = Pin<Box<dyn Future<Output = Result<Arc<Lease>, PoolError>> + Send>>;

/// Returns the last segment of the path of a type, without its parameters.
fn short_name(path: &str) -> &str {
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

impl<S> Future for PoolSpawning<S> {
    type Output = Result<Pool<S>, PoolError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<S> fmt::Debug for PoolSpawning<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolSpawning").finish_non_exhaustive()
    }
}

impl<S> Clone for PoolBuilder<S> {
    fn clone(&self) -> Self {
        let Self { groups, configure, threads, replace_limit, recycling, on_failure } = self;
        Self {
            groups: groups.clone(),
            configure: configure.clone(),
            threads: *threads,
            replace_limit: *replace_limit,
            recycling: *recycling,
            on_failure: on_failure.clone(),
        }
    }
}

impl<S> fmt::Debug for PoolBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("groups", &self.groups)
            .field("threads", &self.threads)
            .field("replace_limit", &self.replace_limit)
            .field("recycling", &self.recycling)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_name_has_neither_path_nor_parameters() {
        assert_eq!(short_name("Parser"), "Parser");
        assert_eq!(short_name("my::parsers::Parser"), "Parser");
        assert_eq!(short_name("my::Cache<alloc::vec::Vec<u8>>"), "Cache");
    }
}
