//! The choices there are for a worker.

use std::ffi::OsString;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connecting::encode_init;
use super::restart_policy::RestartPolicy;
use super::spawn_error::SpawnError;
use super::spawn_options::{SpawnFuture, SpawnOptions};
use super::worker::Worker;
use crate::connection::WorkerFailure;
use crate::launch::{Launcher, Lifetime, PanicPolicy, Redirect, ResourceLimit, SharedLauncher};
use crate::wire::Settings;
use crate::worker::{
    BeginsWithNothing, ConnectionState, OneWorkerTraitPerType, Served, WorkerClient,
};

/// Chooses how a worker of type `S` starts.
///
/// ```text
/// let ledger = Ledger::spawner()
///     .name("ledger-1")
///     .env("RUST_LOG", "debug")
///     .current_dir("/var/tmp")
///     .stdout(Redirect::append("ledger.out"))
///     .start(path)
///     .await?;
/// ```
#[must_use = "a spawner does nothing until `spawn` or `start`"]
pub struct Spawner<S> {
    options: SpawnOptions,
    of: PhantomData<fn() -> S>,
}

/// A worker that starts: a future of its client or its handle.
///
/// # Cancel safety
///
/// Dropping it ends the worker.
#[must_use = "a worker starts when this is awaited"]
pub struct Spawning<T>(SpawnFuture<T>);

type ConnectionInit<S> =
    <<<S as OneWorkerTraitPerType>::Client as WorkerClient>::Connection as ConnectionState<S>>::Init;

impl<S: Served> Spawner<S> {
    pub(super) fn new() -> Self {
        Self { options: SpawnOptions::default(), of: PhantomData }
    }

    /// Names the worker: in errors, and in the list of processes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.config.name = Some(name.into());
        self
    }

    /// Sets an environment variable. The worker inherits the others from this process.
    ///
    /// Names and values may hold any bytes that the system takes. Of two values for one variable the
    /// later one counts.
    ///
    /// `RPC_PARALLEL_WORKER` is reserved for the boot token, which is set also after
    /// [`env_clear`](Self::env_clear), and `RPC_PARALLEL_SETTINGS` is for masters: both are errors.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.options.config.environment.set(name.into(), value.into());
        self
    }

    /// Leaves an environment variable out, inherited or set before.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.options.config.environment.remove(name.into());
        self
    }

    /// Leaves all environment variables out, inherited or set before.
    pub fn env_clear(mut self) -> Self {
        self.options.config.environment.clear();
        self
    }

    /// Sets the directory that the worker begins in; that of this process, if not said.
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.options.config.set_up.current_dir = Some(path.as_ref().into());
        self
    }

    /// Sets which permissions files lose that the worker creates, those that its output is redirected
    /// to among them: `0o077` leaves them to their owner. The mask of this process, if not said.
    pub fn umask(mut self, mask: u32) -> Self {
        self.options.config.set_up.umask = Some(mask);
        self
    }

    /// Limits what the system grants the worker. Several limits may be set; of two on the same, the
    /// later one counts.
    ///
    /// ```text
    /// let careful = Parser::spawner().limit(Limit::memory(2 << 30)).limit(Limit::cpu_seconds(60));
    /// ```
    pub fn limit(mut self, limit: ResourceLimit) -> Self {
        self.options.config.set_up.limits.retain(|it| !it.concerns(&limit));
        self.options.config.set_up.limits.push(limit);
        self
    }

    /// Sets how much the worker lets others go first: from -20, not at all, to 19. Only the privileged
    /// may choose less than this process has.
    ///
    /// Linux may share the processors out by sessions before it looks at this (`autogroup`); then it
    /// counts among workers only if they run in the [`foreground`](Self::foreground).
    pub fn nice(mut self, nice: i32) -> Self {
        self.options.config.set_up.nice = Some(nice);
        self
    }

    /// Chooses the processors that the worker may run on, by their numbers: `[0, 1]`.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.options.config.set_up.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// Leaves the worker in the session and the process group of this process.
    ///
    /// Unless this is said a worker has a session of its own: Ctrl-C, Ctrl-Z and the end of a terminal
    /// reach this process, and its workers end when it does, in order. In the foreground they reach
    /// the worker as well, at the same time. That is for a worker that uses the terminal itself (it
    /// asks for a password, or runs an editor), and for programs that handle these signals
    /// everywhere.
    pub fn foreground(mut self) -> Self {
        self.options.config.set_up.foreground = true;
        self
    }

    /// Has something else start the worker's process: see [`Launcher`] and
    /// [`WrapperLauncher`](crate::WrapperLauncher).
    pub fn launcher(mut self, launcher: impl Launcher) -> Self {
        self.options.config.launcher = Some(SharedLauncher(Arc::new(launcher)));
        self
    }

    /// Redirects the worker's stdout.
    pub fn stdout(mut self, redirect: Redirect) -> Self {
        self.options.config.stdout = redirect;
        self
    }

    /// Redirects the worker's stderr, once the worker has begun.
    ///
    /// Errors that tell of its death hold its last lines only where it is inherited or prefixed.
    pub fn stderr(mut self, redirect: Redirect) -> Self {
        self.options.config.stderr = redirect;
        self
    }

    /// Limits the time until the new process has become a worker; 10 seconds, if not said.
    ///
    /// The time that its `init` takes does not count.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.config.connect_timeout = Some(timeout);
        self
    }

    /// Limits the time that the worker's `init` takes; unlimited, if not said.
    pub fn init_timeout(mut self, timeout: Duration) -> Self {
        self.options.config.init_timeout = Some(timeout);
        self
    }

    /// Limits the time until the worker is ready, all in all; unlimited, if not said.
    ///
    /// The process of a worker that is not ready by then is ended, which takes a moment more.
    pub fn spawn_timeout(mut self, timeout: Duration) -> Self {
        self.options.config.spawn_timeout = Some(timeout);
        self
    }

    /// Gives the worker settings of its own, for its connections and the workers it starts.
    ///
    /// Fields that the master found in its environment are as they are there, see [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.options.settings = Some(settings);
        self
    }

    /// Chooses what a panic inside a call does to the worker; it fails the call, if not said.
    pub fn panics(mut self, panics: PanicPolicy) -> Self {
        self.options.config.panics = panics;
        self
    }

    /// Sets a callback for the failure of the worker. It is called once for each process that fails,
    /// with the failure report.
    ///
    /// A process fails if it ends and the end was not requested: by dropping the last client, by
    /// [`shutdown`](Worker::shutdown), by closing its server and its last connection, or by the end
    /// of this process. A process whose end was requested fails as well if it does not end in order:
    /// if a signal of another process kills it, if it exits before
    /// [`on_shutdown`](crate::WorkerState::on_shutdown) has returned or with a code other than 0, or
    /// if `on_shutdown` or a task panics.
    ///
    /// The callback is not called for:
    ///
    /// - a process whose end was requested and took too long, so that it exited with code 1 or this
    ///   process ended it by a signal;
    /// - a worker that did not start, which is a [`SpawnError`]. A [restarted](Self::restart) worker
    ///   that does not start is a failure.
    ///
    /// The callback runs in a task of the tokio runtime in which the worker was started, and in the
    /// `tracing` span in which that was awaited. It must not block, like any task. If the runtime has
    /// ended, the callback is not called.
    ///
    /// A panic in a task is a failure only where the worker sets no panic hook of its own, or one that
    /// chains, see [`handles_panics`](crate::handles_panics#panic-hooks).
    ///
    /// ```text
    /// .on_failure(|failure| eprintln!("{failure}"))
    /// ```
    pub fn on_failure(mut self, tell: impl Fn(WorkerFailure) + Send + Sync + 'static) -> Self {
        self.options.on_failure = Some(Arc::new(tell));
        self
    }

    /// Sets whether a failed worker is restarted: [`RestartPolicy::on_failure`] for services,
    /// [`RestartPolicy::for_batch`] for inputs that may kill their worker. Default: [`RestartPolicy::never`].
    ///
    /// The new process is started in the same way, with the same argument of `init`, and the same
    /// argument for the state of each connection. What was in memory is lost, and so is the content
    /// of a file to which [`Redirect::truncate`] redirected its output.
    ///
    /// A client keeps working: its connection is replaced. Calls in flight fail with
    /// [`WorkerDied`](crate::CallErrorKind::WorkerDied), because nothing is known of how far they have
    /// come, and so do pipes. Later calls wait until the new process serves, no longer than their
    /// [timeout](crate::Call::timeout), and go to it. When the limit is reached they fail with
    /// [`RestartLimitReached`](crate::CallErrorKind::RestartLimitReached), and only then is the client
    /// [closed](crate::WorkerClient::closed). The limit also holds for connections to a worker that
    /// lives. Dropping the last client also ends a process that is being started.
    ///
    /// A worker whose end was requested is not restarted, also if it fails before it has ended.
    ///
    /// A handle stays valid: the new process is the same [`Worker`], though its
    /// [`label`](Worker::label) still names the process that ran when the handle was made. `connect`
    /// waits for the new process, in other processes no longer than the
    /// [`handshake_timeout`](Settings::handshake_timeout). Connections are replaced only in the
    /// process that has started the worker; in other processes they are lost with it.
    ///
    /// A task of the tokio runtime in which the worker was started restarts it, and ends with that
    /// runtime.
    pub fn restart(mut self, restart: RestartPolicy) -> Self {
        self.options.restart = restart;
        self
    }

    /// Starts the worker and connects to it. It lives as long as the client, its clones and calls.
    ///
    /// Dropping the last of them tells it to end. If it computes and does not notice within
    /// half a second, it is ended by `SIGTERM`, and then killed.
    pub fn spawn(self, init: S::Init) -> Spawning<S::Client>
    where
        S: Served<Client: WorkerClient<Connection: BeginsWithNothing<S>>>,
    {
        self.spawn_with(init, ())
    }

    /// Starts the worker and connects to it, with an argument for the state of that connection.
    pub fn spawn_with(self, init: S::Init, connection: ConnectionInit<S>) -> Spawning<S::Client> {
        let spawned = self.options.spawn(
            S::WORKER_TYPE,
            &|settings| encode_init(&init, settings),
            &|settings| encode_init(&connection, settings),
        );
        Spawning(Box::pin(async move { spawned.await.map(S::Client::from_client) }))
    }

    /// Starts the worker. It lives as long as this process, or until it is told to end.
    pub fn start(self, init: S::Init) -> Spawning<Worker<S>> {
        self.start_without_connection(init, Lifetime::WithMaster)
    }

    /// Starts the worker. It lives until it is [told to end](Worker::shutdown), or its server is
    /// [closed](WorkerClient::close_server), also when this process has long ended: whoever forgets
    /// it leaves a process behind for ever.
    ///
    /// A process that ends before it has the handle takes the worker along. So prefer
    /// [`start`](Self::start). Where a worker must outlive its master, keep its handle, or
    /// its [address](Worker::address), where somebody will look for it. Its stderr is this
    /// process's own and does not pass through it, so errors do not hold its last lines; redirect
    /// its output to where it can be written when this process has ended.
    pub fn start_detached(self, init: S::Init) -> Spawning<Worker<S>> {
        self.start_without_connection(init, Lifetime::Detached)
    }

    fn start_without_connection(self, init: S::Init, lifetime: Lifetime) -> Spawning<Worker<S>> {
        let init = |settings| encode_init(&init, settings);
        let started = self.options.start(S::WORKER_TYPE, &init, lifetime);
        Spawning(Box::pin(async move {
            let (started, settings) = started.await?;
            let (label, path) = (started.label().clone(), started.listens_at());
            Ok(Worker::new(started.id(), label, settings, path))
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
            .field("plan", &self.options.config)
            .field("settings", &self.options.settings)
            .field("restart", &self.options.restart)
            .finish_non_exhaustive()
    }
}
