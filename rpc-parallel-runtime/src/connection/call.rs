//! One use of a function, as the caller sees it.

use std::any::type_name;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, CallFailure, FunctionError, IsResult};
use super::any_error::AnyError;
use super::caller::{Caller, Hold};
use super::client::{Client, Link};
use super::deadline;
use super::ends::OwnedEnd;
use super::error::{CallError, CallErrorKind, KillOutcome, MessageKind};
use super::in_line::InLine;
use super::pipe::{self, Opening};
use super::process_access::OverdueCall;
use super::restart::RestartableLink;
use super::sending::{Message, NotSent, Sent, poll_send};
use super::spans::CallerSpan;
use super::time_limit::TimeLimit;
use crate::protocol::{Answered, CallStatus, Ticket};
use crate::wire::{
    Body, CallId, Codec, DecodeError, Decoder, EncodeError, FunctionInfo, MessageWriter, Outcome,
    Refusal, Sink, TooLarge, Unsent, WorkerLabel, read_message,
};

/// A call of a function: a future that resolves to its result.
///
/// The call is sent when it is first polled. Before that, its options can be set. It borrows
/// neither the client nor the arguments, which are already encoded, and it keeps the connection
/// open until it is dropped: the client may be dropped before the call.
///
/// A call of a one-way function resolves when its message has been written to the socket.
///
/// # Deadlines
///
/// A call that is made inside a function inherits the remaining deadline of that function, see
/// [`timeout`](Self::timeout).
///
/// # Errors
///
/// The output is a [`CallError`] if the call gave no result. For a function that returns a
/// `Result`, it is a [`FunctionError`], which holds either the error of the function or a
/// [`CallError`].
///
/// # Panics
///
/// Panics when polled outside of a tokio runtime, if the call has a timeout or an inherited
/// deadline. Panics when polled again after it has resolved.
///
/// # Cancel safety
///
/// Dropping a call cancels it. The worker drops the future of the function at its next await point,
/// or never begins the function. Calls that the function itself makes are cancelled with it. A
/// function that computes without awaiting runs until it awaits or returns, unless a deadline ends
/// its process, see [`kill`](Self::kill). A function with `#[worker(no_cancel)]` or
/// `#[worker(one_way)]` runs to completion.
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<T, E: CallFailure = CallError> {
    route: Route,
    function: &'static FunctionInfo,
    value: Codec<T>,
    error: Option<Codec<E::Function>>,
    timeout: Option<Duration>,
    inherited: Option<Instant>,
    /// Whether the worker is killed when the deadline passes.
    kill: bool,
    /// Made by the first poll, because it needs a tokio runtime.
    limit: Option<Box<TimeLimit>>,
    state: State,
    /// Set while the call waits until its connection has room.
    in_line: Option<Box<InLine>>,
    /// Whether the call was handed to its connection.
    sent: bool,
    /// Set from the first poll until the call resolves.
    caller_span: Option<CallerSpan>,
}

/// A call of a function that returns `R`, an alias of `Result`: a future that resolves to the `Ok`
/// value of `R`, or to a [`FunctionError`] with the `Err` value of `R`.
pub type TryCall<R> = Call<<R as IsResult>::Ok, FunctionError<<R as IsResult>::Err>>;

/// The connection of a call.
enum Route {
    /// The connection over which the call is sent.
    Connected(Arc<Hold>),
    /// The connection that is open when the call is sent.
    Restartable(Arc<RestartableLink>),
    /// The connection that will replace a lost one, and a future that resolves when calls no longer
    /// wait for it.
    Reconnecting(Arc<RestartableLink>, Pin<Box<dyn Future<Output = ()> + Send>>),
}

enum State {
    New(Message),
    Failed(Box<CallErrorKind>),
    Waiting(CallId, Ticket),
    /// A one-way call whose message has not been written completely.
    Writing(Ticket),
    Done,
}

/// How long before its deadline a call may be dropped because of that deadline: a function is
/// cancelled at its deadline by its caller, with the calls that inherit the deadline.
const DROPPED_EARLY: Duration = Duration::from_millis(10);

/// A call whose arguments are encoded, before it has a connection.
pub(crate) struct EncodedCall<T, E: CallFailure> {
    function: &'static FunctionInfo,
    value: Codec<T>,
    error: Option<Codec<E::Function>>,
    inherited: Option<Instant>,
    state: State,
}

impl<T, E: CallFailure> EncodedCall<T, E> {
    /// Encodes the message of a call, of at most `max` bytes.
    pub(crate) fn new<R>(
        function: &'static FunctionInfo,
        answer: Answer<R, T, E>,
        max: usize,
        write_arguments: impl FnOnce(&mut Sink<'_>) -> Result<(), EncodeError>,
    ) -> Self {
        Self::of_message(function, answer, encode_call(function, max, write_arguments))
    }

    /// Makes a call of its encoded message, or of the reason why it could not be encoded.
    pub(super) fn of_message<R>(
        function: &'static FunctionInfo,
        answer: Answer<R, T, E>,
        message: Result<(Unsent, Vec<Opening>), CallErrorKind>,
    ) -> Self {
        let state = match message {
            Ok((frame, opening)) => State::New(Message { frame, opening }),
            Err(kind) => State::Failed(Box::new(kind)),
        };
        let Answer { value, error, .. } = answer;
        // No caller waits for the result of a one-way function.
        let inherited = if function.one_way { None } else { deadline::inherited() };
        Self { function, value, error, inherited, state }
    }

    /// Makes the call of a client, whose limit the arguments do not exceed.
    pub(super) fn route(self, client: &Client) -> Call<T, E> {
        let Self { function, value, error, inherited, state } = self;
        let route = match &client.0 {
            Link::Fixed(hold) => Route::Connected(hold.clone()),
            Link::Restartable(link) => Route::Restartable(link.clone()),
        };
        Call {
            route,
            function,
            value,
            error,
            timeout: None,
            inherited,
            kill: false,
            limit: None,
            state,
            in_line: None,
            sent: false,
            caller_span: None,
        }
    }
}

#[cfg(feature = "pool")]
impl<T, E: CallFailure> EncodedCall<T, E> {
    pub(crate) fn function(&self) -> &'static FunctionInfo {
        self.function
    }

    /// Returns the deadline of the function in which the call was encoded.
    pub(crate) fn inherited_deadline(&self) -> Option<Instant> {
        self.inherited
    }

    /// Makes the call of a client. It fails if the arguments exceed the limit of the client.
    pub(crate) fn on(mut self, client: &Client) -> Call<T, E> {
        if let State::New(Message { frame, opening }) = &self.state
            && let Err(too_large) = frame.check(client.max_message_size(), opening.len())
        {
            self.state = State::Failed(Box::new(Unsendable::from(too_large).0));
        }
        self.route(client)
    }
}

impl<T, E: CallFailure> Call<T, E> {
    /// Encodes the message of a call.
    pub(crate) fn new<R>(
        client: &Client,
        function: &'static FunctionInfo,
        answer: Answer<R, T, E>,
        write_arguments: impl FnOnce(&mut Sink<'_>) -> Result<(), EncodeError>,
    ) -> Self {
        let max = client.max_message_size();
        EncodedCall::new(function, answer, max, write_arguments).route(client)
    }

    /// Fails the call with [`CallErrorKind::TimedOut`] if no answer arrives within `after` of the
    /// first poll. Default: no timeout.
    ///
    /// The timeout cancels the function, as dropping the call does.
    ///
    /// The worker receives the remaining time with the call: [`Context::deadline`] returns the
    /// deadline of the function, and calls that the function itself makes inherit it. Calls in
    /// tasks that the function spawns do not. Deadlines travel as durations, so that clocks need
    /// not agree. A function whose deadline has passed before it could begin does not begin. The
    /// deadline does not limit how long the pipes of an answer may be read.
    ///
    /// A one-way call fails if its message is not written within `after`. Its function has no
    /// deadline.
    ///
    /// [`Context::deadline`]: crate::Context::deadline
    ///
    /// ```
    /// # async fn example(call: rpc_parallel::Call<u64>) -> Result<u64, rpc_parallel::CallError> {
    /// use std::time::Duration;
    ///
    /// // let call = client.sum(&numbers);
    /// let sum = call.timeout(Duration::from_secs(5)).await?;
    /// # Ok(sum)
    /// # }
    /// ```
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// Removes the deadline that a call made inside a function inherits from that function.
    ///
    /// When the deadline cancels the function, the call is still dropped with it, unless a separate
    /// task awaits the call. Outside of a function this has no effect.
    pub fn without_inherited_deadline(mut self) -> Self {
        self.inherited = None;
        self
    }

    /// Kills the worker's process if the deadline of the call passes while the call waits for its
    /// answer. Default: the function is only cancelled.
    ///
    /// This ends functions that cannot be cancelled: those that compute without awaiting, that
    /// block, or whose process is stopped. The deadline is that of [`timeout`](Self::timeout), or
    /// an inherited one if that is earlier. Without a deadline this has no effect.
    ///
    /// The call fails with [`CallErrorKind::TimedOut`] at once and does not wait for the process to
    /// exit. The process gets `SIGKILL`, so neither destructors nor `on_shutdown` run. It has
    /// failed: its other calls and its pipes end with a [`WorkerFailure`] whose exit reason is
    /// [`ExitReason::DeadlineExceeded`], the callback for failures receives this report, and a
    /// worker with a restart policy is restarted. Calls made after this one has failed wait for the
    /// new process. A process that is blocked in the kernel exits later; after 5 s it counts as
    /// ended.
    ///
    /// Nothing is killed in these cases:
    ///
    /// - The answer arrives before the deadline.
    /// - The call was not sent: its worker is being restarted, or its send buffer is full.
    /// - The worker refuses the call because its deadline has passed before the function began.
    /// - The call is dropped before its deadline. A call that is dropped in the last 10 ms before
    ///   its deadline does kill: a function that exceeds its deadline is cancelled at about the
    ///   time at which the calls that it makes exceed the deadline that they inherit.
    /// - The function is one-way: it has no deadline.
    /// - Another process has started the worker, or the worker is a server that was made by
    ///   [`serve`](crate::Spawn::serve) or [`server`](crate::Spawn::server). Then the error holds
    ///   [`KillOutcome::NotStartedHere`], and the function is only cancelled.
    ///
    /// [`WorkerFailure`]: crate::WorkerFailure
    /// [`ExitReason::DeadlineExceeded`]: crate::ExitReason::DeadlineExceeded
    ///
    /// ```
    /// # async fn example(call: rpc_parallel::Call<u64>) -> Result<u64, rpc_parallel::CallError> {
    /// use std::time::Duration;
    ///
    /// // let call = client.parse(&untrusted);
    /// let parsed = call.timeout(Duration::from_secs(5)).kill().await?;
    /// # Ok(parsed)
    /// # }
    /// ```
    pub fn kill(mut self) -> Self {
        self.kill = true;
        self
    }

    /// Returns the function that is called.
    pub fn function(&self) -> &'static FunctionInfo {
        self.function
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, CallErrorKind>> {
        let State::Waiting(call, _) = self.state else { return self.poll_message(cx) };
        let mut locked = self.caller().connection.lock();
        let answered = match locked.machine.poll_call(call, cx.waker()) {
            CallStatus::Waiting => return Poll::Pending,
            CallStatus::Answered(answered) => Ok(answered),
            CallStatus::Lost => Err((&*locked.loss()).into()),
        };
        drop(locked);
        self.state = State::Done;
        Poll::Ready(answered)
    }

    /// Sends the message of the call. It is ready if the call failed, or needs no answer.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, CallErrorKind>> {
        match mem::replace(&mut self.state, State::Done) {
            State::New(mut message) => {
                // Subscribers of the user may run, so the connection must not be locked.
                self.caller_span.get_or_insert_with(|| CallerSpan::begin(&mut message.frame));
                let mut message = Some(message);
                let Poll::Ready(sent) = self.poll_send(&mut message, cx) else {
                    self.state = message.map_or(State::Done, State::New);
                    return Poll::Pending;
                };
                let sent = sent.map_err(CallErrorKind::from)?;
                self.sent = true;
                match sent {
                    Sent::Call(call, ticket) => {
                        self.state = State::Waiting(call, ticket);
                        Poll::Pending
                    }
                    Sent::OneWay(ticket) => {
                        self.state = State::Writing(ticket);
                        self.poll_message(cx)
                    }
                }
            }
            State::Failed(kind) => Poll::Ready(Err(*kind)),
            State::Writing(ticket) => {
                let connection = &self.caller().connection;
                if connection.poll_written(ticket, cx).is_pending() {
                    self.state = State::Writing(ticket);
                    return Poll::Pending;
                }
                if ticket != Ticket::Written
                    && let Some(loss) = connection.lock().lost()
                {
                    return Poll::Ready(Err((&**loss).into()));
                }
                Poll::Ready(Ok(Answered::nothing()))
            }
            State::Waiting(..) | State::Done => {
                panic!("the call of `{}` was polled after it resolved", self.function.name())
            }
        }
    }

    /// Sends the message, as soon as the connection is open and has room.
    fn poll_send(
        &mut self,
        message: &mut Option<Message>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sent, NotSent>> {
        let (function, deadline) = (self.function, self.limit.as_ref().map(|it| it.deadline()));
        let in_line = &mut self.in_line;
        loop {
            let link = match &mut self.route {
                Route::Connected(hold) => {
                    return poll_send(message, function, deadline, hold, in_line, cx);
                }
                Route::Restartable(link) => link,
                Route::Reconnecting(link, settled) => {
                    ready!(settled.as_mut().poll(cx));
                    // The future must not be polled again, if the connection has no room.
                    self.route = Route::Restartable(link.clone());
                    continue;
                }
            };
            let Some(connection) = link.connection() else {
                let link = link.clone();
                let settled = link.settled();
                self.route = Route::Reconnecting(link, settled);
                continue;
            };
            let hold = connection.map_err(NotSent::Lost)?;
            match ready!(poll_send(message, function, deadline, &hold, in_line, cx)) {
                Ok(sent) => {
                    self.route = Route::Connected(hold);
                    return Poll::Ready(Ok(sent));
                }
                // The connection was just lost. The call has not been sent, and waits for another
                // connection.
                Err(NotSent::Lost(_)) => self.route = Route::Restartable(link.clone()),
                Err(too_many) => return Poll::Ready(Err(too_many)),
            }
        }
    }

    /// Returns the connection of the call, which has begun.
    fn hold(&self) -> &Arc<Hold> {
        match &self.route {
            Route::Connected(hold) => hold,
            Route::Restartable(_) | Route::Reconnecting(..) => {
                unreachable!("a call that has begun has a connection")
            }
        }
    }

    fn caller(&self) -> &Caller {
        &self.hold().0
    }

    fn label(&self) -> Arc<WorkerLabel> {
        match &self.route {
            Route::Connected(hold) => hold.0.label.clone(),
            Route::Restartable(link) | Route::Reconnecting(link, _) => link.label(),
        }
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<CallErrorKind> {
        let Some(limit) = &mut self.limit else { return Poll::Pending };
        ready!(limit.poll(cx));
        let (after, unsent) = (limit.after(), self.why_unsent());
        Poll::Ready(CallErrorKind::TimedOut { after, unsent, kill: self.expire(after) })
    }

    /// Cancels the call, whose deadline has passed, and kills the worker if that is requested and
    /// the worker has not answered.
    fn expire(&mut self, after: Duration) -> Option<KillOutcome> {
        let unanswered = self.cancel();
        let overdue = OverdueCall { function: self.function, after };
        (unanswered && self.kill).then(|| self.caller().kill_worker(overdue))
    }

    fn why_unsent(&self) -> Option<String> {
        let State::New(..) = self.state else { return None };
        Some(match &self.route {
            Route::Reconnecting(link, _) => link.why_reconnecting(),
            Route::Connected(_) | Route::Restartable(_) => {
                "the send buffer of its connection is full".to_owned()
            }
        })
    }

    /// Starts the timer, if there is a deadline.
    fn begin_limit(&mut self) {
        if self.limit.is_none() {
            self.limit = TimeLimit::begin(self.timeout, self.inherited);
        }
    }

    fn read(&self, answered: Answered) -> Result<T, E> {
        let Answered { outcome, value, streams } = answered;
        let ends = OwnedEnd::accepted(&self.caller().connection, &streams);
        let undecodable = |error: DecodeError| E::from(self.undecodable(error));
        pipe::decoding(ends, Some(self.hold().clone()), || {
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

    /// Decodes a refusal, and converts it into an error.
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
            // The deadline passed in the worker first.
            (Refusal::Expired, Some(limit)) => {
                CallErrorKind::TimedOut { after: limit.after(), unsent: None, kill: None }
            }
            (refusal, _) => refusal.into(),
        }
    }

    fn fail(&self, kind: CallErrorKind) -> CallError {
        CallError::new(self.function, self.label(), kind, self.sent)
    }
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
        call.caller_span = None;
        // The call may be kept after it has resolved.
        call.in_line = None;
        Poll::Ready(match result {
            Ok(answered) => call.read(answered),
            Err(kind) => {
                call.cancel();
                Err(call.fail(kind).into())
            }
        })
    }
}

impl<T, E: CallFailure> Unpin for Call<T, E> {}

#[cfg(feature = "pool")]
impl<T, E: CallFailure> Call<T, E> {
    /// Polls the call for a thread that may be blocked: for a short time, it looks for the answer
    /// itself, instead of being woken by the driver of the connection.
    pub(crate) fn poll_looking(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let answered = Pin::new(&mut *self).poll(cx);
        if answered.is_ready() || !matches!(self.state, State::Waiting(..)) {
            return answered;
        }
        let hold = self.hold().clone();
        let Ok(mut looking) = hold.0.looking.try_lock() else { return Poll::Pending };
        looking.found(0, std::time::Instant::now);
        loop {
            match hold.0.try_receive() {
                0 if !looking.looks_again(std::time::Instant::now) => return Poll::Pending,
                0 => {}
                received => looking.found(received, std::time::Instant::now),
            }
            // The driver may have received it.
            let answered = Pin::new(&mut *self).poll(cx);
            if answered.is_ready() {
                looking.found(0, std::time::Instant::now);
                return answered;
            }
        }
    }
}

impl<T, E: CallFailure> Call<T, E> {
    /// Cancels the call in the worker, if it is pending. Returns whether it was.
    fn cancel(&mut self) -> bool {
        let State::Waiting(call, ticket) = mem::replace(&mut self.state, State::Done) else {
            return false;
        };
        let connection = &self.caller().connection;
        // In a forked child, the connection belongs to the parent.
        if connection.is_inherited() {
            return false;
        }
        let mut locked = connection.lock();
        let at_once = locked.machine.is_idle();
        let was_pending = locked.machine.cancel_call(call, ticket, !self.function.no_cancel);
        let transmit = if at_once { locked.machine.transmit() } else { None };
        drop(locked);
        if let Some(transmit) = transmit {
            connection.write_now(transmit);
        }
        was_pending
    }
}

impl<T, E: CallFailure> Drop for Call<T, E> {
    fn drop(&mut self) {
        match &self.limit {
            Some(limit) if limit.deadline() <= Instant::now() + DROPPED_EARLY => {
                let after = limit.after();
                self.expire(after);
            }
            _ => {
                self.cancel();
            }
        }
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

/// Encodes the message of a call, and returns it with the streams that it opens.
pub(super) fn encode_call(
    function: &'static FunctionInfo,
    max: usize,
    write_arguments: impl FnOnce(&mut Sink<'_>) -> Result<(), EncodeError>,
) -> Result<(Unsent, Vec<Opening>), CallErrorKind> {
    let mut frame = Vec::with_capacity(64);
    let writer = if function.one_way {
        MessageWriter::one_way(&mut frame, function.id(), max)
    } else {
        MessageWriter::call(&mut frame, function.id(), max)
    };
    let (written, opening) =
        pipe::encoding(|| writer.message(|sink| Ok::<_, Unsendable>(write_arguments(sink)?)));
    let written = written.and_then(|it| Ok(it.room_for(opening.len())?));
    match written.map(MessageWriter::finish) {
        Ok(Some(large)) => Ok((Unsent::Large(Box::new(large)), opening)),
        Ok(None) => Ok((Unsent::Small(frame), opening)),
        Err(Unsendable(kind)) => Err(kind),
    }
}

/// The reason why the message of a call cannot be sent.
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
