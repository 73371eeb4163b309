//! The end of a connection that answers, and the task that drives it.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{self, AbortHandle, JoinSet};
use tokio::time::Instant;

use super::answering::{Answering, Incoming, Running, Session};
use super::deadline::within;
use super::failure::Loss;
use super::inbox::Inbox;
use super::opening::Opening;
use super::outbox::Writing;
use super::panics::{catch, drop_unfinished};
use super::pipe::PipeErrorKind;
use super::scope::{CallScope, LazyScope};
use super::sending::Lane;
use super::shared::{Connection, OwnedEnd, Peer};
use crate::transport::Reader;
use crate::wire::{Body, CallId, Frame, FrameError, FrameWriter, FunctionId, Refusal};

/// How long an answer may wait for others to leave with.
const GATHERING: Duration = Duration::from_micros(50);

/// How many bytes are received ahead of the calls that are begun.
const AHEAD: usize = 1024 * 1024;

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
    one_way: Option<UnboundedSender<OneWay>>,
    /// Those whom the frames at hand concern.
    wakers: Vec<Waker>,
    ended: bool,
    end: End,
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

/// The calls that have begun and wait for something.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<CallId>,
    /// Those that go on although the connection has ended.
    lasting: JoinSet<CallId>,
    running: HashMap<CallId, RunningCall>,
    aborted: HashMap<task::Id, CallId>,
    /// Calls that have not begun, and are cancelled by frames that wait to be handled.
    cancelled: HashSet<CallId>,
}

struct RunningCall {
    function: FunctionId,
    abort: AbortHandle,
    scope: Option<Arc<CallScope>>,
}

/// All that can happen to the connection; nothing else wakes the driver.
enum Event {
    Received,
    Ended,
}

impl Serving {
    /// Welcomes the peer of a connection that has been asked for.
    pub(crate) fn welcome(opening: Opening, session: Arc<dyn Session>) -> Self {
        let Opening { reader, mut inbox, outbox, mut writing, settings } = opening;
        inbox.note_arrivals();
        FrameWriter::welcome(writing.buffer()).finish();
        let end = End(Arc::new(Connection::new(Peer::Caller, settings, outbox)));
        let calls = Calls::default();
        let (one_way, wakers, ended) = (None, Vec::new(), false);
        Self { session, reader, inbox, writing, calls, one_way, wakers, ended, end }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn connection(&self) -> Arc<Connection> {
        self.end.0.clone()
    }

    /// Answers calls until the peer is gone.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub(crate) async fn run(mut self) -> Result<(), FrameError> {
        // On one thread a function that is ready at once needs no task of its own. On several, a
        // function that computes would keep its connection from being read.
        let inline = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        loop {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Received => {
                    self.inbox.look_for_cancels(&mut self.calls.cancelled);
                    let handled = poll_fn(|cx| Poll::Ready(self.handle_all(inline, cx))).await;
                    // What came before a violation still holds.
                    self.wakers.drain(..).for_each(Waker::wake);
                    if handled.is_err() {
                        self.calls.lasting.detach_all();
                        return handled;
                    }
                    if !inline {
                        wake_another_thread().await;
                    } else if self.inbox.is_receiving_large() {
                        // What comes next may take long. The others have their turn, and what has
                        // been answered leaves.
                        let Self { writing, end: End(connection), .. } = &mut self;
                        poll_fn(|cx| {
                            let _ = writing.poll_write(&connection.outbox, cx);
                            Poll::Ready(())
                        })
                        .await;
                        task::yield_now().await;
                    }
                }
                Event::Ended => return Ok(()),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.ended {
            return Poll::Ready(Event::Ended);
        }
        let Self { calls, reader, inbox, writing, end: End(connection), .. } = self;
        calls.poll_joined(connection, writing.buffer(), cx);
        loop {
            // A peer that does not read its answers is not read from either.
            let full = writing.is_full(&connection.outbox);
            if !full {
                match inbox.poll_receive(&mut **reader, cx) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Event::Received),
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Event::Ended),
                    Poll::Pending => {}
                }
            }
            match writing.poll_write(&connection.outbox, cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Ended),
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
                Frame::Call { call, function, arguments, streams, deadline } => Arrived {
                    call: Some(call),
                    function,
                    arguments,
                    ends: connection.accept(streams)?,
                    deadline: deadline.and_then(|it| arrival.checked_add(it)),
                },
                Frame::OneWay { function, arguments, streams } => Arrived {
                    call: None,
                    function,
                    arguments,
                    ends: connection.accept(streams)?,
                    deadline: None,
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
                    None => {
                        let lane = self.one_way.get_or_insert_with(|| {
                            let (lane, one_ways) = unbounded_channel();
                            let (session, connection) = (session.clone(), connection.clone());
                            task::spawn(answer_one_way(one_ways, session, connection));
                            lane
                        });
                        let Arrived { function, arguments, ends, .. } = arrived;
                        // Not bounded, like the calls that wait: only their memory limits them.
                        let _ = lane.send(OneWay { function, arguments: arguments.keep(), ends });
                    }
                }
                continue;
            }
            calls.begin(arrived, session, connection, writing, cx);
            // Answers of quick functions leave together; those of a function that computes leave
            // before the next one does. An error is met again when there is more to write.
            if inbox.waiting() > 0 && gathering.elapsed() > GATHERING {
                let _ = writing.poll_write(&connection.outbox, cx);
                // Meanwhile the callers may have lost interest in what has not begun.
                if inbox.waiting() < AHEAD && !self.ended {
                    match inbox.poll_receive(&mut *self.reader, cx) {
                        Poll::Ready(Ok(true)) => inbox.look_for_cancels(&mut calls.cancelled),
                        // What was said before the end still holds.
                        Poll::Ready(Ok(false) | Err(_)) => self.ended = true,
                        Poll::Pending => {}
                    }
                }
                gathering = Instant::now();
            }
        }
    }
}

/// A call that has not begun.
struct Arrived<'a> {
    call: Option<CallId>,
    function: FunctionId,
    arguments: Body<'a>,
    ends: Vec<OwnedEnd>,
    deadline: Option<Instant>,
}

impl Drop for Calls {
    fn drop(&mut self) {
        // Those that last, and tasks that functions have spawned, learn that nobody waits any more.
        self.running.values().filter_map(|it| it.scope.as_ref()).for_each(|it| it.cancel());
        self.lasting.detach_all();
    }
}

impl Calls {
    /// Begins a call in the driver's own turn.
    fn begin(
        &mut self,
        arrived: Arrived<'_>,
        session: &Arc<dyn Session>,
        connection: &Arc<Connection>,
        writing: &mut Writing,
        cx: &mut Context<'_>,
    ) {
        let Arrived { call, function, .. } = arrived;
        let mut answering = Answering::new(call, connection, writing.buffer());
        if let Some(refusal) = self.refuses(&arrived, &**session) {
            drop_unfinished(arrived.ends, refusal.of_pipes());
            return answering.refuse(&refusal);
        }
        let mut scope = LazyScope::new(arrived.deadline);
        let begun = begin(&**session, arrived, &mut scope, cx, &mut answering);
        let after = answering.after();
        if let Some(refusal) = &after.failed {
            complain(&**session, function, refusal);
        }
        if after.needs_order() {
            // What is written on a stream must not overtake the answer that opens it.
            let _ = writing.poll_write(&connection.outbox, cx);
        }
        after.go_on(&connection.outbox);
        if let Some(rest) = begun {
            let deadline = scope.deadline;
            let scope = scope.made();
            let rest = Unfinished(Some(rest));
            let (session, connection) = (session.clone(), connection.clone());
            match call {
                Some(call) => {
                    let lasts = !session.may_cancel(function);
                    let answer = async move {
                        answer_later(Some(call), function, deadline, rest, session, connection)
                            .await;
                        call
                    };
                    self.spawn_call(call, function, scope, lasts, answer);
                }
                None => {
                    self.lasting.spawn(async move {
                        answer_later(None, function, deadline, rest, session, connection).await;
                        NO_CALL
                    });
                }
            }
        }
    }

    /// Gives a call a task of its own.
    fn spawn(
        &mut self,
        call: CallId,
        arrived: Arrived<'_>,
        session: &Arc<dyn Session>,
        connection: &Arc<Connection>,
    ) {
        let Arrived { function, arguments, ends, deadline, .. } = arrived;
        let lasts = !session.may_cancel(function);
        if !lasts && self.cancelled.remove(&call) {
            drop_unfinished(ends, PipeErrorKind::Cancelled);
            return refuse(call, &Refusal::Cancelled, connection);
        }
        let mut scope = LazyScope::new(deadline);
        let shared = scope.get();
        let (session, connection) = (session.clone(), connection.clone());
        let arguments = arguments.keep();
        let answer = async move {
            let mut buffer = Vec::new();
            if deadline.is_some_and(|it| it <= Instant::now()) {
                drop_unfinished(ends, Refusal::Expired.of_pipes());
                refuse(call, &Refusal::Expired, &connection);
                return call;
            }
            let mut ends = Some(ends);
            let begun = poll_fn(|cx| {
                let mut answering = Answering::new(Some(call), &connection, &mut buffer);
                let arguments = Body::shared(&arguments);
                let ends = ends.take().unwrap_or_default();
                let arrived = Arrived { call: Some(call), function, arguments, ends, deadline };
                let begun = begin(&*session, arrived, &mut scope, cx, &mut answering);
                Poll::Ready((begun, answering.after()))
            });
            let (begun, after) = begun.await;
            connection.outbox.add(&buffer, Lane::Any);
            after.go_on(&connection.outbox);
            if let Some(rest) = begun {
                let rest = Unfinished(Some(rest));
                answer_later(Some(call), function, deadline, rest, session, connection).await;
            }
            call
        };
        self.spawn_call(call, function, Some(shared), lasts, answer);
    }

    fn spawn_call(
        &mut self,
        call: CallId,
        function: FunctionId,
        scope: Option<Arc<CallScope>>,
        lasts: bool,
        answer: impl Future<Output = CallId> + Send + 'static,
    ) {
        let tasks = if lasts { &mut self.lasting } else { &mut self.tasks };
        let abort = tasks.spawn(answer);
        self.running.insert(call, RunningCall { function, abort, scope });
    }

    /// Says why a call must not begin, if so.
    fn refuses(&mut self, arrived: &Arrived<'_>, session: &dyn Session) -> Option<Refusal> {
        if let Some(call) = arrived.call
            && !self.cancelled.is_empty()
            && self.cancelled.remove(&call)
            && session.may_cancel(arrived.function)
        {
            return Some(Refusal::Cancelled);
        }
        let expired = arrived.deadline.is_some_and(|it| it <= Instant::now());
        expired.then_some(Refusal::Expired)
    }

    /// Takes word that nobody waits for the answer of a call any more.
    fn cancel(&mut self, call: CallId, session: &dyn Session) {
        self.cancelled.remove(&call);
        // One that is not there has been answered.
        let Some(RunningCall { function, abort, scope }) = self.running.get(&call) else { return };
        if let Some(scope) = scope {
            scope.cancel();
        }
        if session.may_cancel(*function) {
            abort.abort();
            self.aborted.insert(abort.id(), call);
            self.running.remove(&call);
        }
    }

    /// Notes which calls have ended. Those that were aborted still need an answer: only then may
    /// the caller use their number again.
    fn poll_joined(
        &mut self,
        connection: &Arc<Connection>,
        buffer: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) {
        while let Poll::Ready(Some(joined)) = self.tasks.poll_join_next_with_id(cx) {
            match joined {
                Ok((id, call)) => {
                    self.running.remove(&call);
                    self.aborted.remove(&id);
                }
                Err(error) => {
                    if let Some(call) = self.aborted.remove(&error.id()) {
                        Answering::new(Some(call), connection, buffer).refuse(&Refusal::Cancelled);
                    }
                }
            }
        }
        while let Poll::Ready(Some(joined)) = self.lasting.poll_join_next(cx) {
            if let Ok(call) = joined {
                self.running.remove(&call);
            }
        }
    }
}

/// What the task of a one-way call ends with.
const NO_CALL: CallId = CallId(0);

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

/// Begins a call and lets it run until it waits for something; what is left of it is returned.
fn begin(
    session: &dyn Session,
    arrived: Arrived<'_>,
    scope: &mut LazyScope,
    cx: &mut Context<'_>,
    answering: &mut Answering<'_>,
) -> Option<Pin<Box<dyn Running>>> {
    let Arrived { function, arguments, ends, deadline, .. } = arrived;
    let begun = catch(|| {
        let call = Incoming { function, arguments, ends, scope };
        within(deadline, || session.call(call, cx, answering))
    });
    begun.unwrap_or_else(|panic| {
        answering.refuse_instead(&Refusal::Panicked(panic));
        None
    })
}

/// Runs a call to its end.
async fn answer_later(
    call: Option<CallId>,
    function: FunctionId,
    deadline: Option<Instant>,
    mut unfinished: Unfinished,
    session: Arc<dyn Session>,
    connection: Arc<Connection>,
) {
    let mut buffer = Vec::new();
    let after = poll_fn(|cx| {
        let Some(running) = &mut unfinished.0 else { return Poll::Pending };
        let mut answering = Answering::new(call, &connection, &mut buffer);
        let polled =
            catch(|| within(deadline, || running.as_mut().poll_answer(cx, &mut answering)));
        let polled = polled.unwrap_or_else(|panic| {
            answering.refuse_instead(&Refusal::Panicked(panic));
            Poll::Ready(())
        });
        polled.map(|()| answering.after())
    })
    .await;
    // It has come to its own end, and has its answer even if it panics now.
    let _ = catch(|| drop(unfinished.0.take()));
    if let Some(refusal) = &after.failed {
        complain(&*session, function, refusal);
    }
    connection.outbox.add(&buffer, Lane::Any);
    after.go_on(&connection.outbox);
}

/// A call that has not come to its end; dropped, it has been cancelled.
struct Unfinished(Option<Pin<Box<dyn Running>>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            drop_unfinished(running, PipeErrorKind::Cancelled);
        }
    }
}

/// A one-way call that has not begun.
struct OneWay {
    function: FunctionId,
    arguments: Bytes,
    ends: Vec<OwnedEnd>,
}

/// Begins one-way calls one after the other, on a runtime of several threads: so they begin in the
/// order in which they were sent.
async fn answer_one_way(
    mut one_ways: UnboundedReceiver<OneWay>,
    session: Arc<dyn Session>,
    connection: Arc<Connection>,
) {
    let mut running = JoinSet::new();
    while let Some(OneWay { function, arguments, ends }) = one_ways.recv().await {
        while running.try_join_next().is_some() {}
        let mut buffer = Vec::new();
        let mut ends = Some(ends);
        let begun = poll_fn(|cx| {
            let mut answering = Answering::new(None, &connection, &mut buffer);
            let arguments = Body::shared(&arguments);
            let ends = ends.take().unwrap_or_default();
            let arrived = Arrived { call: None, function, arguments, ends, deadline: None };
            let mut scope = LazyScope::new(None);
            let begun = begin(&*session, arrived, &mut scope, cx, &mut answering);
            Poll::Ready((begun, answering.after()))
        });
        let (begun, after) = begun.await;
        if let Some(refusal) = &after.failed {
            complain(&*session, function, refusal);
        }
        if let Some(rest) = begun {
            let rest = Unfinished(Some(rest));
            let (session, connection) = (session.clone(), connection.clone());
            running.spawn(answer_later(None, function, None, rest, session, connection));
        }
    }
    // The connection has ended; what was said over it still holds.
    running.detach_all();
}

impl Refusal {
    /// Returns how pipes end whose function has not begun.
    fn of_pipes(&self) -> PipeErrorKind {
        match self {
            Self::Cancelled => PipeErrorKind::Cancelled,
            _ => PipeErrorKind::WriterFailed { why: "its function has not begun".to_owned() },
        }
    }
}

/// Answers a call with a refusal.
fn refuse(call: CallId, refusal: &Refusal, connection: &Arc<Connection>) {
    let mut buffer = Vec::new();
    Answering::new(Some(call), connection, &mut buffer).refuse(refusal);
    connection.outbox.add(&buffer, Lane::Any);
}

/// Says on stderr what nobody else will hear: a one-way call has failed.
fn complain(session: &dyn Session, function: FunctionId, refusal: &Refusal) {
    // A fuzzer would hear of little else.
    if cfg!(fuzzing) {
        return;
    }
    let what = session.describe(function);
    let _ = writeln!(io::stderr(), "rpc-parallel: {what} {refusal}");
}
