//! The logs of a worker as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::backlog::{Backlog, Follower};
use super::layer::warn_unless_kept;
use super::record::LogItem;
use crate::connection::{Client, Pipe, PipeError, Reading};
use crate::wire::WorkerLabel;

/// The logs of a worker, from its `init` on: a [`Stream`] of `Result<LogItem, PipeError>`.
///
/// The stream begins with the records that the worker's process has kept: the latest 1024, or 512
/// KiB of records. It continues until the worker ends. Its last element is an error with the reason
/// of the end. Any number of readers, in any process, can read the logs of a worker. A reader that
/// is too slow loses records, and receives [their number](LogItem::Lagged). It delays neither the
/// worker nor other readers.
///
/// Like a [`Pipe`], the stream keeps its connection open, and thereby keeps alive a worker that
/// ends with this connection. [`without_keeping_alive`](Self::without_keeping_alive) changes this.
/// Like a pipe, the stream can be sent to another process.
///
/// ```
/// # use rpc_parallel_runtime as rpc_parallel;
/// use rpc_parallel::logs::{LogItem, Logs};
///
/// async fn print_errors(mut logs: Logs) {
///     while let Some(item) = logs.next().await {
///         match item {
///             Ok(LogItem::Record(record)) if record.level() == tracing::Level::ERROR => {
///                 println!("{record}");
///             }
///             Ok(LogItem::Record(_)) => {}
///             Ok(LogItem::Lagged(count)) => println!("lost {count} records"),
///             Err(error) => println!("{error}"),
///         }
///     }
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[must_use = "logs do nothing unless they are read or forwarded"]
pub struct Logs {
    worker: WorkerLabel,
    pipe: Pipe<LogItem>,
    #[serde(skip, default = "State::of_reader")]
    state: State,
}

/// The state of a reader, which does not travel.
#[derive(Default)]
struct State {
    /// The number of records that were read or lost.
    seen: u64,
    /// Keeps the callers' spans of this process open while it reads logs. `None` in the process
    /// that sends the logs.
    _reading: Option<Reading>,
    /// A connection that was opened only for these logs.
    own: Option<Client>,
}

impl State {
    fn of_reader() -> Self {
        Self { _reading: Some(Reading::begin()), ..Self::default() }
    }
}

impl Logs {
    /// Returns the next item: a record, or the number of lost records.
    ///
    /// Returns `None` after the error that reports the end of the worker.
    ///
    /// # Errors
    ///
    /// A record is too large for a message or cannot be encoded, or the worker or its connection
    /// has ended. After an error for a single record the stream continues.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future loses no item.
    pub async fn next(&mut self) -> Option<Result<LogItem, PipeError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Returns the name, type, process id and host of the worker whose logs these are.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.worker
    }

    /// Returns these logs as a stream that does not keep the connection open: the connection ends
    /// with its last client, call and pipe, even while the logs are read.
    ///
    /// This is for background tasks that read logs.
    pub fn without_keeping_alive(mut self) -> Self {
        drop(Client::held_by(&mut self.pipe));
        self
    }

    /// Stops keeping the connection open, unless these logs own it. Returns the client of the
    /// connection that was kept open, if any.
    pub(super) fn release_client(&mut self) -> Option<Client> {
        Client::held_by(&mut self.pipe).or_else(|| self.state.own.clone())
    }

    /// Sets the connection that was opened only for these logs. The logs own it.
    pub(crate) fn over_its_own(mut self, connection: Client) -> Self {
        self.state.own = Some(connection);
        self
    }

    pub(super) fn seen(&self) -> u64 {
        self.state.seen
    }
}

impl Stream for Logs {
    type Item = Result<LogItem, PipeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { worker, pipe, state } = self.get_mut();
        let polled = Pin::new(pipe).poll_next(cx);
        polled.map(|next| {
            next.map(|item| match item {
                Ok(LogItem::Record(mut record)) => {
                    state.seen += 1;
                    record.worker.get_or_insert_with(|| worker.clone());
                    Ok(LogItem::Record(record))
                }
                Ok(LogItem::Lagged(lost)) => {
                    state.seen += lost;
                    Ok(LogItem::Lagged(lost))
                }
                Err(error) => {
                    state.seen += 1;
                    Err(error)
                }
            })
        })
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("worker", &self.worker.to_string()).finish_non_exhaustive()
    }
}

/// Returns the logs of this process, for a caller of a worker in it.
pub(in crate::worker) fn logs_of(worker: &WorkerLabel) -> Logs {
    struct Following(Follower);

    impl Stream for Following {
        type Item = LogItem;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LogItem>> {
            self.0.poll_next(cx).map(Some)
        }
    }

    warn_unless_kept();
    let pipe = Pipe::from_stream(Following(Backlog::get().follow()));
    Logs { worker: worker.clone(), pipe, state: State::default() }
}

/// Returns the number of records that this process has logged.
pub(in crate::worker) fn count() -> u64 {
    Backlog::get().count()
}
