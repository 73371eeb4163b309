//! The end of a connection that answers, and the task that drives it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinSet;

use super::answer::{Answer, CallFailure};
use super::any_error::AnyError;
use super::inbox::Inbox;
use super::opening::Opening;
use super::outbox::{Outbox, Writing};
use super::panics::catch;
use crate::transport::Reader;
use crate::wire::{
    CallId, EncodeError, Frame, FrameError, FrameWriter, FunctionId, Outcome, Panic, Refusal,
    TooLarge, encode_own,
};

/// How long an answer may wait for others to leave with.
const GATHERING: Duration = Duration::from_micros(50);

/// What answers the calls of one connection.
#[doc(hidden)]
pub trait Session: Send + Sync + 'static {
    /// Begins one call and lets it run until it waits: answers it, or returns what will.
    fn call(
        &self,
        function: FunctionId,
        arguments: &[u8],
        cx: &mut Context<'_>,
        answering: &mut Answering<'_>,
    ) -> Option<Pin<Box<dyn Running>>>;
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

/// Where the answer of one call goes.
#[doc(hidden)]
pub struct Answering<'a> {
    call: CallId,
    buffer: &'a mut Vec<u8>,
    max_message_size: usize,
}

impl Answering<'_> {
    /// Answers with the result of the function.
    pub(crate) fn result<R, T, E: CallFailure>(&mut self, answer: Answer<R, T, E>, result: R) {
        let written = match ((answer.split)(result), answer.error) {
            (Ok(value), _) => {
                self.frame(Outcome::Value).message(|sink| Ok((answer.value.encode)(&value, sink)?))
            }
            (Err(error), Some(codec)) => {
                self.frame(Outcome::Error).message(|sink| Ok((codec.encode)(&error, sink)?))
            }
            (Err(_), None) => unreachable!("only a `Result` has an error"),
        };
        if let Err(Unsendable(refusal)) = written {
            self.refuse(&refusal);
        }
    }

    /// Answers that there is no result, and why.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        FrameWriter::refused_answer(self.buffer, self.call)
            .message(|sink| Ok::<_, Unsendable>(encode_own(refusal, sink)?))
            .unwrap_or_else(|_| unreachable!("refusals are short and encode"));
    }

    fn frame(&mut self, outcome: Outcome) -> FrameWriter<'_> {
        FrameWriter::answer(self.buffer, self.call, outcome, self.max_message_size)
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

/// Answers the calls of one connection until its peer ends it.
///
/// Dropped, it drops the calls that still run.
pub(crate) struct Serving {
    session: Arc<dyn Session>,
    reader: Box<dyn Reader>,
    inbox: Inbox,
    outbox: Arc<Outbox>,
    writing: Writing,
    running: JoinSet<()>,
    max_message_size: usize,
}

/// All that can happen to the connection; nothing else wakes the driver.
enum Event {
    Received,
    Ended,
}

impl Serving {
    /// Welcomes the peer of a connection that has been asked for.
    pub(crate) fn welcome(opening: Opening, session: Arc<dyn Session>) -> Self {
        let Opening { reader, inbox, outbox, mut writing, max_message_size } = opening;
        FrameWriter::welcome(writing.buffer()).finish();
        let outbox = Arc::new(outbox);
        let running = JoinSet::new();
        Self { session, reader, inbox, outbox, writing, running, max_message_size }
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
                Event::Received if inline => poll_fn(|cx| self.answer_all(cx).into()).await?,
                Event::Received => {
                    self.spawn_all()?;
                    wake_another_thread().await;
                }
                Event::Ended => return Ok(()),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while let Poll::Ready(Some(_)) = self.running.poll_join_next(cx) {}
        loop {
            // A peer that does not read its answers is not read from either.
            let full = self.writing.is_full();
            if !full {
                match self.inbox.poll_receive(&mut *self.reader, cx) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Event::Received),
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Event::Ended),
                    Poll::Pending => {}
                }
            }
            match self.writing.poll_write(&self.outbox, cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Ended),
                // What kept us from reading is gone, and nothing else would wake us for it.
                Poll::Ready(Ok(())) if full => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Begins all calls that have been received, each in the driver's own turn.
    fn answer_all(&mut self, cx: &mut Context<'_>) -> Result<(), FrameError> {
        let mut gathering = Instant::now();
        while let Some(frame) = self.inbox.next_frame()? {
            let (call, function, arguments) = expect_call(frame)?;
            let max_message_size = self.max_message_size;
            let buffer = self.writing.buffer();
            let mut answering = Answering { call, buffer, max_message_size };
            let begun = begin(&*self.session, function, arguments, cx, &mut answering);
            if let Some(rest) = begun {
                let outbox = self.outbox.clone();
                self.running.spawn(answer_later(call, rest, outbox, max_message_size));
            }
            // Answers of quick functions leave together; those of a function that computes leave
            // before the next one does. An error is met again when there is more to write.
            if gathering.elapsed() > GATHERING {
                let _ = self.writing.poll_write(&self.outbox, cx);
                gathering = Instant::now();
            }
        }
        Ok(())
    }

    /// Gives each call that has been received a task of its own.
    fn spawn_all(&mut self) -> Result<(), FrameError> {
        while let Some(frame) = self.inbox.next_frame()? {
            let (call, function, arguments) = expect_call(frame)?;
            let (session, outbox) = (self.session.clone(), self.outbox.clone());
            let max_message_size = self.max_message_size;
            let arguments = arguments.to_vec();
            self.running.spawn(async move {
                let mut buffer = Vec::new();
                let begun = poll_fn(|cx| {
                    let buffer = &mut buffer;
                    let mut answering = Answering { call, buffer, max_message_size };
                    Poll::Ready(begin(&*session, function, &arguments, cx, &mut answering))
                });
                match begun.await {
                    Some(rest) => answer_later(call, rest, outbox, max_message_size).await,
                    None => outbox.add(&buffer),
                }
            });
        }
        Ok(())
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

fn expect_call(frame: Frame<'_>) -> Result<(CallId, FunctionId, &[u8]), FrameError> {
    match frame {
        Frame::Call { call, function, arguments } => Ok((call, function, arguments)),
        _ => Err(FrameError::OutOfPlace("something else than a call")),
    }
}

/// Begins a call and lets it run until it waits for something; what is left of it is returned.
fn begin(
    session: &dyn Session,
    function: FunctionId,
    arguments: &[u8],
    cx: &mut Context<'_>,
    answering: &mut Answering<'_>,
) -> Option<Pin<Box<dyn Running>>> {
    let start = answering.buffer.len();
    catch(|| session.call(function, arguments, cx, answering)).unwrap_or_else(|panic| {
        refuse_after(panic, start, answering);
        None
    })
}

/// Runs a call to its end.
async fn answer_later(
    call: CallId,
    mut running: Pin<Box<dyn Running>>,
    outbox: Arc<Outbox>,
    max_message_size: usize,
) {
    let mut buffer = Vec::new();
    poll_fn(|cx| {
        let buffer = &mut buffer;
        let mut answering = Answering { call, buffer, max_message_size };
        catch(|| running.as_mut().poll_answer(cx, &mut answering)).unwrap_or_else(|panic| {
            refuse_after(panic, 0, &mut answering);
            Poll::Ready(())
        })
    })
    .await;
    outbox.add(&buffer);
}

fn refuse_after(panic: Panic, start: usize, answering: &mut Answering<'_>) {
    answering.buffer.truncate(start);
    answering.refuse(&Refusal::Panicked(panic));
}
