//! Forwards the logs of a worker to the `tracing` subscriber of this process.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::field::display;
use tracing::{Level, Span, event};

use super::forwarded::{Forwarded, TARGET};
use super::record::{LogItem, LogRecord};
use super::stream::Logs;
use crate::connection::{CallError, CallErrorKind, Client, PipeErrorKind, WeakClient, process};
use crate::worker::WorkerClient;
use crate::worker::builtin::{ask_for_count, ask_for_logs};

/// Forwards the logs of a worker: each record becomes a `tracing` event of this process.
///
/// ```
/// # use rpc_parallel_runtime as rpc_parallel;
/// use rpc_parallel::{CallError, WorkerClient, logs};
///
/// async fn forward_logs<C: WorkerClient>(client: &C) -> Result<(), CallError> {
///     logs::forward(client).await?;
///     Ok(())
/// }
/// ```
///
/// The event has the level and the message of the record. Its parent is the span in which this
/// process made the call that logged the record, directly or through other workers. The target is
/// `rpc_parallel::worker`. The field `worker` names the worker; `target`, `spans`, `fields`, `file`
/// and `line` are those of the record. Lost records are reported by a warning.
///
/// While logs are forwarded, the span of a call stays open for up to 2 s after the call, because
/// records may arrive later than the answer. If the worker is [restarted](crate::RestartPolicy),
/// forwarding continues with its next process. Records of this process itself are not forwarded.
///
/// A background task forwards the logs. It keeps no connection open, and ends with the last client
/// of the connection. Records that are in flight at that time are lost; to wait for them, call
/// [`Forwarding::flush`] before.
///
/// # Errors
///
/// The call that requests the logs fails.
///
/// # Panics
///
/// Panics outside of a tokio runtime.
pub async fn forward<C: WorkerClient>(client: &C) -> Result<Forwarding, CallError> {
    let client = client.client();
    let logs = ask_for_logs(client).await?.without_keeping_alive();
    Ok(Forwarding::start(logs, Some(client.downgrade())))
}

impl Logs {
    /// Forwards the remaining logs: each record becomes a `tracing` event of this process, as with
    /// [`logs::forward`](super::forward()).
    ///
    /// In contrast to that function, forwarding ends with the current process of the worker, even
    /// if the worker is restarted. Logs from a client no longer keep its connection open. Logs from
    /// a [`Worker`](crate::Worker) handle have a connection of their own, and keep it open until
    /// the worker ends or [`stop`](Forwarding::stop) is called.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn forward(mut self) -> Forwarding {
        let client = self.release_client();
        let weak = client.as_ref().map(Client::downgrade);
        // If this was the last client, the connection ends here.
        drop(client);
        Forwarding::start(self, weak)
    }
}

/// A handle to the task that forwards the logs of one worker.
///
/// Dropping the handle does not stop the task.
pub struct Forwarding {
    /// The task owns the sender.
    progress: watch::Receiver<Progress>,
    client: Option<Arc<WeakClient>>,
    task: AbortHandle,
}

/// The progress of forwarding.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// The number of processes of the worker before the current one.
    process: u64,
    /// The number of records of the current process that were forwarded or lost.
    seen: u64,
}

impl Forwarding {
    fn start(logs: Logs, client: Option<WeakClient>) -> Self {
        let client = client.map(Arc::new);
        let (sender, progress) = watch::channel(Progress::default());
        // The task ends with the connection, and with the connections that replace it.
        let task = tokio::spawn(run(logs, client.clone(), sender)).abort_handle();
        Self { progress, client, task }
    }

    /// Waits until all records that the worker has logged so far are forwarded.
    ///
    /// Call it, for example, before the program ends or drops its last client. Records that the
    /// worker itself forwards from other workers are included if they have arrived at the worker.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future has no effect.
    pub async fn flush(&self) {
        let Progress { process, .. } = *self.progress.borrow();
        let so_far = match self.client.as_ref().and_then(|it| it.upgrade()) {
            Some(client) => ask_for_count(&client).await.ok(),
            None => None,
        };
        // If the connection is lost, wait until the task has ended.
        let so_far = so_far.unwrap_or(u64::MAX);
        let arrived = |it: &Progress| it.process > process || it.seen >= so_far;
        let _ = self.progress.clone().wait_for(arrived).await;
    }

    /// Stops forwarding. Records that were not forwarded are lost.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("seen", &self.progress.borrow().seen)
            .field("is_finished", &self.task.is_finished())
            .finish_non_exhaustive()
    }
}

async fn run(mut logs: Logs, client: Option<Arc<WeakClient>>, progress: watch::Sender<Progress>) {
    while log_all(&mut logs, &progress).await == Next::MayFollow
        && let Some(next) = logs_of_next_process(client.as_deref()).await
    {
        logs = next;
        progress.send_modify(|it| *it = Progress { process: it.process + 1, seen: 0 });
    }
}

/// Whether the logs of another process may follow those of one process of a worker.
#[derive(PartialEq)]
enum Next {
    /// The process has ended or its connection is lost, so the worker may be restarted.
    MayFollow,
    Nothing,
}

/// Forwards all records of one process of the worker.
async fn log_all(logs: &mut Logs, progress: &watch::Sender<Progress>) -> Next {
    let mut next = Next::Nothing;
    while let Some(item) = logs.next().await {
        match item {
            // Forwarding the records of this process would be an endless loop.
            Ok(LogItem::Record(record)) if record.process == process() => {}
            Ok(LogItem::Record(record)) => log(*record),
            Ok(LogItem::Lagged(lost)) => warn_of_lost(logs, lost, None),
            Err(error) => match error.kind() {
                why @ (PipeErrorKind::TooLarge(_) | PipeErrorKind::Unencodable { .. }) => {
                    warn_of_lost(logs, 1, Some(why));
                }
                PipeErrorKind::WorkerDied(_) | PipeErrorKind::ConnectionLost { .. } => {
                    next = Next::MayFollow;
                }
                // The end of the worker is reported elsewhere.
                _ => {}
            },
        }
        progress.send_modify(|it| it.seen = logs.seen());
    }
    next
}

fn warn_of_lost(logs: &Logs, lost: u64, why: Option<&PipeErrorKind>) {
    let (worker, why) = (logs.worker(), why.map(display));
    event!(
        target: TARGET,
        parent: None,
        Level::WARN,
        %worker,
        lost,
        why,
        "log records are lost"
    );
}

/// Waits for the next process of a worker that is restarted, and requests its logs.
async fn logs_of_next_process(client: Option<&WeakClient>) -> Option<Logs> {
    loop {
        // No client is held while waiting, because it would keep the connection open.
        let settled = client?.upgrade()?.settled()?;
        settled.await;
        let client = client?.upgrade()?;
        if client.is_closed() {
            return None;
        }
        match ask_for_logs(&client).await {
            Ok(logs) => return Some(logs.without_keeping_alive()),
            Err(error) => match error.kind() {
                CallErrorKind::WorkerDied(_) | CallErrorKind::ConnectionLost { .. } => {}
                _ => return None,
            },
        }
    }
}

/// Emits an event for a record.
fn log(record: LogRecord) {
    let caller = record.caller();
    let parent = || caller.as_ref().and_then(Span::id);
    let LogRecord { level, ref message, ref target, ref file, line, .. } = record;
    let worker = record.worker_and_pid();
    let (spans, fields) = (record.shown_spans(), record.shown_fields());

    // The level of an event must be a constant, so there is one `event!` for each level.
    macro_rules! log_at {
        ($level:ident) => {
            event!(
                target: TARGET,
                parent: parent(),
                Level::$level,
                message = %message,
                worker,
                target = &**target,
                spans = spans.as_deref(),
                fields = fields.as_deref(),
                file = file.as_deref(),
                line,
            )
        };
    }

    let _forwarded = Forwarded::begin(record.clone());
    match level {
        Level::ERROR => log_at!(ERROR),
        Level::WARN => log_at!(WARN),
        Level::INFO => log_at!(INFO),
        Level::DEBUG => log_at!(DEBUG),
        Level::TRACE => log_at!(TRACE),
    }
}
