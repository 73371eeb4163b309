//! The interface between a connection and the functions of a worker: a call in, its answer out.

use std::mem;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::answer::{Answer, CallFailure};
use super::any_error::AnyError;
use super::ends::OwnedEnd;
use super::panics::{drop_unfinished, ends_worker_of_thread};
use super::pipe::{self, PipeErrorKind};
use super::scope::LazyScope;
use super::shared::Connection;
use crate::wire::{
    Body, CallId, EncodeError, FunctionId, Large, MessageWriter, Opened, Outcome, PanicReport,
    Refusal, StreamId, TooLarge, write_message,
};

/// Answers the calls of one connection.
#[doc(hidden)]
pub trait Session: Send + Sync + 'static {
    /// Begins a call and polls it once. Either answers it, or returns the rest of it.
    fn call(
        &self,
        call: Incoming<'_>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>>;

    /// Returns whether a cancelled call drops the function.
    fn may_cancel(&self, function: FunctionId) -> bool;

    /// Returns whether the connection counts in the stats of the worker. Connections that only call
    /// built-in functions do not.
    fn is_counted(&self) -> bool {
        true
    }

    /// Returns the names of a function and its worker, for diagnostics.
    fn describe(&self, function: FunctionId) -> String;

    /// Returns the name of a function, for the span of its call.
    #[cfg(feature = "tracing")]
    fn function_name(&self, function: FunctionId) -> String;

    /// Returns the name of the worker, for the span of a call.
    #[cfg(feature = "tracing")]
    fn worker_name(&self) -> &str;
}

/// A call whose function is pending.
#[doc(hidden)]
pub trait Running: Send {
    fn poll_answer(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Poll<()>;
}

/// The exit code of a process whose `main` panics.
const PANICKED: i32 = 101;

/// A received call.
#[doc(hidden)]
pub struct Incoming<'a> {
    pub(crate) function: FunctionId,
    pub(super) arguments: Body<'a>,
    pub(super) ends: Vec<OwnedEnd>,
    pub(crate) scope: &'a mut LazyScope,
}

impl<'a> Incoming<'a> {
    /// Decodes the arguments. It must be called only once, because it claims the streams.
    pub(crate) fn arguments<R>(&mut self, decode: impl FnOnce(Body<'a>) -> R) -> R {
        let ends = mem::take(&mut self.ends);
        pipe::decoding(ends, None, || decode(self.arguments))
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if !self.ends.is_empty() {
            let why = "the function that writes the pipe has not begun".to_owned();
            drop_unfinished(mem::take(&mut self.ends), PipeErrorKind::WriterFailed { why });
        }
    }
}

/// The answer of one call, which is written to a buffer.
#[doc(hidden)]
pub struct Answering<'a> {
    /// `None` for a one-way call, which has no answer.
    call: Option<CallId>,
    connection: &'a Arc<Connection>,
    buffer: &'a mut Vec<u8>,
    start: usize,
    deadline: Option<Instant>,
    /// Whether the answer is the result of the function.
    has_result: bool,
    follow_up: FollowUp,
}

/// What belongs to an answer, beside the bytes in its buffer.
#[derive(Default)]
pub(super) struct FollowUp {
    /// The answer itself, if it is large.
    large: Option<(Large, Vec<StreamId>)>,
    starts: Vec<pipe::StreamStart>,
    /// Why a one-way call failed. It must be written to stderr, because its caller gets no answer.
    pub(super) failed: Option<Refusal>,
}

impl<'a> Answering<'a> {
    pub(super) fn new(
        call: Option<CallId>,
        connection: &'a Arc<Connection>,
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        let (start, follow_up) = (buffer.len(), FollowUp::default());
        Self { call, connection, buffer, start, deadline: None, has_result: false, follow_up }
    }

    /// Sets the deadline of the call: a later result becomes a refusal.
    pub(super) fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// Answers with the result of the function.
    pub(crate) fn result<R, T, E: CallFailure>(&mut self, answer: Answer<R, T, E>, result: R) {
        let Some(call) = self.call else { return };
        // Nested calls have missed the same deadline, and their errors may be the cause of the
        // result. So the caller gets the deadline as the reason, and not an error of the function.
        if self.deadline.is_some_and(|it| it <= Instant::now()) {
            return self.refuse(&Refusal::Expired);
        }
        let max = self.connection.max_message_size;
        let buffer = &mut *self.buffer;
        let (written, opening) = pipe::encoding(|| match ((answer.split)(result), answer.error) {
            (Ok(value), _) => MessageWriter::answer(buffer, call, Outcome::Value, max)
                .message(|sink| Ok((answer.value.encode)(&value, sink)?)),
            (Err(error), Some(codec)) => MessageWriter::answer(buffer, call, Outcome::Error, max)
                .message(|sink| Ok((codec.encode)(&error, sink)?)),
            (Err(_), None) => unreachable!("only a `Result` has an error"),
        });
        let written = written.and_then(|it| Ok(it.room_for(opening.len())?));
        let written = written.and_then(|it| Ok((it, open_streams(opening, self.connection)?)));
        let refusal = match written.map_err(|Unsendable(refusal)| refusal) {
            Ok((frame, (opened, starts))) => {
                let large = frame.streams(&opened).finish();
                let opens = || opened.iter().map(|it| it.id).collect();
                self.follow_up.large = large.map(|it| (it, opens()));
                self.follow_up.starts = starts;
                self.has_result = true;
                return;
            }
            Err(refusal) => refusal,
        };
        self.refuse(&refusal);
    }

    /// Answers with a refusal: there is no result.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        let Some(call) = self.call else {
            self.follow_up.failed = Some(refusal.clone());
            return;
        };
        if !self.try_refuse(call, refusal) && !self.try_refuse(call, &refusal.shortened()) {
            unreachable!("a shortened refusal is within the limits");
        }
    }

    fn try_refuse(&mut self, call: CallId, refusal: &Refusal) -> bool {
        let written = MessageWriter::refused_answer(self.buffer, call).message(|sink| {
            write_message(refusal, sink);
            Ok::<_, TooLarge>(())
        });
        let Ok(frame) = written else { return false };
        self.follow_up.large = frame.finish().map(|it| (it, Vec::new()));
        true
    }

    /// Answers with the panic of the function, unless the answer is its result: then the function is
    /// complete, and the panic is that of a destructor, for example.
    ///
    /// A child that the function has forked exits here. Otherwise it would answer the call of its
    /// parent, and drive the connections of its parent.
    pub(super) fn panicked(&mut self, panic: PanicReport) {
        if self.connection.is_inherited() {
            process::exit(PANICKED);
        }
        // The streams of the result are open already. Without the result, the peer would get frames
        // of streams that it does not know.
        if self.has_result {
            return;
        }
        self.buffer.truncate(self.start);
        self.follow_up = FollowUp::default();
        // The call fails with the worker, as it does if the worker is a process.
        if !ends_worker_of_thread() {
            self.refuse(&Refusal::Panicked(panic));
        }
    }

    pub(super) fn into_follow_up(self) -> FollowUp {
        self.follow_up
    }
}

impl FollowUp {
    /// Returns whether the answer is in the buffer alone.
    pub(super) fn is_empty(&self) -> bool {
        self.large.is_none() && self.starts.is_empty()
    }

    /// Sends the answers in the buffer and what belongs to the last of them, and starts the streams
    /// that it opens.
    pub(super) fn send(self, connection: &Connection, answers: &mut Vec<u8>) {
        let mut locked = connection.lock();
        locked.machine.send_answers(answers);
        if let Some((large, opens)) = self.large {
            locked.machine.send_large_answer(large, opens);
        }
        drop(locked);
        self.starts.into_iter().for_each(|start| start());
    }
}

/// Makes this side's ends of the streams that an answer opens, unless the connection would have too
/// many.
fn open_streams(
    opening: Vec<pipe::Opening>,
    connection: &Arc<Connection>,
) -> Result<(Vec<Opened>, Vec<pipe::StreamStart>), Unsendable> {
    if opening.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut locked = connection.lock();
    if locked.machine.may_open(opening.len()) {
        return Ok(pipe::open(opening, connection, &mut locked, None));
    }
    let why = connection.too_many_pipes(&locked);
    // The pipes are dropped after that, because destructors of the user may run.
    drop(locked);
    Err(Unsendable(Refusal::Unencodable { why }))
}

/// The reason why a result cannot be sent.
struct Unsendable(Refusal);

impl From<EncodeError> for Unsendable {
    fn from(error: EncodeError) -> Self {
        Self(Refusal::Unencodable { why: AnyError::from(error).to_string() })
    }
}

impl From<TooLarge> for Unsendable {
    fn from(TooLarge { size, max }: TooLarge) -> Self {
        Self(Refusal::TooLarge { size, max })
    }
}
