//! The answering end of a connection, and the driver task of this end.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task;
use tokio::time::Instant;

use super::answering::Session;
use super::any_error::AnyError;
use super::calls::{Arrived, Calls};
use super::ends::OwnedEnd;
use super::failure::Loss;
use super::inbox::Inbox;
use super::one_way::OneWayQueue;
use super::open_connections;
use super::opening::{Opening, READ_AHEAD};
use super::received_one_way::ReceivedOneWay;
use super::shared::{Connection, Peer};
use super::spans::Callers;
use super::traffic::CountedConnection;
use super::writing::{WriteError, Writing};
use crate::transport::{Fault, Reader};
use crate::wire::{Frame, FrameError, FrameWriter, ReceiveLimits, Streams};

/// The maximum time for which an answer is held back, to be written together with others.
const GATHER_TIME: Duration = Duration::from_micros(50);

/// The time for which received calls begin before other tasks of the thread run.
const SLICE: Duration = Duration::from_millis(1);

/// The driver of the answering end: it answers calls until the peer closes the connection.
///
/// Dropping it drops the running calls.
pub(crate) struct Serving {
    session: Arc<dyn Session>,
    reader: Box<dyn Reader>,
    inbox: Inbox,
    writing: Writing,
    /// The answers that the driver task has written since it has locked the connection last.
    answers: Vec<u8>,
    calls: Calls,
    /// The queue of one-way calls, on a multi-thread runtime.
    one_way: Option<OneWayQueue>,
    /// The end of the connection, if it was noticed while reading ahead.
    ended: Option<Result<(), ServingError>>,
    end: End,
    _counted: Option<CountedConnection>,
}

/// Ends all streams and the transport when the driver ends.
struct End(Arc<Connection>);

impl Drop for End {
    fn drop(&mut self) {
        let why = "the calling process closed the connection";
        self.0.lose(&Arc::new(Loss::Broken(why.to_owned())));
        self.0.end();
    }
}

/// The events of the connection. Nothing else wakes the driver.
enum Event {
    Received,
    Ended(Result<(), ServingError>),
}

/// Why a connection ended, if its peer did not close it.
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
    /// Returns whether the socket of this process failed. The caller did not cause it.
    pub(crate) fn is_of_socket(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Write(_))
    }

    /// Returns the result of a connection whose read failed with this error.
    fn of_read(error: io::Error) -> Result<(), Self> {
        if Fault::of(&error) == Fault::PeerGone { Ok(()) } else { Err(Self::Read(error)) }
    }
}

impl Serving {
    /// Accepts a requested connection: queues the welcome for the peer.
    pub(crate) fn welcome(opening: Opening, session: Arc<dyn Session>) -> Self {
        let peer_limits = opening.peer_limits();
        let Opening { reader, writer, mut inbox, transmit, traffic, settings, .. } = opening;
        inbox.note_arrivals();
        let connection = Connection::new(Peer::Caller, settings, &peer_limits, traffic, writer);
        let end = End(Arc::new(connection));
        open_connections::add(&end.0);
        // The rest of the handshake precedes the welcome.
        end.0.lock().machine.take_back(transmit);
        let mut answers = Vec::new();
        FrameWriter::welcome(&mut answers, ReceiveLimits::of(&settings)).finish();
        let counted = session.is_counted().then(|| traffic.connection_opens());
        let (writing, calls) = (Writing::default(), Calls::default());
        let (one_way, ended) = (None, None);
        Self {
            session,
            reader,
            inbox,
            writing,
            answers,
            calls,
            one_way,
            ended,
            end,
            _counted: counted,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn connection(&self) -> Arc<Connection> {
        self.end.0.clone()
    }

    /// Answers calls until the peer closes the connection.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol, or the socket failed. In both cases the connection has ended,
    /// and its streams have ended with this error.
    pub(crate) async fn run(mut self) -> Result<(), ServingError> {
        let ended = self.serve().await;
        if let Err(error) = &ended {
            let why = AnyError::of(error).to_string();
            self.end.0.lose(&Arc::new(Loss::Broken(why)));
        }
        ended
    }

    async fn serve(&mut self) -> Result<(), ServingError> {
        // On a single thread, a function that completes in its first poll needs no task. On several
        // threads every call gets a task, so that a function that computes does not block the
        // driver.
        let inline = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        // The peer may have sent calls before it received the welcome.
        let mut received = self.inbox.decoder.waiting() > 0;
        loop {
            let event = match mem::take(&mut received) {
                true => Event::Received,
                false => poll_fn(|cx| self.poll_event(cx)).await,
            };
            match event {
                Event::Received => {
                    self.inbox.decoder.scan_for_cancels(&mut self.calls.cancelled);
                    let handled = poll_fn(|cx| Poll::Ready(self.handle_all(inline, cx))).await;
                    self.end.0.traffic().calls_ended(&mut self.calls.ended);
                    if handled? == Handled::Slice {
                        task::yield_now().await;
                        let Self { calls, answers, end: End(connection), .. } = &mut *self;
                        poll_fn(|cx| {
                            calls.poll_joined(connection, answers, cx);
                            Poll::Ready(())
                        })
                        .await;
                        received = true;
                    } else if !inline {
                        // A fast sender would keep this task busy, because the pause renews the
                        // budget of its reads. So it writes the answers after each of them.
                        self.write_some().await;
                        wake_another_thread().await;
                    } else if self.inbox.decoder.is_receiving_large() {
                        // A fast sender of a large frame would keep this task busy. So it writes
                        // the answers and yields after each fragment.
                        self.write_some().await;
                        task::yield_now().await;
                    }
                }
                Event::Ended(ended) => return ended,
            }
        }
    }

    /// Writes answers, and as much as the transport takes without waiting.
    async fn write_some(&mut self) {
        let Self { writing, answers, end: End(connection), .. } = self;
        poll_fn(|cx| {
            writing.write_some(connection, answers, cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(Event::Ended(ended));
        }
        let Self { calls, reader, inbox, writing, answers, end: End(connection), .. } = self;
        calls.poll_joined(connection, answers, cx);
        loop {
            // While the peer does not read its answers, no calls are read from it.
            let full = writing.is_full(connection, answers);
            if !full {
                if mem::take(&mut writing.is_sharing) {
                    // This task has woken itself, and a call may have arrived.
                    reader.look();
                }
                match inbox.poll_receive(&mut **reader, cx) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Event::Received),
                    Poll::Ready(Ok(false)) => return Poll::Ready(Event::Ended(Ok(()))),
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Event::Ended(ServingError::of_read(error)));
                    }
                    Poll::Pending => {}
                }
            }
            match writing.poll_write(connection, answers, cx) {
                // The peer reads no answers. Its frames are still valid, and the end of the stream
                // is detected after all of them are read.
                Poll::Ready(Err(WriteError::PeerGone(_))) => writing.discard(),
                Poll::Ready(Err(WriteError::Fatal(error))) => {
                    return Poll::Ready(Event::Ended(Err(ServingError::Write(error))));
                }
                // There is room again. Read now, because no other event would wake the driver.
                Poll::Ready(Ok(())) if full => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Handles the received frames. If `inline`, the first poll of a call happens here, in the
    /// driver task, and frames may be left when a slice is over.
    fn handle_all(&mut self, inline: bool, cx: &mut Context<'_>) -> Result<Handled, FrameError> {
        let Self { session, inbox, writing, answers, calls, end: End(connection), .. } = self;
        let mut gathering = inbox.arrival_of_next();
        let mut began = None;
        loop {
            let arrival = inbox.arrival_of_next();
            let Some(frame) = inbox.decoder.next_frame()? else {
                inbox.forget_arrivals();
                return Ok(Handled::All);
            };
            let arrived = match frame {
                Frame::Call { call, function, arguments, streams, deadline, spans } => {
                    calls.check(call, connection.settings.max_calls())?;
                    Arrived {
                        call: Some(call),
                        function,
                        arguments,
                        ends: accept(connection, streams)?,
                        deadline: deadline.and_then(|it| arrival.checked_add(it)),
                        callers: Callers::of(spans),
                        one_way: None,
                    }
                }
                Frame::OneWay { function, arguments, streams, spans } => Arrived {
                    call: None,
                    function,
                    arguments,
                    ends: accept(connection, streams)?,
                    deadline: None,
                    callers: Callers::of(spans),
                    one_way: Some(ReceivedOneWay::receive(connection)?),
                },
                Frame::Cancel { call } => {
                    calls.cancel(call, &**session);
                    continue;
                }
                frame => {
                    connection.handle(connection.lock(), frame)?;
                    continue;
                }
            };
            if !inline {
                match arrived.call {
                    Some(call) => calls.spawn(call, arrived, session, connection),
                    None => self
                        .one_way
                        .get_or_insert_with(|| OneWayQueue::start(session, connection))
                        .add(arrived, connection.traffic().call_begins()),
                }
                continue;
            }
            calls.begin(arrived, session, connection, answers, cx);
            // Answers of fast functions are written together. After a slow function they are
            // written before the next function begins.
            if inbox.decoder.waiting() > 0 && gathering.elapsed() > GATHER_TIME {
                connection.traffic().calls_ended(&mut calls.ended);
                writing.write_some(connection, answers, cx);
                // The callers may have cancelled calls that have not begun.
                if inbox.decoder.waiting() < READ_AHEAD && self.ended.is_none() {
                    match inbox.poll_receive(&mut *self.reader, cx) {
                        Poll::Ready(Ok(true)) => {
                            inbox.decoder.scan_for_cancels(&mut calls.cancelled);
                        }
                        // Frames before the end are still handled.
                        Poll::Ready(Ok(false)) => self.ended = Some(Ok(())),
                        Poll::Ready(Err(error)) => self.ended = Some(ServingError::of_read(error)),
                        Poll::Pending => {}
                    }
                }
                gathering = Instant::now();
                if gathering - *began.get_or_insert(gathering) >= SLICE {
                    return Ok(Handled::Slice);
                }
            }
        }
    }
}

/// Makes this side's ends of the streams that a call opens.
fn accept(connection: &Arc<Connection>, streams: Streams<'_>) -> Result<Vec<OwnedEnd>, FrameError> {
    if streams.is_empty() {
        return Ok(Vec::new());
    }
    let accepted = connection.lock().machine.accept(streams)?;
    Ok(OwnedEnd::accepted(connection, &accepted))
}

/// What was handled of the received frames.
#[derive(PartialEq, Eq)]
enum Handled {
    All,
    /// Frames may be left.
    Slice,
}

/// Makes tokio wake another thread of its runtime.
///
/// The task that was spawned last runs next on this thread, without a notification of other
/// threads. If that task computes, and this thread was the one that polled the sockets, no thread
/// polls them. By yielding, this task moves to the end of the queue, where tokio notifies another
/// thread of it.
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
