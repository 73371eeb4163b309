//! Direct pipes: a callback reads the pipe.

use std::fmt;
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, ready};

use tokio::sync::Notify;

use super::error::{PipeError, PipeErrorKind};
use super::pump::Source;
use super::remote::{self, Incoming, Parts};
use crate::connection::delivery::{Deliver, Delivery, Flow};
use crate::connection::panics::catch;
use crate::connection::shared::Connection;
use crate::connection::task::task;
use crate::wire::StreamId;

/// The number of elements of a stream of this process that a callback gets before its task yields.
const TURNS: usize = 64;

/// The argument of a callback of
/// [`Pipe::for_each_direct`](super::Pipe::for_each_direct).
#[derive(Clone, PartialEq, Debug)]
pub enum PipeEvent<T> {
    /// The next element.
    ///
    /// An element that the writer failed to send closes the pipe, unlike for a pipe that is read as
    /// a stream.
    Element(T),
    /// The end of the pipe. This is the last event, and the callback gets it exactly once.
    Closed(CloseReason),
}

/// Why a pipe that a callback reads was closed.
#[derive(Clone, PartialEq, Debug)]
pub enum CloseReason {
    /// The writer ended the pipe.
    ByWriter,
    /// An [`AbortHandle`] ended the pipe.
    ByAbort,
    /// The pipe broke, or the writer failed to send an element.
    Error(PipeError),
}

impl CloseReason {
    pub(super) fn of(flow: Flow, end: Result<(), PipeErrorKind>) -> Self {
        match (flow, end) {
            (Flow::Stop, _) => Self::ByAbort,
            (Flow::Continue, Ok(())) => Self::ByWriter,
            (Flow::Continue, Err(kind)) => Self::Error(PipeError::new(None, kind)),
        }
    }
}

/// A handle that ends a pipe which a callback reads, returned by
/// [`Pipe::for_each_direct`](super::Pipe::for_each_direct).
///
/// Clones end the same pipe. They can be used on any thread, and inside the callback. Dropping the
/// handle has no effect.
#[derive(Clone)]
pub struct AbortHandle(Arc<Abort>);

struct Abort {
    aborted: AtomicBool,
    target: Mutex<Target>,
    notify: Notify,
}

/// The pipe that an abort ends.
enum Target {
    None,
    Channel(Weak<dyn Abortable>),
    Stream(StreamId, Weak<Connection>),
}

/// A pipe of this process that a callback reads.
pub(super) trait Abortable: Send + Sync {
    /// Ends the pipe.
    fn abort(&self);
}

impl AbortHandle {
    /// Ends the pipe. The callback gets no more elements, and then [`CloseReason::ByAbort`].
    ///
    /// If the writer is in another process, that process is notified first, and the callback gets
    /// the event when the acknowledgement arrives, possibly after this method has returned.
    /// Aborting a pipe that has ended or was aborted has no effect.
    pub fn abort(&self) {
        if self.0.aborted.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.notify.notify_one();
        let target = self.0.target.lock().expect("no thread panics while it holds this lock");
        match &*target {
            Target::None => {}
            Target::Stream(stream, connection) => {
                let (stream, connection) = (*stream, connection.upgrade());
                drop(target);
                connection.into_iter().for_each(|it| it.lock().machine.stop(stream));
            }
            Target::Channel(channel) => {
                let channel = channel.upgrade();
                drop(target);
                channel.into_iter().for_each(|it| it.abort());
            }
        }
    }

    pub(super) fn aborts_channel(&self, channel: &Arc<dyn Abortable>) {
        self.0.set(Target::Channel(Arc::downgrade(channel)));
    }
}

impl Abort {
    fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    fn set(&self, target: Target) {
        *self.target.lock().expect("no thread panics while it holds this lock") = target;
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("aborted", &self.0.is_aborted()).finish()
    }
}

/// A callback of the user, and whether the pipe was aborted.
pub(super) struct Callback<T> {
    run: Box<dyn FnMut(PipeEvent<T>) + Send>,
    abort: Arc<Abort>,
    panicked: bool,
}

impl<T> Callback<T> {
    pub(super) fn is_aborted(&self) -> bool {
        self.abort.is_aborted()
    }

    /// Calls the callback, and returns whether to go on. After an abort it gets no elements, and
    /// after a panic no events.
    pub(super) fn call(&mut self, event: PipeEvent<T>) -> Flow {
        let unwanted = matches!(event, PipeEvent::Element(_)) && self.abort.is_aborted();
        if !self.panicked && !unwanted {
            self.panicked = catch(|| (self.run)(event)).is_err();
        }
        if self.panicked || self.abort.is_aborted() { Flow::Stop } else { Flow::Continue }
    }
}

impl<T: Send + 'static> Callback<T> {
    pub(super) fn new(run: impl FnMut(PipeEvent<T>) + Send + 'static) -> (Self, AbortHandle) {
        let abort = Arc::new(Abort {
            aborted: AtomicBool::new(false),
            target: Mutex::new(Target::None),
            notify: Notify::new(),
        });
        (Self { run: Box::new(run), abort: abort.clone(), panicked: false }, AbortHandle(abort))
    }

    /// Calls the callback with the end of a pipe without elements.
    pub(super) fn end(mut self, reason: CloseReason) {
        self.call(PipeEvent::Closed(reason));
    }

    /// Calls the callback with the elements of a stream of a connection.
    pub(super) fn read(mut self, incoming: Incoming<T>) {
        let Parts { end, decoded, undecoded, error, codec } = incoming.into_parts();
        for element in decoded {
            self.call(PipeEvent::Element(element));
        }
        let Some(end) = end else {
            self.call(PipeEvent::Closed(CloseReason::ByWriter));
            return;
        };
        let abort = self.abort.clone();
        abort.set(Target::Stream(end.id(), Arc::downgrade(end.connection())));
        if abort.is_aborted() {
            end.send_stop();
        }
        let worker = end.connection().worker().cloned();
        let (mut failed, mut stopped) = (None, false);
        let mut deliver: Deliver = Box::new(move |delivery| match delivery {
            Delivery::Elements { count, elements } => {
                if stopped {
                    return Flow::Continue;
                }
                let mut flow = Flow::Continue;
                let decoded = catch(|| {
                    remote::decode(codec, count, elements, |element| {
                        flow = self.call(PipeEvent::Element(element));
                    })
                });
                let decoded = decoded.unwrap_or_else(|it| Err(PipeErrorKind::Panicked(it)));
                if let Err(kind) = decoded {
                    failed = Some(PipeError::new(worker.as_ref(), kind));
                    flow = Flow::Stop;
                }
                stopped = flow == Flow::Stop;
                // `AbortHandle::abort` has sent the stop.
                if self.abort.is_aborted() { Flow::Continue } else { flow }
            }
            Delivery::Skipped(error) => {
                let first = !mem::replace(&mut stopped, true);
                failed.get_or_insert(error);
                if first { Flow::Stop } else { Flow::Continue }
            }
            Delivery::End(end) => {
                let closed = match (failed.take(), end) {
                    (Some(error), _) => CloseReason::Error(error),
                    (None, _) if self.abort.is_aborted() => CloseReason::ByAbort,
                    (None, Ok(())) => CloseReason::ByWriter,
                    (None, Err(error)) => CloseReason::Error(error),
                };
                self.call(PipeEvent::Closed(closed));
                Flow::Stop
            }
        });
        let mut undecoded = undecoded;
        let rest = match error {
            Some(error) => Some(Delivery::Skipped(error)),
            None => undecoded.as_mut().map(|it| {
                let (count, elements) = it.take(u32::MAX);
                Delivery::Elements { count, elements }
            }),
        };
        if rest.is_some_and(|it| deliver(it) == Flow::Stop) {
            end.send_stop();
        }
        end.read_direct(deliver);
    }

    /// Starts a task that calls the callback with the elements of a stream of this process.
    pub(super) fn read_source(mut self, mut source: Box<dyn Source<T>>) {
        let abort = self.abort.clone();
        tokio::spawn(task(async move {
            let mut aborted = pin!(abort.notify.notified());
            std::future::poll_fn(|cx| {
                if aborted.as_mut().poll(cx).is_ready() {
                    self.call(PipeEvent::Closed(CloseReason::ByAbort));
                    return Poll::Ready(());
                }
                for _ in 0..TURNS {
                    let closed = match ready!(source.poll_next(cx)) {
                        Some(Ok(element)) => match self.call(PipeEvent::Element(element)) {
                            Flow::Continue => continue,
                            Flow::Stop => CloseReason::ByAbort,
                        },
                        Some(Err(error)) => CloseReason::Error(error),
                        None => CloseReason::ByWriter,
                    };
                    self.call(PipeEvent::Closed(closed));
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }));
    }
}
