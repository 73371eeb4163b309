//! How a call is handed to its function, and its result to the connection.

use std::mem;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::answer::{Answer, CallFailure};
use super::any_error::AnyError;
use super::outbox::Outbox;
use super::panics::drop_unfinished;
use super::pipe::{self, PipeErrorKind};
use super::scope::LazyScope;
use super::sending::Lane;
use super::shared::{Connection, OwnedEnd};
use crate::wire::{
    Body, CallId, EncodeError, FunctionId, Large, MessageWriter, Outcome, PanicReport, Refusal,
    StreamId, TooLarge, write_message,
};

/// What answers the calls of one connection.
#[doc(hidden)]
pub trait Session: Send + Sync + 'static {
    /// Begins one call and lets it run until it waits: answers it, or returns what will.
    fn call(
        &self,
        call: Incoming<'_>,
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>>;

    /// Says whether a function stops when nobody waits for its answer any more.
    fn may_cancel(&self, function: FunctionId) -> bool;

    /// Says whether the connection is there to call functions, and not to look after the worker.
    fn is_counted(&self) -> bool {
        true
    }

    /// Names a function and its worker, for people.
    fn describe(&self, function: FunctionId) -> String;

    /// Names a function, for the span of its call.
    #[cfg(feature = "tracing")]
    fn function_name(&self, function: FunctionId) -> String;

    /// Names the worker, for the span of a call.
    #[cfg(feature = "tracing")]
    fn worker_name(&self) -> &str;
}

/// A call that waits for something.
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

/// A call as it came.
#[doc(hidden)]
pub struct Incoming<'a> {
    pub(crate) function: FunctionId,
    pub(super) arguments: Body<'a>,
    pub(super) ends: Vec<OwnedEnd>,
    pub(crate) scope: &'a mut LazyScope,
}

impl<'a> Incoming<'a> {
    /// Decodes the arguments, which can be done once.
    pub(crate) fn arguments<R>(&mut self, decode: impl FnOnce(Body<'a>) -> R) -> R {
        let ends = mem::take(&mut self.ends);
        pipe::decoding(ends, None, || decode(self.arguments))
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if !self.ends.is_empty() {
            let why = "its function has not begun".to_owned();
            drop_unfinished(mem::take(&mut self.ends), PipeErrorKind::WriterFailed { why });
        }
    }
}

/// Where the answer of one call goes.
#[doc(hidden)]
pub struct Answering<'a> {
    /// None for a one-way call, which gets no answer.
    call: Option<CallId>,
    connection: &'a Arc<Connection>,
    buffer: &'a mut Vec<u8>,
    start: usize,
    deadline: Option<Instant>,
    after: After,
}

/// What is to be done when the answer is on its way.
#[derive(Default)]
pub(super) struct After {
    large: Option<(Large, Vec<StreamId>)>,
    starts: Vec<pipe::Begin>,
    /// Why a one-way call failed: nobody but us will say so.
    pub(super) failed: Option<Refusal>,
}

impl<'a> Answering<'a> {
    pub(super) fn new(
        call: Option<CallId>,
        connection: &'a Arc<Connection>,
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        let start = buffer.len();
        Self { call, connection, buffer, start, deadline: None, after: After::default() }
    }

    /// Says until when a result is wanted.
    pub(super) fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// Answers with the result of the function.
    pub(crate) fn result<R, T, E: CallFailure>(&mut self, answer: Answer<R, T, E>, result: R) {
        let Some(call) = self.call else { return };
        // What the function has called was out of time at the same moment: its caller must not be
        // told of that as if the function had failed by itself.
        if self.deadline.is_some_and(|it| it <= Instant::now()) {
            return self.refuse(&Refusal::Expired);
        }
        let max = self.connection.settings.max_message_size();
        let buffer = &mut *self.buffer;
        let (written, opening) = pipe::encoding(|| match ((answer.split)(result), answer.error) {
            (Ok(value), _) => MessageWriter::answer(buffer, call, Outcome::Value, max)
                .message(|sink| Ok((answer.value.encode)(&value, sink)?)),
            (Err(error), Some(codec)) => MessageWriter::answer(buffer, call, Outcome::Error, max)
                .message(|sink| Ok((codec.encode)(&error, sink)?)),
            (Err(_), None) => unreachable!("only a `Result` has an error"),
        });
        let written = written.and_then(|it| Ok(it.room_for(opening.len())?));
        let refusal = match written.map_err(|Unsendable(refusal)| refusal) {
            Ok(frame) => {
                let (opened, starts) = pipe::open(opening, self.connection, None);
                let large = frame.streams(&opened).finish();
                let opens = || opened.iter().map(|it| it.id).collect();
                self.after.large = large.map(|it| (it, opens()));
                self.after.starts = starts;
                return;
            }
            Err(refusal) => refusal,
        };
        self.refuse(&refusal);
    }

    /// Answers that there is no result, and why.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        let Some(call) = self.call else {
            self.after.failed = Some(refusal.clone());
            return;
        };
        if !self.try_refuse(call, refusal) && !self.try_refuse(call, &refusal.shortened()) {
            unreachable!("a refusal that was cut short fits and encodes");
        }
    }

    fn try_refuse(&mut self, call: CallId, refusal: &Refusal) -> bool {
        let written = MessageWriter::refused_answer(self.buffer, call).message(|sink| {
            write_message(refusal, sink);
            Ok::<_, TooLarge>(())
        });
        let Ok(frame) = written else { return false };
        self.after.large = frame.finish().map(|it| (it, Vec::new()));
        true
    }

    /// Answers that the function panicked, whatever has been answered before.
    ///
    /// A child that the function has forked ends here: it would answer the call of its parent, and
    /// go on to drive the parent's connections.
    pub(super) fn panicked(&mut self, panic: PanicReport) {
        if self.connection.outbox.is_inherited() {
            process::exit(PANICKED);
        }
        self.buffer.truncate(self.start);
        self.after = After::default();
        self.refuse(&Refusal::Panicked(panic));
    }

    pub(super) fn after(self) -> After {
        self.after
    }
}

impl After {
    /// Says whether what was answered must be written before the rest is done.
    pub(super) fn needs_order(&self) -> bool {
        !self.starts.is_empty()
    }

    /// Does what is left when the answer itself has been given to the outbox.
    pub(super) fn go_on(self, outbox: &Outbox) {
        if let Some((large, opens)) = self.large {
            outbox.add_large(large, Lane::Any, opens);
        }
        self.starts.into_iter().for_each(|start| start());
    }
}

/// Why a result cannot be sent.
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
