//! The log of a worker, as who asked for it reads it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::backlog::{Backlog, Follower};
use super::forward::Forwarding;
use super::layer::warn_unless_kept;
use super::record::LogItem;
use crate::connection::{Client, Pipe, PipeError, Reading};
use crate::wire::WorkerLabel;

/// What a worker logs, from its `init` on: a [`Stream`] of `Result<LogItem, PipeError>`.
///
/// It begins with what the worker's process has kept: the latest 1024 records, or 512 KiB of them. It goes on
/// until the worker ends, and its last element is the error that says how. Any number of readers may
/// ask for logs, in any process. One that does not read loses records, and is told
/// [how many](LogItem::Lagged); it holds up neither the worker nor other readers.
///
/// Like a [`Pipe`] it keeps the connection open over which it comes, and so a worker that lives as
/// long as that; see [`without_keeping_alive`](Self::without_keeping_alive). It can be sent to
/// another process, too.
#[derive(Serialize, Deserialize)]
#[must_use = "logs are there to be read, or forwarded"]
pub struct Logs {
    worker: WorkerLabel,
    pipe: Pipe<LogItem>,
    #[serde(skip, default = "State::of_reader")]
    state: State,
}

/// What a reader adds.
#[derive(Default)]
struct State {
    /// How many records have been read or lost.
    seen: u64,
    /// If it has come to somebody who reads.
    _reading: Option<Reading>,
    /// A connection that was made for this alone.
    own: Option<Client>,
}

impl State {
    fn of_reader() -> Self {
        Self { _reading: Some(Reading::begin()), ..Self::default() }
    }
}

impl Logs {
    /// Returns the next record, or how many are lost, or how the worker has ended; `None` after that.
    ///
    /// An error of one record that is too large for a message is not the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<LogItem, PipeError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Returns the name, type, process and host of the worker that was asked.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        &self.worker
    }

    /// Lets the connection end although its logs are still read: with its last client, call and pipe.
    ///
    /// For tasks that read logs beside the program's own work.
    pub fn without_keeping_alive(mut self) -> Self {
        drop(self.pipe.let_go());
        self
    }

    /// Has this process log what comes here: each record becomes an event, as with
    /// [`logs::forward`](super::forward).
    ///
    /// Other than there it is about one process of the worker: where that is restarted, this ends
    /// with the first one. Logs that a client was asked for keep no connection open from now on;
    /// those of a handle have one of their own, and keep it open until the worker ends or
    /// [`stop`](Forwarding::stop) is called.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn forward(mut self) -> Forwarding {
        let client = self.pipe.let_go().or_else(|| self.state.own.clone());
        let weak = client.as_ref().map(Client::downgrade);
        // It may have been the last: then the logs end here.
        drop(client);
        Forwarding::start(self, weak)
    }

    /// Has the logs hold a connection that was made for them alone, also while they are forwarded.
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

/// Returns the log of this process, for who has asked a worker in it.
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

/// Returns how many records this process has logged.
pub(in crate::worker) fn count() -> u64 {
    Backlog::get().count()
}
