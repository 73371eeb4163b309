//! One use of a function.

use std::any::type_name;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::answer::{Answer, CallFailure, FunctionError, IsResult};
use super::any_error::AnyError;
use super::caller::Caller;
use super::client::{Client, Hold, Link};
use super::deadline;
use super::error::{CallError, CallErrorKind, MessageKind};
use super::failure::Loss;
use super::outbox::Ticket;
use super::pending::{Answered, Look};
use super::pipe::{self, Opening};
use super::restart::RestartableLink;
use super::sending::Lane;
use super::spans::CallerSpan;
use crate::wire::{
    Body, CallId, Codec, DecodeError, Decoder, EncodeError, FrameWriter, FunctionInfo,
    MessageWriter, Opened, Outcome, Refusal, Sink, StreamId, TooLarge, Unsent, WorkerLabel,
    read_message,
};

/// A call of a function: a future of its result.
///
/// It is sent when it is first polled, and takes options until then. It borrows nothing: the
/// arguments are encoded already.
///
/// A call that a function makes has no more time than the function itself: see
/// [`timeout`](Self::timeout).
///
/// It keeps its connection open while it exists, so the client may be dropped before. A call of a
/// one-way function is done when it is written.
///
/// # Panics
///
/// Polled outside of a tokio runtime, if its time is limited.
///
/// # Cancel safety
///
/// Dropping a call cancels it: its function is dropped at its next await point in the worker, or
/// never begins. What the function calls in turn is cancelled with it. A function that computes
/// without awaiting goes on until it awaits or returns; one with `#[worker(no_cancel)]` or
/// `#[worker(one_way)]` goes on to its end.
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<T, E: CallFailure = CallError> {
    route: Route,
    function: &'static FunctionInfo,
    value: Codec<T>,
    error: Option<Codec<E::Function>>,
    timeout: Option<Duration>,
    inherited: Option<Instant>,
    /// Made when the call is first polled, for then there surely is a runtime.
    limit: Option<Box<Limit>>,
    state: State,
    /// The call was handed to its connection.
    sent: bool,
    /// While it waits for its answer.
    caller_span: CallerSpan,
}

/// A call of a function that returns `R`, an alias of `Result`: a future of what is in its `Ok`,
/// or of a [`FunctionError`] with what is in its `Err`.
pub type TryCall<R> = Call<<R as IsResult>::Ok, FunctionError<<R as IsResult>::Err>>;

/// How a call comes to its connection.
enum Route {
    Over(Arc<Hold>),
    /// The connection that there is when the call is sent.
    Through(Arc<RestartableLink>),
    /// The next one, which does not exist yet.
    Waiting(Arc<RestartableLink>, Pin<Box<dyn Future<Output = ()> + Send>>),
}

enum State {
    New(Unsent, Vec<Opening>),
    Failed(CallErrorKind),
    Waiting(CallId, Ticket),
    /// A one-way call, until it is written.
    Writing(Ticket),
    Done,
}

/// When a call ends at the latest.
struct Limit {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl<T, E: CallFailure> Call<T, E> {
    /// Encodes a call.
    pub(crate) fn new<R>(
        client: &Client,
        function: &'static FunctionInfo,
        answer: Answer<R, T, E>,
        write_arguments: impl FnOnce(&mut Sink<'_>) -> Result<(), EncodeError>,
    ) -> Self {
        let max = client.settings().max_message_size();
        let mut frame = Vec::with_capacity(64);
        let writer = if function.one_way {
            MessageWriter::one_way(&mut frame, function.id(), max)
        } else {
            MessageWriter::call(&mut frame, function.id(), max)
        };
        let (written, opening) =
            pipe::encoding(|| writer.message(|sink| Ok::<_, Unsendable>(write_arguments(sink)?)));
        let written = written.and_then(|it| Ok(it.room_for(opening.len())?));
        let state = match written.map(MessageWriter::finish) {
            Ok(Some(large)) => State::New(Unsent::Large(Box::new(large)), opening),
            Ok(None) => State::New(Unsent::Small(frame), opening),
            Err(Unsendable(kind)) => State::Failed(kind),
        };
        let Answer { value, error, .. } = answer;
        // Nobody waits for what a one-way function does.
        let inherited = if function.one_way { None } else { deadline::inherited() };
        let route = match &client.0 {
            Link::Fixed(hold) => Route::Over(hold.clone()),
            Link::Restartable(restart) => Route::Through(restart.clone()),
        };
        let (timeout, limit, sent, caller_span) = (None, None, false, CallerSpan::none());
        Self { route, function, value, error, timeout, inherited, limit, state, sent, caller_span }
    }

    /// Fails the call with [`CallErrorKind::TimedOut`] if there is no answer within this time from
    /// when it is first polled. The function is cancelled then, as if the call had been dropped.
    ///
    /// The function learns its [deadline](crate::Context::deadline), and so do the workers that it
    /// calls: a call made inside a function ends when that function's time is over, if not sooner.
    /// This holds for calls that the function itself makes, not for those of tasks that it spawns.
    /// Deadlines travel as durations, so that clocks need not agree. A call whose time is over
    /// before its function could begin never begins. The pipes of an answer may be read for longer.
    ///
    /// A one-way call fails if it is not written within this time; its function knows no deadline.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// Lets a call that is made inside a function take more time than the function has.
    ///
    /// It is still dropped with the function, if that is cancelled, unless it is awaited in a task
    /// of its own. Elsewhere this changes nothing.
    pub fn without_inherited_deadline(mut self) -> Self {
        self.inherited = None;
        self
    }

    /// Returns the function that is called.
    pub fn function(&self) -> &'static FunctionInfo {
        self.function
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, CallErrorKind>> {
        match mem::replace(&mut self.state, State::Done) {
            State::New(mut frame, opening) => {
                let Poll::Ready(begun) = self.poll_begin(cx) else {
                    self.state = State::New(frame, opening);
                    return Poll::Pending;
                };
                let begun = begun.map_err(|loss| CallErrorKind::from(&*loss))?;
                self.caller_span = CallerSpan::begin(&mut frame);
                self.sent = true;
                if let Some(begun) = begun {
                    let (call, ticket) = self.send(begun, frame, opening);
                    self.state = State::Waiting(call, ticket);
                    return Poll::Pending;
                }
                self.state = State::Writing(self.send_one_way(frame, opening));
                self.poll_answer(cx)
            }
            State::Failed(kind) => Poll::Ready(Err(kind)),
            State::Waiting(call, ticket) => {
                let look = self.caller().pending().look(call, cx.waker());
                match look {
                    Look::Waiting => {
                        self.state = State::Waiting(call, ticket);
                        Poll::Pending
                    }
                    Look::Answered(answered) => Poll::Ready(Ok(answered)),
                    Look::Lost(loss) => Poll::Ready(Err((&*loss).into())),
                }
            }
            State::Writing(ticket) => {
                let caller = self.caller();
                if caller.connection.outbox.poll_written(ticket, cx).is_pending() {
                    self.state = State::Writing(ticket);
                    return Poll::Pending;
                }
                if ticket != Ticket::Written
                    && let Some(loss) = caller.pending().lost()
                {
                    return Poll::Ready(Err((&**loss).into()));
                }
                Poll::Ready(Ok(Answered::nothing()))
            }
            State::Done => panic!("call of `{}` polled after its end", self.function.name()),
        }
    }

    /// Begins the call on its connection, when there is one, and room.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Begun>, Arc<Loss>>> {
        loop {
            let restart = match &mut self.route {
                Route::Over(hold) => return poll_begin(&hold.0, self.function, cx),
                Route::Through(restart) => restart,
                Route::Waiting(restart, settled) => {
                    ready!(settled.as_mut().poll(cx));
                    // It must not be polled again if there is no room now.
                    self.route = Route::Through(restart.clone());
                    continue;
                }
            };
            let Some(connection) = restart.connection() else {
                let restart = restart.clone();
                let settled = restart.settled();
                self.route = Route::Waiting(restart, settled);
                continue;
            };
            let hold = connection?;
            match ready!(poll_begin(&hold.0, self.function, cx)) {
                Ok(begun) => {
                    self.route = Route::Over(hold);
                    return Poll::Ready(Ok(begun));
                }
                // Lost just now: the call has not been sent, and goes over the next.
                Err(_) => self.route = Route::Through(restart.clone()),
            }
        }
    }

    /// Sends a call, at once if no other waits on this connection.
    fn send(&self, begun: Begun, mut frame: Unsent, opening: Vec<Opening>) -> (CallId, Ticket) {
        let Begun { call, alone } = begun;
        let connection = &self.caller().connection;
        let (opened, starts) = pipe::open(opening, connection, Some(self.hold()));
        let left = self.limit.as_ref().map(|it| it.sleep.deadline() - Instant::now());
        frame.set_call(&opened, call, left);
        let outbox = &connection.outbox;
        let ticket = match frame {
            Unsent::Small(frame) if alone => outbox.write_now(&frame, Lane::Any),
            Unsent::Small(frame) => outbox.add(&frame, Lane::Any),
            Unsent::Large(frame) => outbox.add_large(*frame, Lane::Any, ids(&opened)),
        };
        starts.into_iter().for_each(|start| start());
        (call, ticket)
    }

    fn send_one_way(&self, mut frame: Unsent, opening: Vec<Opening>) -> Ticket {
        let connection = &self.caller().connection;
        let (opened, starts) = pipe::open(opening, connection, Some(self.hold()));
        frame.set_one_way(&opened);
        let outbox = &connection.outbox;
        let ticket = match frame {
            Unsent::Small(frame) => outbox.write_now(&frame, Lane::OneWay),
            Unsent::Large(frame) => outbox.add_large(*frame, Lane::OneWay, ids(&opened)),
        };
        starts.into_iter().for_each(|start| start());
        ticket
    }

    /// Returns the connection of a call that has begun.
    fn hold(&self) -> &Arc<Hold> {
        match &self.route {
            Route::Over(hold) => hold,
            Route::Through(_) | Route::Waiting(..) => {
                unreachable!("a call begins on a connection")
            }
        }
    }

    fn caller(&self) -> &Caller {
        &self.hold().0
    }

    fn label(&self) -> Arc<WorkerLabel> {
        match &self.route {
            Route::Over(hold) => hold.0.label.clone(),
            Route::Through(restart) | Route::Waiting(restart, _) => restart.label(),
        }
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<CallErrorKind> {
        let Some(limit) = &mut self.limit else { return Poll::Pending };
        ready!(limit.sleep.as_mut().poll(cx));
        let after = limit.after;
        Poll::Ready(CallErrorKind::TimedOut { after, unsent: self.why_unsent() })
    }

    fn why_unsent(&self) -> Option<String> {
        let State::New(..) = self.state else { return None };
        Some(match &self.route {
            Route::Waiting(restart, _) => restart.why_between(),
            Route::Over(_) | Route::Through(_) => {
                "too much waits to be written on its connection".to_owned()
            }
        })
    }

    /// Begins to measure the time, if it is limited.
    fn begin_limit(&mut self) {
        if self.limit.is_some() || (self.timeout.is_none() && self.inherited.is_none()) {
            return;
        }
        let now = Instant::now();
        let own = self.timeout.and_then(|it| now.checked_add(it));
        let Some(at) = own.into_iter().chain(self.inherited).min() else { return };
        let sleep = Box::pin(sleep_until(at));
        self.limit = Some(Box::new(Limit { after: at - now, sleep }));
    }

    fn read(&self, answered: Answered) -> Result<T, E> {
        let Answered { outcome, value, ends } = answered;
        let undecodable = |error: DecodeError| E::from(self.undecodable(error));
        pipe::decoding(ends, Some(self.hold()), || {
            let value = Body::shared(&value);
            let read = match (outcome, self.error) {
                (Outcome::Value, _) => return read(self.value, value).map_err(undecodable),
                (Outcome::Error, Some(error)) => read(error, value).map(E::from_function),
                (Outcome::Error, None) | (Outcome::Refused, _) => {
                    return Err(self.refused(value.bytes()).into());
                }
            };
            Err(read.unwrap_or_else(undecodable))
        })
    }

    /// Returns the error of an answer that is a refusal.
    fn refused(&self, refusal: &[u8]) -> CallError {
        match read_message(refusal) {
            Ok(refusal) => self.fail(self.kind_of(refusal)),
            Err(malformed) => self.undecodable(malformed),
        }
    }

    fn undecodable(&self, error: impl std::error::Error) -> CallError {
        let why = AnyError::of(&error).to_string();
        self.fail(CallErrorKind::Undecodable { message: MessageKind::Result, why })
    }

    fn kind_of(&self, refusal: Refusal) -> CallErrorKind {
        match (refusal, &self.limit) {
            // The worker has seen it before this process did.
            (Refusal::Expired, Some(limit)) => {
                CallErrorKind::TimedOut { after: limit.after, unsent: None }
            }
            (refusal, _) => refusal.into(),
        }
    }

    fn fail(&self, kind: CallErrorKind) -> CallError {
        CallError::new(self.function, self.label(), kind, self.sent)
    }
}

/// A call that has its number.
struct Begun {
    call: CallId,
    /// No other waits on its connection.
    alone: bool,
}

/// Begins a call when there is room; one-way calls have no number.
fn poll_begin(
    caller: &Caller,
    function: &'static FunctionInfo,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Begun>, Arc<Loss>>> {
    ready!(caller.connection.outbox.poll_room(cx));
    let mut pending = caller.pending();
    if function.one_way {
        return Poll::Ready(pending.lost().cloned().map_or(Ok(None), Err));
    }
    let alone = pending.is_idle();
    Poll::Ready(pending.begin(function, cx.waker()).map(|call| Some(Begun { call, alone })))
}

fn ids(opened: &[Opened]) -> Vec<StreamId> {
    opened.iter().map(|it| it.id).collect()
}

fn read<T>(codec: Codec<T>, body: Body<'_>) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(body);
    let value = (codec.decode)(&mut decoder)?;
    decoder.finish(type_name::<T>())?;
    Ok(value)
}

impl<T, E: CallFailure> Future for Call<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        call.begin_limit();
        let result = match call.poll_answer(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ready!(call.poll_timeout(cx))),
        };
        call.caller_span = CallerSpan::none();
        Poll::Ready(match result {
            Ok(answered) => call.read(answered),
            Err(kind) => {
                call.give_up();
                Err(call.fail(kind).into())
            }
        })
    }
}

impl<T, E: CallFailure> Unpin for Call<T, E> {}

impl<T, E: CallFailure> Call<T, E> {
    /// Tells the worker that nobody waits for the answer.
    fn give_up(&mut self) {
        let State::Waiting(call, ticket) = mem::replace(&mut self.state, State::Done) else {
            return;
        };
        let caller = self.caller();
        if !caller.pending().give_up(call) {
            return;
        }
        let outbox = &caller.connection.outbox;
        if let Ticket::Large(transfer) = ticket
            && !self.function.no_cancel
            && let Some(streams) = outbox.abandon(transfer)
        {
            // The worker has not seen all of it, and never will.
            caller.connection.abandon(&streams);
            caller.pending().forget(call);
            return;
        }
        let mut frame = Vec::new();
        FrameWriter::cancel(&mut frame, call).finish();
        outbox.write_at_end(&frame, Lane::Any);
    }
}

impl<T, E: CallFailure> Drop for Call<T, E> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<T, E: CallFailure> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("function", &self.function.signature())
            .field("worker", &self.label().to_string())
            .finish_non_exhaustive()
    }
}

/// Why a call cannot be sent.
struct Unsendable(CallErrorKind);

impl From<EncodeError> for Unsendable {
    fn from(error: EncodeError) -> Self {
        let why = AnyError::from(error).to_string();
        Self(CallErrorKind::Unencodable { message: MessageKind::Arguments, why })
    }
}

impl From<TooLarge> for Unsendable {
    fn from(too_large: TooLarge) -> Self {
        Self(CallErrorKind::TooLarge { message: MessageKind::Arguments, too_large })
    }
}
