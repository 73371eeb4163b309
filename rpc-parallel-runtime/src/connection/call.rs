//! One use of a function.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::answer::{Answer, CallFailure, FunctionError, IsResult};
use super::any_error::AnyError;
use super::caller::Caller;
use super::client::{Client, Hold};
use super::error::{CallError, CallErrorKind, Side};
use super::pending::Look;
use crate::wire::{
    CallId, Codec, DecodeError, Decoder, EncodeError, FrameWriter, FunctionInfo, Outcome, Refusal,
    Sink, TooLarge,
};

/// A call of a function: a future of its result.
///
/// It is sent when it is first polled, and takes options until then. It borrows nothing: the
/// arguments are encoded already.
///
/// # Cancel safety
///
/// Dropping a call gives up its answer. It keeps its connection open while it exists.
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<T, E: CallFailure = CallError> {
    hold: Arc<Hold>,
    function: &'static FunctionInfo,
    value: Codec<T>,
    error: Option<Codec<E::Function>>,
    timeout: Option<Timeout>,
    state: State,
}

/// A call of a function that returns `R`, an alias of `Result`: a future of what is in its `Ok`,
/// or of a [`FunctionError`] with what is in its `Err`.
pub type TryCall<R> = Call<<R as IsResult>::Ok, FunctionError<<R as IsResult>::Err>>;

enum State {
    /// The frame to send.
    New(Vec<u8>),
    Failed(CallErrorKind),
    Waiting(CallId),
    Done,
}

struct Timeout {
    after: Duration,
    /// Made when the call is sent, for then there surely is a runtime.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<T, E: CallFailure> Call<T, E> {
    /// Encodes a call.
    pub(crate) fn new<R>(
        client: &Client,
        function: &'static FunctionInfo,
        answer: Answer<R, T, E>,
        write_arguments: impl FnOnce(&mut Sink<'_>) -> Result<(), EncodeError>,
    ) -> Self {
        let mut frame = Vec::with_capacity(64);
        let max = client.caller().max_message_size;
        let encoded = FrameWriter::call(&mut frame, function.id(), max)
            .message(|sink| Ok::<_, Unsendable>(write_arguments(sink)?));
        let state = match encoded {
            Ok(()) => State::New(frame),
            Err(Unsendable(kind)) => State::Failed(kind),
        };
        let Answer { value, error, .. } = answer;
        Self { hold: client.0.clone(), function, value, error, timeout: None, state }
    }

    /// Fails the call with [`CallErrorKind::TimedOut`] if there is no answer within this time from
    /// when it is first polled.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(Timeout { after, sleep: None });
        self
    }

    /// Returns the function that is called.
    pub fn function(&self) -> &'static FunctionInfo {
        self.function
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, CallErrorKind>> {
        let caller = &self.hold.0;
        match mem::replace(&mut self.state, State::Done) {
            State::New(frame) => {
                if caller.outbox.poll_room(cx).is_pending() {
                    self.state = State::New(frame);
                } else {
                    self.state = State::Waiting(send(caller, frame, cx)?);
                }
                Poll::Pending
            }
            State::Failed(kind) => Poll::Ready(Err(kind)),
            State::Waiting(call) => match caller.pending().look(call, cx.waker()) {
                Look::Waiting => {
                    self.state = State::Waiting(call);
                    Poll::Pending
                }
                Look::Answered { outcome, value } => Poll::Ready(Ok(Answered { outcome, value })),
                Look::Lost(loss) => Poll::Ready(Err((&*loss).into())),
            },
            State::Done => panic!("call of `{}` polled after its end", self.function.name()),
        }
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<CallErrorKind> {
        let Some(Timeout { after, sleep: made }) = &mut self.timeout else { return Poll::Pending };
        ready!(made.get_or_insert_with(|| Box::pin(sleep(*after))).as_mut().poll(cx));
        Poll::Ready(CallErrorKind::TimedOut { after: *after })
    }

    fn read(&self, answered: Answered) -> Result<T, E> {
        let Answered { outcome, value } = answered;
        let undecodable = |error: DecodeError| {
            let why = AnyError::from(error).to_string();
            E::from(self.fail(CallErrorKind::Undecodable { side: Side::Result, why }))
        };
        let read = match (outcome, self.error) {
            (Outcome::Value, _) => return read(self.value, &value).map_err(undecodable),
            (Outcome::Error, Some(error)) => read(error, &value).map(E::from_function),
            (Outcome::Error, None) | (Outcome::Refused, _) => {
                Refusal::decode(&value).map(|it| self.fail(it.into()).into())
            }
        };
        Err(read.unwrap_or_else(undecodable))
    }

    fn fail(&self, kind: CallErrorKind) -> CallError {
        CallError::new(self.function, self.hold.0.label.clone(), kind)
    }
}

struct Answered {
    outcome: Outcome,
    value: Vec<u8>,
}

/// Sends a call, at once if no other waits on this connection.
fn send(caller: &Caller, mut frame: Vec<u8>, cx: &Context<'_>) -> Result<CallId, CallErrorKind> {
    let mut pending = caller.pending();
    let alone = pending.is_idle();
    let call = pending.begin(cx.waker()).map_err(|loss| CallErrorKind::from(&*loss))?;
    drop(pending);
    FrameWriter::set_call(&mut frame, call);
    if alone {
        caller.outbox.write_now(&frame);
    } else {
        caller.outbox.add(&frame);
    }
    Ok(call)
}

fn read<T>(codec: Codec<T>, bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = (codec.decode)(&mut decoder)?;
    decoder.finish::<T>()?;
    Ok(value)
}

impl<T, E: CallFailure> Future for Call<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        let result = match call.poll_answer(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ready!(call.poll_timeout(cx))),
        };
        Poll::Ready(match result {
            Ok(answered) => call.read(answered),
            Err(kind) => Err(call.fail(kind).into()),
        })
    }
}

impl<T, E: CallFailure> Unpin for Call<T, E> {}

impl<T, E: CallFailure> Drop for Call<T, E> {
    fn drop(&mut self) {
        if let State::Waiting(call) = self.state {
            self.hold.0.pending().give_up(call);
        }
    }
}

impl<T, E: CallFailure> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("function", &self.function.signature())
            .field("worker", &self.hold.0.label.to_string())
            .finish_non_exhaustive()
    }
}

/// Why a call cannot be sent.
struct Unsendable(CallErrorKind);

impl From<EncodeError> for Unsendable {
    fn from(error: EncodeError) -> Self {
        let why = AnyError::from(error).to_string();
        Self(CallErrorKind::Unencodable { side: Side::Arguments, why })
    }
}

impl From<TooLarge> for Unsendable {
    fn from(too_large: TooLarge) -> Self {
        Self(CallErrorKind::TooLarge { side: Side::Arguments, too_large })
    }
}
