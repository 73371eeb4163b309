//! Servers on threads of their own, by which it is known whose a panic is.
//!
//! A panic names its thread and nothing else. So a server whose owner wants to be told of panics
//! has a thread with a tokio runtime, on which all runs that belongs to it: its `init`, its
//! connections, its calls, and the tasks that they spawn.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use super::serving;
use crate::connection::{
    ExitReason, FailureLookup, FailureReport, InFlight, MAX_IN_PROGRESS, Owner, Task,
    WorkerFailure, belong_to, drop_silently, task,
};
use crate::launch::{Children, block_on, start_thread};
use crate::wire::{PanicReport, WorkerId, WorkerLabel};
use crate::worker::Servers;

/// How long the end of a server may come after the end of a connection to it.
const FAILURE_LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that has a thread of its own.
pub(super) struct DedicatedThread {
    id: WorkerId,
    label: WorkerLabel,
    began: Instant,
    runtime: Handle,
    stop_signal: Arc<StopSignal>,
    /// How many of its connections and listeners there are.
    tasks: watch::Sender<usize>,
    /// The connections of this process to it.
    callers: Mutex<Vec<InFlight>>,
    end: watch::Sender<Option<End>>,
}

/// What ends the thread.
#[derive(Default)]
struct StopSignal {
    /// The first panic that nobody handles.
    panic: OnceLock<PanicReport>,
    stop: Notify,
}

#[derive(Clone)]
enum End {
    InOrder,
    Failed(WorkerFailure),
}

/// Keeps a server's thread: dropped, it ends the server.
pub(super) struct ThreadGuard(Arc<DedicatedThread>);

impl DedicatedThread {
    /// Starts a thread for a server.
    pub(super) async fn begin(id: WorkerId, label: WorkerLabel) -> io::Result<ThreadGuard> {
        let (tell, told) = oneshot::channel();
        let run = move || {
            let stop_signal = Arc::<StopSignal>::default();
            let owner = stop_signal.clone().owner();
            let runtime = match build(owner.clone()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let thread = Arc::new(Self {
                id,
                label,
                began: Instant::now(),
                runtime: runtime.handle().clone(),
                stop_signal,
                tasks: watch::Sender::new(0),
                callers: Mutex::default(),
                end: watch::Sender::new(None),
            });
            belong_to(owner);
            // Who is not there any more drops it, and so ends it.
            let _ = tell.send(Ok(ThreadGuard(thread.clone())));
            thread.run(runtime);
        };
        start_thread("rpc-parallel server", Box::new(run))?;
        told.await.unwrap_or_else(|_| unreachable!("the thread tells before it ends"))
    }

    /// Lets the tasks of the server run until it is to end, and ends it.
    fn run(&self, runtime: Runtime) {
        block_on(&runtime, pin!(self.stop_signal.stop.notified()));
        let end = match self.stop_signal.panic.get() {
            Some(panic) => End::Failed(self.failure_by(panic.clone())),
            None => End::InOrder,
        };
        if let End::Failed(failure) = &end {
            Children::get().remember(failure.clone());
        }
        // Connections that break find the reason there.
        self.end.send_replace(Some(end));
        serving::forget(self.id);
        drop_silently(|| {
            // What blocks now goes on, and nobody can end it.
            runtime.shutdown_background();
            Servers::get().remove(self.id);
        });
    }

    fn failure_by(&self, panic: PanicReport) -> WorkerFailure {
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
            uptime: self.began.elapsed(),
            stderr: Vec::new(),
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Has one of its connections or listeners run.
    pub(super) fn spawn(self: &Arc<Self>, connection: Task) {
        self.tasks.send_modify(|it| *it += 1);
        let counted = Counted(self.clone());
        self.runtime.spawn(task(async move {
            connection.await;
            drop(counted);
        }));
    }

    /// Has the server end when it is closed and its last connection is gone.
    pub(super) fn end_when_idle(self: &Arc<Self>) {
        let thread = self.clone();
        // It ends with the thread.
        self.runtime.spawn(task(async move {
            Servers::get().closed(thread.id).await;
            let mut tasks = thread.tasks.subscribe();
            let _ = tasks.wait_for(|it| *it == 0).await;
            thread.stop_signal.stop.notify_one();
        }));
    }

    /// Remembers a connection of this process to the server, for its failure report.
    pub(super) fn note_caller(&self, caller: InFlight) {
        let mut callers = self.callers();
        callers.retain(|it| !it.is_over());
        callers.push(caller);
    }

    /// Returns what will tell how the server ended.
    pub(super) fn failure_lookup(&self) -> FailureLookup {
        let ended = failure(self.end.subscribe());
        Box::pin(async move { timeout(FAILURE_LOOKUP_TIMEOUT, ended).await.ok()? })
    }

    fn callers(&self) -> MutexGuard<'_, Vec<InFlight>> {
        self.callers.lock().expect("nobody panics while holding this lock")
    }
}

fn build(owner: Owner) -> io::Result<Runtime> {
    // Those threads are for what blocks: the tasks run on the thread that waits for its end.
    let mine = move || belong_to(owner.clone());
    let mut builder = Builder::new_current_thread();
    builder.enable_all().thread_name("rpc-parallel server").on_thread_start(mine).build()
}

/// Waits until a server has ended, and returns how it failed, if it did.
async fn failure(mut end: watch::Receiver<Option<End>>) -> Option<WorkerFailure> {
    match end.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(End::Failed(failure))) => Some(failure.clone()),
        _ => None,
    }
}

impl StopSignal {
    /// Returns who is told of panics, in the midst of them.
    fn owner(self: Arc<Self>) -> Owner {
        Arc::new(move |panic| {
            // Only the first one ends anything.
            let _ = self.panic.set(panic);
            self.stop.notify_one();
        })
    }
}

/// One connection or listener, as long as it lasts.
struct Counted(Arc<DedicatedThread>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|it| *it -= 1);
    }
}

impl ThreadGuard {
    pub(super) fn thread(&self) -> &Arc<DedicatedThread> {
        &self.0
    }

    /// Ends the server, if it has not ended.
    pub(super) fn end(&self) {
        self.0.stop_signal.stop.notify_one();
    }

    /// Waits until the server has ended, and returns how it failed, if it did.
    pub(super) async fn failure(&self) -> Option<WorkerFailure> {
        failure(self.0.end.subscribe()).await
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        self.end();
    }
}
