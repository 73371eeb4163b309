//! The end of a connection that answers, and the task that drives it.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task;
use tokio::time::Instant;

use super::answering::Session;
use super::any_error::AnyError;
use super::calls::{Arrived, Calls};
use super::failure::Loss;
use super::inbox::Inbox;
use super::one_way::OneWayLane;
use super::opening::Opening;
use super::outbox::{WriteError, Writing};
use super::shared::{Connection, Peer};
use super::spans::Callers;
use super::traffic::CountedConnection;
use crate::transport::{Fault, Reader};
use crate::wire::{Frame, FrameError, FrameWriter};

/// How long an answer may wait for others to leave with.
const GATHERING: Duration = Duration::from_micros(50);

/// How many bytes are received ahead of the calls that are begun.
pub(super) const AHEAD: usize = 1024 * 1024;

/// Answers the calls of one connection until its peer ends it.
///
/// Dropped, it drops the calls that still run.
pub(crate) struct Serving {
    session: Arc<dyn Session>,
    reader: Box<dyn Reader>,
    inbox: Inbox,
    writing: Writing,
    calls: Calls,
    /// Where one-way calls go, on several threads.
    one_way: Option<OneWayLane>,
    /// Those whom the frames at hand concern.
    wakers: Vec<Waker>,
    /// It has been seen to end, in this way.
    ended: Option<Result<(), ServingError>>,
    end: End,
    _counted: Option<CountedConnection>,
}

/// The driver's hold on the connection: when it ends, so do the streams.
struct End(Arc<Connection>);

impl Drop for End {
    fn drop(&mut self) {
        let why = "the process that called has closed the connection";
        self.0.lose(&Arc::new(Loss::Broken(why.to_owned())));
        self.0.outbox.end();
    }
}

/// All that can happen to the connection; nothing else wakes the driver.
enum Event {
    Received,
    Ended(Result<(), ServingError>),
}

/// A connection ended in another way than that its peer closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServingError {
    #[error("the caller broke the protocol")]
    Protocol(#[from] FrameError),
    #[error("failed to read from the caller")]
    Read(#[source] io::Error),
    #[error("failed to write to the caller")]
    Write(#[source] io::Error),
}

impl ServingError {
    /// Says whether the socket of this process failed, which is not the caller's fault.
    pub(crate) fn is_of_socket(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Write(_))
    }

    /// Says how a connection ends whose reader failed.
    fn of_read(error: io::Error) -> Result<(), Self> {
        if Fault::of(&error) == Fault::PeerGone { Ok(()) } else { Err(Self::Read(error)) }
    }
}

impl Serving {
    /// Welcomes the peer of a connection that has been asked for.
    pub(crate) fn welcome(opening: Opening, session: Arc<dyn Session>) -> Self {
        let Opening { reader, mut inbox, outbox, mut writing, settings } = opening;
        inbox.note_arrivals();
        FrameWriter::welcome(writing.buffer()).finish();
        let end = End(Arc::new(Connection::new(Peer::Caller, settings, outbox)));
        let counted = session.is_counted().then(|| end.0.traffic().connection_opens());
        let calls = Calls::default();
        let (one_way, wakers, ended) = (None, Vec::new(), None);
        Self {
            session,
            reader,
            inbox,
            writing,
            calls,
            one_way,
            wakers,
            ended,
            end,
            _counted: counted,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn connection(&self) -> Arc<Connection> {
        self.end.0.clone()
    }

    /// Answers calls until the peer is gone.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol, or the socket failed. The connection has ended in both cases, and
    /// its streams with this error.
    pub(crate) async fn run(mut self) -> Result<(), ServingError> {
        let ended = self.serve().await;
        if let Err(error) = &ended {
            let why = AnyError::of(error).to_string();
            self.end.0.lose(&Arc::new(Loss::Broken(why)));
        }
        ended
    }

    async fn serve(&mut self) -> Result<(), ServingError> {
        // On one thread a function that is ready at once needs no task of its own. On several, a
        // function that computes would keep its connection from being read.
        let inline = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        // A peer may not have waited for the welcome.
        let mut received = self.inbox.waiting() > 0;
        loop {
            let event = match mem::take(&mut received) {
                true => Event::Received,
                false => poll_fn(|cx| self.poll_event(cx)).await,
            };
            match event {
                Event::Received => {
                    self.inbox.look_for_cancels(&mut self.calls.cancelled);
                    let handled = poll_fn(|cx| Poll::Ready(self.handle_all(inline, cx))).await;
                    self.end.0.traffic().calls_ended(&mut self.calls.ended);
                    // What came before a violation still holds.
                    self.wakers.drain(..).for_each(Waker::wake);
                    handled?;
                    if !inline {
                        wake_another_thread().await;
                    } else if self.inbox.is_receiving_large() {
                        // What comes next may take long. The others have their turn, and what has
                        // been answered leaves.
                        let Self { writing, end: End(connection), .. } = &mut *self;
                        poll_fn(|cx| {
                            writing.write_some(&connection.outbox, cx);
                            Poll::Ready(())
                        })
                        .await;
                        task::yield_now().await;
                    }
                }
                Event::Ended(ended) => return ended,
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(Event::Ended(ended));
        }
        let Self { calls, reader, inbox, writing, end: End(connection), .. } = self;
        calls.poll_joined(connection, writing.buffer(), cx);
        loop {
            // A peer that does not read its answers is not read from either.
            let full = writing.is_full(&connection.outbox);
            if !full {
                match inbox.poll_receive(&mut **reader, cx) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Event::Received),
                    Poll::Ready(Ok(false)) => return Poll::Ready(Event::Ended(Ok(()))),
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Event::Ended(ServingError::of_read(error)));
                    }
                    Poll::Pending => {}
                }
            }
            match writing.poll_write(&connection.outbox, cx) {
                // A peer that has closed reads no answers. What it said before still holds, and
                // only reading tells when that was all.
                Poll::Ready(Err(WriteError::PeerGone(_))) => writing.forget_all(),
                Poll::Ready(Err(WriteError::Fatal(error))) => {
                    return Poll::Ready(Event::Ended(Err(ServingError::Write(error))));
                }
                // What kept us from reading is gone, and nothing else would wake us for it.
                Poll::Ready(Ok(())) if full => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Handles all frames that have been received. Calls are begun in the driver's own turn, if
    /// they may.
    fn handle_all(&mut self, inline: bool, cx: &mut Context<'_>) -> Result<(), FrameError> {
        let Self { session, inbox, writing, calls, end: End(connection), .. } = self;
        let mut gathering = inbox.arrival_of_next();
        loop {
            let arrival = inbox.arrival_of_next();
            let Some(frame) = inbox.next_frame()? else {
                inbox.forget_arrivals();
                return Ok(());
            };
            let arrived = match frame {
                Frame::Call { call, function, arguments, streams, deadline, spans } => Arrived {
                    call: Some(call),
                    function,
                    arguments,
                    ends: connection.accept(streams)?,
                    deadline: deadline.and_then(|it| arrival.checked_add(it)),
                    callers: Callers::of(spans),
                },
                Frame::OneWay { function, arguments, streams, spans } => Arrived {
                    call: None,
                    function,
                    arguments,
                    ends: connection.accept(streams)?,
                    deadline: None,
                    callers: Callers::of(spans),
                },
                Frame::Cancel { call } => {
                    calls.cancel(call, &**session);
                    continue;
                }
                frame => {
                    connection.handle(frame, &mut self.wakers)?;
                    continue;
                }
            };
            if !inline {
                match arrived.call {
                    Some(call) => calls.spawn(call, arrived, session, connection),
                    None => self
                        .one_way
                        .get_or_insert_with(|| OneWayLane::start(session, connection))
                        .add(arrived, connection.traffic().call_begins()),
                }
                continue;
            }
            calls.begin(arrived, session, connection, writing, cx);
            // Answers of quick functions leave together; those of a function that computes leave
            // before the next one does.
            if inbox.waiting() > 0 && gathering.elapsed() > GATHERING {
                connection.traffic().calls_ended(&mut calls.ended);
                writing.write_some(&connection.outbox, cx);
                // Meanwhile the callers may have lost interest in what has not begun.
                if inbox.waiting() < AHEAD && self.ended.is_none() {
                    match inbox.poll_receive(&mut *self.reader, cx) {
                        Poll::Ready(Ok(true)) => inbox.look_for_cancels(&mut calls.cancelled),
                        // What was said before the end still holds.
                        Poll::Ready(Ok(false)) => self.ended = Some(Ok(())),
                        Poll::Ready(Err(error)) => self.ended = Some(ServingError::of_read(error)),
                        Poll::Pending => {}
                    }
                }
                gathering = Instant::now();
            }
        }
    }
}

/// Gives another thread of the runtime a reason to wake up.
///
/// A task that was spawned last runs on this thread next, and tells no other of it. If it computes,
/// and this thread was the one that waited for sockets, nobody does any more. This task goes to the
/// end of the queue instead, from where others take it.
async fn wake_another_thread() {
    let mut woken = false;
    poll_fn(|cx| {
        if woken {
            return Poll::Ready(());
        }
        woken = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
