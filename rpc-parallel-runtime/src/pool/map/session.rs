//! The part of a map that runs in one worker, as the master sees it: orders out, reports in.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Sleep, sleep};

use super::ready::SlotWaker;
use crate::connection::{
    Call, CallError, CallErrorKind, Pipe, PipeWriter, TrySendError, WorkerFailure,
};
use crate::master::ConnectErrorKind;
use crate::pool::engine::WorkerKey;
use crate::pool::member::Member;
use crate::worker::items::{MapRequest, Report};
use crate::worker::map_items;

/// The flow-control window of each pipe, in bytes. It exceeds what the engine lets a worker have.
const WINDOW: usize = 4 << 20;

/// A session with one worker.
pub(super) struct Session {
    pub(super) member: Arc<Member>,
    pub(super) key: WorkerKey,
    pub(super) slot: SlotWaker,
    state: State,
    /// Orders for which the pipe had no room.
    unsent: VecDeque<Bytes>,
    lost: Option<Lost>,
    /// Since when the worker has items and has sent nothing.
    silent_since: Option<Instant>,
}

/// The death of the worker.
struct Lost {
    failure: WorkerFailure,
    /// The end of the time for reading what the worker has sent. The connection ends later if a
    /// process that the worker has forked keeps it open.
    limit: Pin<Box<Sleep>>,
}

/// How long reports are read after the death of a worker.
const LAST_REPORTS: Duration = Duration::from_millis(500);

enum State {
    /// The items connection is being opened.
    Opening(Pin<Box<dyn Future<Output = Result<Call<()>, SessionError>> + Send>>, Ends),
    Open(Box<Open>),
    /// The worker ends, or is killed.
    Broken,
}

/// A session that has begun.
struct Open {
    /// The call that lasts as long as the session.
    call: Call<()>,
    /// The answer of the call, if it has one.
    answer: Option<Result<(), CallError>>,
    ends: Ends,
}

/// The master's ends of the pipes.
struct Ends {
    orders: Arc<PipeWriter<Bytes>>,
    reports: Pipe<Bytes>,
    /// An order that waits for room.
    sending: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What happens in a session.
pub(super) enum SessionEvent {
    /// The worker takes orders.
    Opened,
    Report(Report),
    /// The session is over. The worker has died, or must be killed.
    Broken(SessionError),
    /// No worker of the pool can run the map.
    Refused {
        why: String,
    },
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the worker has died")]
    WorkerDied,
    #[error("failed to open its connection for the items of maps: {0}")]
    NotOpened(String),
    #[error("its connection for the items of maps failed: {0}")]
    Lost(String),
    #[error("it sent a malformed report: {0}")]
    Malformed(String),
    #[error("it stopped sending the results of a map")]
    Ended,
}

impl SessionError {
    fn of_connecting(kind: ConnectErrorKind) -> Self {
        match kind {
            ConnectErrorKind::WorkerDied(_) => Self::WorkerDied,
            kind => Self::NotOpened(kind.to_string()),
        }
    }

    fn of_call(error: &CallError) -> Self {
        match error.kind() {
            CallErrorKind::WorkerDied(_) => Self::WorkerDied,
            CallErrorKind::ConnectionLost { why } => Self::Lost(why.clone()),
            _ => Self::Lost(error.to_string()),
        }
    }
}

impl Session {
    pub(super) fn open(
        member: Arc<Member>,
        key: WorkerKey,
        slot: SlotWaker,
        request: MapRequest,
    ) -> Self {
        let (orders, read_orders) = Pipe::pair();
        let (write_reports, reports) = Pipe::pair();
        let (read_orders, write_reports) =
            (read_orders.with_window(WINDOW), write_reports.with_window(WINDOW));
        let opened = member.clone();
        let opening = Box::pin(async move {
            let client = opened.items_client().await;
            let client = client.map_err(SessionError::of_connecting)?;
            // A deadline of the function in which the map was made drops the map itself.
            let call = map_items(&client, &request, &read_orders, &write_reports);
            Ok(call.without_inherited_deadline())
        });
        let ends = Ends { orders: Arc::new(orders), reports, sending: None };
        let state = State::Opening(opening, ends);
        Self { member, key, slot, state, unsent: VecDeque::new(), lost: None, silent_since: None }
    }

    /// Sends an order.
    pub(super) fn send(&mut self, order: Bytes) {
        self.unsent.push_back(order);
        self.slot.waker().wake();
    }

    /// Records that the worker has sent a report, or has no items.
    pub(super) fn heard(&mut self) {
        self.silent_since = None;
    }

    /// Returns for how long the worker has sent nothing, counted from the first call since then.
    pub(super) fn silence(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.silent_since.get_or_insert(now))
    }

    /// Records the death of the worker. Its last reports are still read.
    pub(super) fn worker_lost(&mut self, failure: WorkerFailure) {
        self.lost = Some(Lost { failure, limit: Box::pin(sleep(LAST_REPORTS)) });
        self.slot.waker().wake();
    }

    /// Returns the failure report if the worker has died and all its reports were read.
    pub(super) fn failure(&self) -> Option<WorkerFailure> {
        match (&self.state, &self.lost) {
            (State::Broken, Some(lost)) => Some(lost.failure.clone()),
            _ => None,
        }
    }

    /// Returns the next event. After `Broken` and `Refused` there are none.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<SessionEvent> {
        let event = self.poll_state(cx);
        if event.is_pending()
            && !matches!(self.state, State::Broken)
            && let Some(lost) = &mut self.lost
            && lost.limit.as_mut().poll(cx).is_ready()
        {
            return self.broken(SessionError::Ended);
        }
        event
    }

    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<SessionEvent> {
        match &mut self.state {
            State::Broken => Poll::Pending,
            State::Opening(opening, _) => match ready!(opening.as_mut().poll(cx)) {
                Ok(call) => {
                    let State::Opening(_, ends) = std::mem::replace(&mut self.state, State::Broken)
                    else {
                        unreachable!("the state is `Opening`")
                    };
                    self.state = State::Open(Box::new(Open { call, answer: None, ends }));
                    Poll::Ready(SessionEvent::Opened)
                }
                Err(error) => self.broken(error),
            },
            State::Open(open) => {
                let Open { call, answer, ends } = &mut **open;
                // The first poll sends the call.
                if answer.is_none()
                    && let Poll::Ready(answered) = Pin::new(call).poll(cx)
                {
                    *answer = Some(answered);
                }
                ends.poll_send(&mut self.unsent, cx);
                // What the worker has sent before the session ended is read to its end.
                match Pin::new(&mut ends.reports).poll_next(cx) {
                    Poll::Ready(Some(Ok(message))) => match Report::decode(message) {
                        Ok(report) => Poll::Ready(SessionEvent::Report(report)),
                        Err(error) => self.broken(SessionError::Malformed(error.to_string())),
                    },
                    Poll::Pending | Poll::Ready(Some(Err(_)) | None) => match answer.take() {
                        Some(answer) => self.ended(answer),
                        None => Poll::Pending,
                    },
                }
            }
        }
    }

    /// Returns the event for the end of the session, after all reports were read.
    fn ended(&mut self, answer: Result<(), CallError>) -> Poll<SessionEvent> {
        match answer {
            Ok(()) => self.broken(SessionError::Ended),
            Err(error) if says_that_map_cannot_run(error.kind()) => {
                self.state = State::Broken;
                Poll::Ready(SessionEvent::Refused { why: error.to_string() })
            }
            Err(error) => self.broken(SessionError::of_call(&error)),
        }
    }

    fn broken(&mut self, error: SessionError) -> Poll<SessionEvent> {
        self.state = State::Broken;
        Poll::Ready(SessionEvent::Broken(error))
    }

    /// Ends the session, and waits until no code of the user runs for it any more.
    pub(super) async fn close(self) {
        let State::Open(open) = self.state else { return };
        let Open { call, answer: None, ends } = *open else { return };
        drop(ends);
        let _ = call.await;
    }
}

impl Ends {
    /// Sends as many orders as there is room for.
    fn poll_send(&mut self, unsent: &mut VecDeque<Bytes>, cx: &mut Context<'_>) {
        loop {
            if let Some(sending) = &mut self.sending {
                if sending.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.sending = None;
            }
            let Some(order) = unsent.pop_front() else { return };
            match self.orders.try_send(order) {
                Ok(()) => {}
                Err(TrySendError::Full(order)) => {
                    let orders = self.orders.clone();
                    self.sending = Some(Box::pin(async move {
                        // An error also ends the pipe of reports.
                        let _ = orders.send(order).await;
                    }));
                }
                // The pipe of reports ends as well.
                Err(TrySendError::Failed(_)) => return,
            }
        }
    }
}

/// Returns whether an error is not the fault of one process: every worker of the pool would answer
/// the same.
fn says_that_map_cannot_run(kind: &CallErrorKind) -> bool {
    matches!(
        kind,
        CallErrorKind::UnknownFunction { .. }
            | CallErrorKind::Panicked(_)
            | CallErrorKind::Undecodable { .. }
    )
}
