//! Has this process log what a worker logs.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::field::display;
use tracing::{Level, Metadata, Span, event};

use super::record::{LogItem, LogRecord};
use super::stream::Logs;
use crate::connection::{CallError, CallErrorKind, PipeErrorKind, WeakClient, process};
use crate::worker::WorkerClient;
use crate::worker::builtin::{ask_for_count, ask_for_logs};

/// The target of what is logged here for workers.
const TARGET: &str = "rpc_parallel::worker";

thread_local! {
    /// The record that is being logged here.
    static FORWARDED: RefCell<Option<LogRecord>> = const { RefCell::new(None) };
}

/// Has this process log what a worker logs: each record becomes an event for this process's
/// subscriber.
///
/// ```text
/// rpc_parallel::logs::forward(&client).await?;
/// ```
///
/// The event has the record's level and message, and its parent is the span in which this process
/// made the call that has logged it, also where other workers were called between. Its target is
/// `rpc_parallel::worker`; `worker` names the worker, `target`, `spans`, `fields`, `file` and `line`
/// hold what the record says. That records are lost is a warning.
///
/// The span in which a call is made stays open for up to 2 seconds after the call while logs are
/// forwarded, for what is logged may come later than the answer. The task that forwards ends with
/// the last client, and keeps no connection open: what is on its way then does not arrive, see
/// [`Forwarding::flush`]. Where the worker is [restarted](crate::RestartPolicy), it goes on with the next
/// process. What this process itself has logged is not forwarded.
///
/// # Errors
///
/// The worker cannot be asked.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn forward<C: WorkerClient>(client: &C) -> Result<Forwarding, CallError> {
    let client = client.client();
    let logs = ask_for_logs(client).await?.without_keeping_alive();
    Ok(Forwarding::start(logs, Some(client.downgrade())))
}

/// The task that forwards the logs of one worker. Dropping this changes nothing.
pub struct Forwarding {
    /// Its sender goes with the task.
    progress: watch::Receiver<Progress>,
    client: Option<Arc<WeakClient>>,
    task: AbortHandle,
}

/// How much has been forwarded.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// How many processes the worker has had before this one.
    process: u64,
    /// How many records of this one have been forwarded or lost.
    seen: u64,
}

impl Forwarding {
    pub(super) fn start(logs: Logs, client: Option<WeakClient>) -> Self {
        let client = client.map(Arc::new);
        let (sender, progress) = watch::channel(Progress::default());
        // It ends with the connection, and with those that replace it.
        let task = tokio::spawn(run(logs, client.clone(), sender)).abort_handle();
        Self { progress, client, task }
    }

    /// Waits until all that the worker has logged so far is logged here: before a program ends, for
    /// instance, or lets go of its last client.
    ///
    /// What the worker itself forwards counts once it has arrived there.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn flush(&self) {
        let Progress { process, .. } = *self.progress.borrow();
        let so_far = match self.client.as_ref().and_then(|it| it.upgrade()) {
            Some(client) => ask_for_count(&client).await.ok(),
            None => None,
        };
        // Where the connection is lost, what comes is all that there will be.
        let so_far = so_far.unwrap_or(u64::MAX);
        let arrived = |it: &Progress| it.process > process || it.seen >= so_far;
        let _ = self.progress.clone().wait_for(arrived).await;
    }

    /// Ends it.
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
    while log_all(&mut logs, &progress).await == Next::MayCome
        && let Some(next) = log_of_next(client.as_deref()).await
    {
        logs = next;
        progress.send_modify(|it| *it = Progress { process: it.process + 1, seen: 0 });
    }
}

/// What comes after the log of a process.
#[derive(PartialEq)]
enum Next {
    /// That of another process, if the worker is restarted.
    MayCome,
    Nothing,
}

/// Logs all that a process of the worker logs.
async fn log_all(logs: &mut Logs, progress: &watch::Sender<Progress>) -> Next {
    let mut next = Next::Nothing;
    while let Some(item) = logs.next().await {
        match item {
            // It would go round for ever.
            Ok(LogItem::Record(record)) if record.process == process() => {}
            Ok(LogItem::Record(record)) => log(*record),
            Ok(LogItem::Lagged(lost)) => warn_of_lost(logs, lost, None),
            Err(error) => match error.kind() {
                why @ (PipeErrorKind::TooLarge(_) | PipeErrorKind::Unencodable { .. }) => {
                    warn_of_lost(logs, 1, Some(why));
                }
                PipeErrorKind::WorkerDied(_) | PipeErrorKind::ConnectionLost { .. } => {
                    next = Next::MayCome;
                }
                // The end of a worker is told to others.
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
        "records of its log are lost"
    );
}

/// Waits for the next process of a worker that is restarted, and asks for its log.
async fn log_of_next(client: Option<&WeakClient>) -> Option<Logs> {
    loop {
        // Nobody is held while it is waited for.
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

/// Logs a record in this process.
fn log(record: LogRecord) {
    let caller = record.caller();
    let parent = || caller.as_ref().and_then(Span::id);
    let LogRecord { level, ref message, ref target, ref file, line, .. } = record;
    let (worker, spans, fields) = (record.place(), record.shown_spans(), record.shown_fields());

    // What describes an event is made by the compiler: there is one description for each level.
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

/// While it is there, what is logged on this thread for a worker is this record.
struct Forwarded;

impl Forwarded {
    fn begin(record: LogRecord) -> Self {
        FORWARDED.set(Some(record));
        Self
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        FORWARDED.set(None);
    }
}

/// Takes the record that an event was made of, if it was made so.
pub(super) fn forwarded(metadata: &Metadata<'_>) -> Option<LogRecord> {
    if metadata.target() != TARGET {
        return None;
    }
    FORWARDED.with_borrow_mut(Option::take)
}
