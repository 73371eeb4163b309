//! Servers with a thread of their own, so that a panic can be attributed to its server.
//!
//! A panic hook can identify only the thread that panics. A server with an `on_failure` callback
//! therefore has a thread with a tokio runtime, on which all code of the server runs: its `init`,
//! its connections, its calls, and the tasks that they spawn.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use crate::connection::{
    ExitReason, FailureLookup, FailureReport, InFlight, MAX_IN_PROGRESS, Owner, Task,
    WorkerFailure, drop_silently, set_panic_owner, task, write_queued_frames,
};
use crate::launch::{Children, block_on, start_thread};
use crate::wire::{PanicReport, WorkerId, WorkerLabel};
use crate::worker::Servers;

/// The time for which a failure lookup waits for the end of a server after its connection has
/// ended.
const FAILURE_LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// The thread of one server.
pub(super) struct DedicatedThread {
    id: WorkerId,
    label: WorkerLabel,
    started_at: Instant,
    runtime: Handle,
    stop_signal: Arc<StopSignal>,
    /// The number of tasks that serve its connections and listeners.
    tasks: watch::Sender<usize>,
    /// The connections of this process to the server.
    callers: Mutex<Vec<InFlight>>,
    end: watch::Sender<Option<End>>,
}

/// Stops the thread, with or without a panic as the reason.
#[derive(Default)]
struct StopSignal {
    /// The first unhandled panic.
    panic: OnceLock<PanicReport>,
    stop: Notify,
}

#[derive(Clone)]
enum End {
    Orderly,
    Failed(WorkerFailure),
}

/// Owns the thread of a server. Dropping it ends the server.
pub(super) struct ThreadGuard(Arc<DedicatedThread>);

impl DedicatedThread {
    /// Starts a thread for a server. The thread calls `unregister` when the server ends, before
    /// its connections break.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the thread.
    pub(super) async fn start(
        id: WorkerId,
        label: WorkerLabel,
        unregister: fn(WorkerId),
    ) -> io::Result<ThreadGuard> {
        let (sender, started) = oneshot::channel();
        let run = move || {
            let stop_signal = Arc::<StopSignal>::default();
            let owner = stop_signal.clone().owner();
            let runtime = match build_runtime(owner.clone()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(sender.send(Err(error))),
            };
            let thread = Arc::new(Self {
                id,
                label,
                started_at: Instant::now(),
                runtime: runtime.handle().clone(),
                stop_signal,
                tasks: watch::Sender::new(0),
                callers: Mutex::default(),
                end: watch::Sender::new(None),
            });
            set_panic_owner(owner);
            // If the caller has dropped its future, this drops the guard, which ends the thread.
            let _ = sender.send(Ok(ThreadGuard(thread.clone())));
            thread.run(runtime, unregister);
        };
        start_thread("rpc-parallel server", Box::new(run))?;
        started.await.unwrap_or_else(|_| unreachable!("the thread sends before it ends"))
    }

    /// Runs the tasks of the server until it is stopped, and then ends it.
    fn run(&self, runtime: Runtime, unregister: fn(WorkerId)) {
        block_on(&runtime, pin!(self.stop_signal.stop.notified()));
        let end = match self.stop_signal.panic.get() {
            Some(panic) => End::Failed(self.failure_report(panic.clone())),
            None => End::Orderly,
        };
        if let End::Failed(failure) = &end {
            Children::get().remember(failure.clone());
        }
        // Before the connections break: their failure lookups read it.
        self.end.send_replace(Some(end));
        unregister(self.id);
        drop_silently(|| {
            // A blocking task continues, because nothing can end it.
            runtime.shutdown_background();
            Servers::get().remove(self.id);
        });
    }

    fn failure_report(&self, panic: PanicReport) -> WorkerFailure {
        let mut in_progress = Vec::new();
        for caller in &*self.callers() {
            caller.add_functions(MAX_IN_PROGRESS, &mut in_progress);
        }
        WorkerFailure::new(FailureReport {
            worker: self.label.clone(),
            id: self.id,
            exit_reason: ExitReason::ServerEnded,
            why: None,
            panic: Some(panic),
            in_progress,
            overdue: None,
            uptime: self.started_at.elapsed(),
            stderr: Vec::new(),
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Spawns the task of a connection or a listener of the server.
    pub(super) fn spawn(self: &Arc<Self>, serving: Task) {
        self.tasks.send_modify(|it| *it += 1);
        let count = TaskCount(self.clone());
        self.runtime.spawn(task(async move {
            serving.await;
            drop(count);
        }));
    }

    /// Ends the server when it is closed and its last connection has ended.
    pub(super) fn end_when_idle(self: &Arc<Self>) {
        let thread = self.clone();
        // Owner: the runtime of the thread.
        self.runtime.spawn(task(async move {
            Servers::get().closed(thread.id).await;
            let mut tasks = thread.tasks.subscribe();
            let _ = tasks.wait_for(|it| *it == 0).await;
            thread.stop_signal.stop.notify_one();
        }));
    }

    /// Registers a connection of this process to the server, for its failure report.
    pub(super) fn note_caller(&self, caller: InFlight) {
        let mut callers = self.callers();
        callers.retain(|it| !it.is_over());
        callers.push(caller);
    }

    /// Returns a future of the server's failure report. `None` if the server did not fail, or does
    /// not end within 1 s.
    pub(super) fn failure_lookup(&self) -> FailureLookup {
        let failure = failure(self.end.subscribe());
        Box::pin(async move { timeout(FAILURE_LOOKUP_TIMEOUT, failure).await.ok()? })
    }

    fn callers(&self) -> MutexGuard<'_, Vec<InFlight>> {
        self.callers.lock().expect("no thread panics while it holds this lock")
    }
}

fn build_runtime(owner: Owner) -> io::Result<Runtime> {
    // The runtime starts threads only for blocking tasks. Other tasks run on the server's thread.
    let set_owner = move || set_panic_owner(owner.clone());
    let mut builder = Builder::new_current_thread();
    builder.enable_all().thread_name("rpc-parallel server").on_thread_start(set_owner).build()
}

/// Waits until a server has ended, and returns its failure report if it failed.
async fn failure(mut end: watch::Receiver<Option<End>>) -> Option<WorkerFailure> {
    match end.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(End::Failed(failure))) => Some(failure.clone()),
        _ => None,
    }
}

impl StopSignal {
    /// Returns the callback that the panic hook calls for unhandled panics on the server's threads.
    fn owner(self: Arc<Self>) -> Owner {
        Arc::new(move |panic| {
            write_queued_frames();
            // The first panic is the reason. Later ones do not replace it.
            let _ = self.panic.set(panic);
            self.stop.notify_one();
        })
    }
}

/// Counts one task of a connection or a listener, until it is dropped.
struct TaskCount(Arc<DedicatedThread>);

impl Drop for TaskCount {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|it| *it -= 1);
    }
}

impl ThreadGuard {
    pub(super) fn thread(&self) -> &Arc<DedicatedThread> {
        &self.0
    }

    /// Ends the server, if it has not ended.
    pub(super) fn stop(&self) {
        self.0.stop_signal.stop.notify_one();
    }

    /// Waits until the server has ended, and returns its failure report if it failed.
    pub(super) async fn failure(&self) -> Option<WorkerFailure> {
        failure(self.0.end.subscribe()).await
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        self.stop();
    }
}
