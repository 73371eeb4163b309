//! The public builder that starts a worker, and the future that it returns.

use std::ffi::OsString;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connecting::encode_init;
use super::listener_address::ListenerAddress;
#[cfg(feature = "pool")]
use super::prepared_spawn::PreparedSpawn;
use super::restart_policy::RestartPolicy;
use super::spawn_error::SpawnError;
#[cfg(feature = "pool")]
use super::spawn_options::EncodeInit;
use super::spawn_options::{SpawnFuture, SpawnOptions};
#[cfg(feature = "pool")]
use super::spawn_request::OnFailure;
use super::worker::Worker;
use crate::connection::WorkerFailure;
use crate::launch::{Launcher, Lifetime, PanicPolicy, Redirect, ResourceLimit, SharedLauncher};
use crate::wire::Settings;
use crate::worker::{
    ConnectionState, InitWithoutArgument, OneWorkerTraitPerType, Served, WorkerClient,
};

/// A builder that configures and starts a worker of type `S`. [`Spawn::spawner`] makes one.
///
/// Three functions start the worker, and differ in how long it lives:
///
/// | function | returns | the worker lives |
/// |---|---|---|
/// | [`spawn`](Self::spawn) | a client | as long as the connection of that client |
/// | [`start`](Self::start) | a [`Worker`] handle | as long as this process |
/// | [`start_detached`](Self::start_detached) | a [`Worker`] handle | until its end is requested |
///
/// A setter that is called again replaces the earlier value, unless its documentation says
/// otherwise.
///
/// ```
/// # use rpc_parallel::BoxError;
/// use rpc_parallel::prelude::*;
///
/// # #[rpc_parallel::worker]
/// # trait Ledgers { async fn balance(&self) -> i64; }
/// # struct Ledger;
/// # impl WorkerState for Ledger {
/// #     type Init = String;
/// #     async fn init(_: String) -> Result<Self, BoxError> { Ok(Self) }
/// # }
/// # #[rpc_parallel::worker]
/// # impl Ledgers for Ledger {
/// #     async fn balance(&self) -> i64 { 0 }
/// # }
/// # async fn example(path: String) -> Result<(), AnyError> {
/// let ledger: Worker<Ledger> = Ledger::spawner()
///     .name("ledger-1")
///     .env("RUST_LOG", "debug")
///     .current_dir("/var/tmp")
///     .stdout(Redirect::append("ledger.out"))
///     .start(path)
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// [`Spawn::spawner`]: crate::Spawn::spawner
#[must_use = "a spawner starts nothing until `spawn` or `start` is called"]
pub struct Spawner<S> {
    options: SpawnOptions,
    of: PhantomData<fn() -> S>,
}

/// The future of a worker that is being started. Its output is the client or the handle.
///
/// The first poll starts the process.
///
/// # Errors
///
/// The worker did not start. [`SpawnError::kind`] says why. No process of the worker is left.
///
/// # Panics
///
/// Polling the future panics outside of a tokio runtime, and in a runtime without the I/O or the
/// time driver.
///
/// # Cancel safety
///
/// Dropping the future ends the worker's process, if it has been started.
#[must_use = "a worker starts only when this is awaited"]
pub struct Spawning<T>(SpawnFuture<T>);

type ConnectionInit<S> =
    <<<S as OneWorkerTraitPerType>::Client as WorkerClient>::Connection as ConnectionState<S>>::Init;

impl<S: Served> Spawner<S> {
    pub(super) fn new() -> Self {
        Self { options: SpawnOptions::default(), of: PhantomData }
    }

    /// Sets the name of the worker. Default: none.
    ///
    /// The name is in errors and failure reports, in the prefix of [`Redirect::prefixed`], and in
    /// the command line of the process, where `ps` shows it. It is not in the command line if
    /// [`MasterBuilder::worker_args`](crate::MasterBuilder::worker_args) is set, nor in tests,
    /// where the arguments select the test that the worker runs in.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.config.name = Some(name.into());
        self
    }

    /// Sets an environment variable of the worker. Variables that are not set here are inherited
    /// from this process.
    ///
    /// Names and values may hold any bytes that the operating system accepts. If a variable is set
    /// more than once, the last value is used.
    ///
    /// The variable `RPC_PARALLEL_WORKER` is reserved for the boot token, which is set also after
    /// [`env_clear`](Self::env_clear). `RPC_PARALLEL_SETTINGS` is read by masters only; use
    /// [`settings`](Self::settings). Setting either makes the start fail with
    /// [`SpawnErrorKind::Environment`](crate::SpawnErrorKind::Environment), and so does a name or a
    /// value that is invalid.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.options.config.environment.set(name.into(), value.into());
        self
    }

    /// Removes an environment variable of the worker, whether it is inherited or was set before.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.options.config.environment.remove(name.into());
        self
    }

    /// Removes all environment variables of the worker, whether they are inherited or were set
    /// before.
    pub fn env_clear(mut self) -> Self {
        self.options.config.environment.clear();
        self
    }

    /// Sets the current directory of the worker. Default: inherited.
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.options.config.set_up.current_dir = Some(path.as_ref().into());
        self
    }

    /// Sets the worker's umask: the permission bits that files created by the worker do not get.
    /// Default: inherited.
    ///
    /// With `0o077`, only the owner of these files has access to them. The umask also applies to
    /// the files that the worker's output is [redirected](Self::stdout) to.
    pub fn umask(mut self, mask: u32) -> Self {
        self.options.config.set_up.umask = Some(mask);
        self
    }

    /// Adds a resource limit (`setrlimit`) of the worker. Default: all limits are inherited.
    ///
    /// A spawner can hold several limits. A later limit on the same resource replaces an earlier
    /// one.
    ///
    /// ```
    /// use rpc_parallel::launch::ResourceLimit;
    /// # use rpc_parallel::prelude::*;
    /// # #[rpc_parallel::worker]
    /// # trait Parse { async fn parse(&self, text: &str) -> usize; }
    /// # #[derive(Default, WorkerState)]
    /// # struct Parser;
    /// # #[rpc_parallel::worker]
    /// # impl Parse for Parser {
    /// #     async fn parse(&self, text: &str) -> usize { text.len() }
    /// # }
    ///
    /// let limited = Parser::spawner()
    ///     .limit(ResourceLimit::memory(2 << 30))
    ///     .limit(ResourceLimit::cpu_seconds(60));
    /// ```
    pub fn limit(mut self, limit: ResourceLimit) -> Self {
        self.options.config.set_up.limits.retain(|it| !it.concerns(&limit));
        self.options.config.set_up.limits.push(limit);
        self
    }

    /// Sets the worker's nice value, from -20 (highest priority) to 19 (lowest). Default:
    /// inherited.
    ///
    /// Only a privileged process can set a value below its own. A value that cannot be set makes
    /// the start fail with [`SpawnErrorKind::SetUp`](crate::SpawnErrorKind::SetUp).
    ///
    /// If autogroup scheduling (`sched_autogroup_enabled`) is on, Linux divides processor time
    /// among sessions first. Nice values then make a difference among workers only if they run in
    /// the [`foreground`](Self::foreground).
    pub fn nice(mut self, nice: i32) -> Self {
        self.options.config.set_up.nice = Some(nice);
        self
    }

    /// Sets the worker's CPU affinity: the numbers of the CPUs that it may run on, for example
    /// `[0, 1]`. Default: inherited.
    ///
    /// A CPU that is not available makes the start fail with
    /// [`SpawnErrorKind::SetUp`](crate::SpawnErrorKind::SetUp).
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.options.config.set_up.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// Keeps the worker in the session and the process group of this process.
    ///
    /// Default: a worker has a session of its own. The signals of Ctrl-C, Ctrl-Z and a terminal
    /// hang-up then reach only this process, and its workers shut down when it ends. In the
    /// foreground these signals also reach the worker, at the same time. Use it for a worker that
    /// uses the terminal itself, for example to ask for a password or to run an editor, and for
    /// programs that handle these signals in every process.
    pub fn foreground(mut self) -> Self {
        self.options.config.set_up.foreground = true;
        self
    }

    /// Kills the processes that the worker has started, when the worker has ended, in whatever way.
    /// Default: they continue.
    ///
    /// `SIGKILL` goes to the process group of the worker: to its children and their descendants,
    /// except for those that have a process group or a session of their own, as daemons and the jobs
    /// of an interactive shell do. Workers of the worker have their own sessions, and end with it
    /// anyway.
    ///
    /// The processes continue if the worker and its master are killed at the same time, if the worker
    /// is on another host, or if a launcher's process stays the parent of the worker. A worker in the
    /// [`foreground`](Self::foreground) has no process group of its own: its start fails with
    /// [`SpawnErrorKind::SetUp`](crate::SpawnErrorKind::SetUp).
    pub fn kill_children(mut self) -> Self {
        self.options.config.set_up.kill_children = true;
        self
    }

    /// Sets the launcher, which starts the worker's process. Default: [`Exec`](crate::Exec), which
    /// executes the program again.
    ///
    /// See [`Launcher`], [`Snapshot`](crate::Snapshot) and
    /// [`WrapperLauncher`](crate::WrapperLauncher).
    pub fn launcher(self, launcher: impl Launcher) -> Self {
        self.shared_launcher(SharedLauncher(Arc::new(launcher)))
    }

    pub(crate) fn shared_launcher(mut self, launcher: SharedLauncher) -> Self {
        self.options.config.launcher = Some(launcher);
        self
    }

    /// Sets a callback for failures that several spawners share.
    #[cfg(feature = "pool")]
    pub(crate) fn shared_on_failure(mut self, on_failure: Option<OnFailure>) -> Self {
        self.options.on_failure = on_failure;
        self
    }

    /// Redirects the worker's stdout. Default: [`Redirect::inherit`].
    ///
    /// `cargo test` does not capture the output of workers: it captures only what the process of
    /// the test prints itself.
    pub fn stdout(mut self, redirect: Redirect) -> Self {
        self.options.config.stdout = redirect;
        self
    }

    /// Redirects the worker's stderr. Default: [`Redirect::inherit`].
    ///
    /// The redirection takes effect when the new process becomes a worker.
    ///
    /// Errors and failure reports contain the last lines of the worker's stderr only if it is
    /// inherited or [prefixed](Redirect::prefixed).
    pub fn stderr(mut self, redirect: Redirect) -> Self {
        self.options.config.stderr = redirect;
        self
    }

    /// Sets the timeout for the new process to become a worker, from the execution of its program.
    /// Default: 10 s.
    ///
    /// The time that the worker's `init` takes does not count.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.config.connect_timeout = Some(timeout);
        self
    }

    /// Sets the timeout for the worker's `init`. Default: none.
    pub fn init_timeout(mut self, timeout: Duration) -> Self {
        self.options.config.init_timeout = Some(timeout);
        self
    }

    /// Sets the timeout for the whole start, until the worker is ready. Default: none.
    ///
    /// When it has passed, the process is killed and reaped, which can take up to 1 s more.
    pub fn spawn_timeout(mut self, timeout: Duration) -> Self {
        self.options.config.spawn_timeout = Some(timeout);
        self
    }

    /// Sets the settings of the worker, of its connections, and of the workers that it starts.
    /// Default: the settings of this process.
    ///
    /// The fields in the environment variable `RPC_PARALLEL_SETTINGS` of the master override them,
    /// see [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.options.settings = Some(settings);
        self
    }

    /// Sets what a panic inside a call does to the worker. Default: [`PanicPolicy::FailCall`].
    pub fn panics(mut self, panics: PanicPolicy) -> Self {
        self.options.config.panics = panics;
        self
    }

    /// Sets a callback for failures of the worker. Default: none.
    ///
    /// The callback is called once for each process that fails, with the failure report. A process
    /// fails if it ends and its end was not requested. The end is requested by dropping the last
    /// client, by [`shutdown`](Worker::shutdown), by closing the server and its last connection, or
    /// by the end of this process. A process whose end was requested fails, too, if its end is not
    /// orderly: if a signal of another process kills it, if it exits before
    /// [`on_shutdown`](crate::WorkerState::on_shutdown) has returned or with a code other than 0,
    /// or if `on_shutdown` or a task panics.
    ///
    /// The callback is not called for:
    ///
    /// - A panic in a function. It fails the call. A panic in a one-way function, whose caller does
    ///   not wait for an answer, is one line on the worker's stderr. With
    ///   [`PanicPolicy::EndWorker`], either ends the worker, and the callback is called.
    /// - A process whose end was requested and took too long, so that it exited with code 1 or this
    ///   process ended it by a signal.
    /// - A worker that did not start, which is a [`SpawnError`]. A [restarted](Self::restart)
    ///   worker that does not start is a failure.
    ///
    /// The callback runs in a task of the tokio runtime in which the worker was started. Like any
    /// task, it must not block. If the runtime has ended, the callback is not called. The current
    /// `tracing` span of the callback is the one in which the worker was started.
    ///
    /// A panic in a task is detected by a panic hook. If the worker sets a hook of its own, it must
    /// call the previous one, see [`handles_panics`](crate::handles_panics#panic-hooks).
    ///
    /// ```
    /// # use rpc_parallel::prelude::*;
    /// # #[rpc_parallel::worker]
    /// # trait Parse { async fn parse(&self, text: &str) -> usize; }
    /// # #[derive(Default, WorkerState)]
    /// # struct Parser;
    /// # #[rpc_parallel::worker]
    /// # impl Parse for Parser {
    /// #     async fn parse(&self, text: &str) -> usize { text.len() }
    /// # }
    /// let watched = Parser::spawner().on_failure(|failure| eprintln!("{failure}"));
    /// ```
    pub fn on_failure(mut self, callback: impl Fn(WorkerFailure) + Send + Sync + 'static) -> Self {
        self.options.on_failure = Some(Arc::new(callback));
        self
    }

    /// Sets whether a failed worker is restarted. Default: [`RestartPolicy::never`].
    ///
    /// [`RestartPolicy::on_failure`] is for services. [`RestartPolicy::for_batch`] is for batches
    /// of inputs some of which may kill their worker.
    ///
    /// The new process is started in the same way, with the same argument of `init`, and with the
    /// same argument for the state of each connection. The memory of the failed process is lost,
    /// and so is the content of a file to which [`Redirect::truncate`] redirects its output.
    ///
    /// **Clients** that this process got from [`spawn`](Self::spawn), or by
    /// [`connect`](Worker::connect) to a worker of [`start`](Self::start), keep working: their
    /// connections are replaced. Calls in flight fail with
    /// [`WorkerDied`](crate::CallErrorKind::WorkerDied), because their functions may have run in
    /// part, and so do pipes. Later calls wait for the new process, at most for their
    /// [timeout](crate::Call::timeout), and are sent to it. When the limit is reached, calls fail
    /// with [`RestartLimitReached`](crate::CallErrorKind::RestartLimitReached), and only then is the
    /// client [closed](crate::WorkerClient::closed). The delays and the limit also apply to a
    /// connection that is lost while the worker lives. Dropping the last client of
    /// [`spawn`](Self::spawn) also ends a process that is being started.
    ///
    /// **Handles** stay valid: the new process is the same [`Worker`]. The [`label`](Worker::label)
    /// of a handle names the process that ran when the handle was made.
    /// [`connect`](Worker::connect) waits for the new process; in other processes it waits no
    /// longer than the [`handshake_timeout`](Settings::handshake_timeout). Connections are replaced
    /// only in the process that started the worker. In other processes they are lost with the
    /// failed process.
    ///
    /// A worker whose end was requested is not restarted, even if it fails before it has ended.
    /// Restarts are made by a task of the tokio runtime in which the worker was started, and stop
    /// when that runtime ends. A [detached](Self::start_detached) worker cannot be restarted.
    pub fn restart(mut self, restart: RestartPolicy) -> Self {
        self.options.restart = restart;
        self
    }

    /// Prepares the start of a worker for a pool.
    #[cfg(feature = "pool")]
    pub(crate) fn prepare(
        mut self,
        worker_index: usize,
        init: EncodeInit<'_>,
        connection_init: EncodeInit<'_>,
    ) -> Result<PreparedSpawn, SpawnError> {
        self.options.config.worker_index = u64::try_from(worker_index).ok();
        self.options.prepare_pooled(S::WORKER_TYPE, init, connection_init)
    }

    /// Starts the worker and connects to it. The worker lives as long as its client.
    ///
    /// The worker shuts down when the client, its clones, and their calls and pipes have been
    /// dropped. If it does not begin to shut down within 0.5 s, for example because a function
    /// computes, this process sends `SIGTERM` to it, and `SIGKILL` 0.5 s later.
    ///
    /// # Errors
    ///
    /// The worker did not start, or the connection failed, see [`Spawning`](Spawning#errors).
    pub fn spawn(self, init: S::Init) -> Spawning<S::Client>
    where
        S: Served<Client: WorkerClient<Connection: InitWithoutArgument<S>>>,
    {
        self.spawn_with(init, ())
    }

    /// Starts the worker and connects to it, like [`spawn`](Self::spawn), with an argument for the
    /// `init` of the connection state.
    ///
    /// # Errors
    ///
    /// The worker did not start, or the connection failed, see [`Spawning`](Spawning#errors).
    pub fn spawn_with(self, init: S::Init, connection: ConnectionInit<S>) -> Spawning<S::Client> {
        let spawning = self.options.spawn(
            S::WORKER_TYPE,
            &|settings| encode_init(&init, settings),
            &|settings| encode_init(&connection, settings),
        );
        Spawning(Box::pin(async move { spawning.await.map(S::Client::from_client) }))
    }

    /// Starts the worker without a connection. The worker lives as long as this process, unless it
    /// is [shut down](Worker::shutdown) before, or its server is
    /// [closed](WorkerClient::close_server) and its last connection ends.
    ///
    /// # Errors
    ///
    /// The worker did not start, see [`Spawning`](Spawning#errors).
    pub fn start(self, init: S::Init) -> Spawning<Worker<S>> {
        self.start_without_connection(init, Lifetime::WithMaster)
    }

    /// Starts the worker without a connection, and detaches it: the worker outlives this process.
    ///
    /// The worker lives until it is [shut down](Worker::shutdown), or until its server is
    /// [closed](WorkerClient::close_server) and its last connection ends. A detached worker that is
    /// forgotten runs forever, so prefer [`start`](Self::start). Store the handle, or its
    /// [address](Worker::address), where other processes find it.
    ///
    /// If this process ends before the future has returned the handle, the worker ends as well.
    ///
    /// The worker's stderr does not pass through this process, so errors do not contain its last
    /// lines. Redirect the output to a place that exists when this process has ended, for example a
    /// file.
    ///
    /// # Errors
    ///
    /// The worker did not start, see [`Spawning`](Spawning#errors). A detached worker cannot have a
    /// [`RestartPolicy`], nor an output that is [prefixed](Redirect::prefixed).
    pub fn start_detached(self, init: S::Init) -> Spawning<Worker<S>> {
        self.start_without_connection(init, Lifetime::Detached)
    }

    fn start_without_connection(self, init: S::Init, lifetime: Lifetime) -> Spawning<Worker<S>> {
        let init = |settings| encode_init(&init, settings);
        let starting = self.options.start(S::WORKER_TYPE, &init, lifetime);
        Spawning(Box::pin(async move {
            let (started, settings) = starting.await?;
            let listener = started.listens_at().map(|path| ListenerAddress::Unix { path });
            Ok(Worker::new(started.id(), started.label().clone(), settings, listener))
        }))
    }
}

impl<T> Future for Spawning<T> {
    type Output = Result<T, SpawnError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Spawning<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawning").finish_non_exhaustive()
    }
}

impl<S> Clone for Spawner<S> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), of: self.of }
    }
}

impl<S> fmt::Debug for Spawner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner")
            .field("config", &self.options.config)
            .field("settings", &self.options.settings)
            .field("restart", &self.options.restart)
            .finish_non_exhaustive()
    }
}
