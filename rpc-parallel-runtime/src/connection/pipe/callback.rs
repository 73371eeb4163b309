//! Reading a pipe by a callback.

use std::fmt;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;

use futures_core::Stream;
use tokio::sync::Notify;

use super::channel::Channel;
use super::error::{PipeError, PipeErrorKind};
use super::reader::Pipe;
use super::remote::{self, Incoming};
use crate::connection::inflow::{Delivery, Flow, Inflow};
use crate::connection::panics::catch;
use crate::connection::task::task;

/// What a callback is called with.
#[derive(Clone, PartialEq, Debug)]
pub enum PipeEvent<T> {
    /// The next element.
    ///
    /// One that could not be sent closes the pipe, unlike where it is read as a stream.
    Element(T),
    /// There are no more: exactly once, last.
    Closed(CloseReason),
}

/// Why a callback is called no more.
#[derive(Clone, PartialEq, Debug)]
pub enum CloseReason {
    /// The writer has finished.
    ByWriter,
    /// It was aborted by its handle.
    ByAbort,
    /// The pipe broke, or an element could not be sent.
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

/// Ends a pipe that is read by a callback:
/// [`Pipe::for_each_direct`](super::Pipe::for_each_direct) gives it.
///
/// Dropping it changes nothing. Its clones end the same pipe, from any thread, or from inside the
/// callback.
#[derive(Clone)]
pub struct AbortHandle(Arc<Abort>);

struct Abort {
    aborted: AtomicBool,
    target: Mutex<Target>,
    notify: Notify,
}

/// Who must be told.
enum Target {
    Nobody,
    Channel(Weak<dyn Aborted>),
    Inflow(Weak<Inflow>),
}

trait Aborted: Send + Sync {
    fn aborted(&self);
}

impl<T: Send> Aborted for Channel<T> {
    fn aborted(&self) {
        self.abort();
    }
}

impl AbortHandle {
    /// Ends the pipe. The callback sees no more elements, and then [`CloseReason::ByAbort`].
    ///
    /// For a pipe of another process it sees that as soon as the writer has been told, which may be
    /// after this returns. Aborting again, or after the end, changes nothing.
    pub fn abort(&self) {
        if self.0.aborted.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.notify.notify_one();
        let target = self.0.target.lock().expect("nobody panics while holding this lock");
        match &*target {
            Target::Nobody => {}
            Target::Inflow(inflow) => {
                let inflow = inflow.upgrade();
                drop(target);
                inflow.into_iter().for_each(|it| it.tell_stop());
            }
            Target::Channel(channel) => {
                let channel = channel.upgrade();
                drop(target);
                channel.into_iter().for_each(|it| it.aborted());
            }
        }
    }

    pub(super) fn aborts_channel<T: Send + 'static>(&self, channel: &Arc<Channel<T>>) {
        let channel: Arc<dyn Aborted> = channel.clone();
        self.0.set(Target::Channel(Arc::downgrade(&channel)));
    }
}

impl Abort {
    fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    fn set(&self, target: Target) {
        *self.target.lock().expect("nobody panics while holding this lock") = target;
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("aborted", &self.0.is_aborted()).finish()
    }
}

/// What a user wants to be called with everything that comes.
pub(super) struct Callback<T> {
    run: Box<dyn FnMut(PipeEvent<T>) + Send>,
    abort: Arc<Abort>,
    /// It has panicked.
    dead: bool,
}

impl<T> Callback<T> {
    pub(super) fn is_aborted(&self) -> bool {
        self.abort.is_aborted()
    }

    /// Calls it, and says whether it wants more.
    pub(super) fn call(&mut self, with: PipeEvent<T>) -> Flow {
        let unwanted = matches!(with, PipeEvent::Element(_)) && self.abort.is_aborted();
        if !self.dead && !unwanted {
            self.dead = catch(|| (self.run)(with)).is_err();
        }
        if self.dead || self.abort.is_aborted() { Flow::Stop } else { Flow::Continue }
    }
}

impl<T: Send + 'static> Callback<T> {
    pub(super) fn new(run: impl FnMut(PipeEvent<T>) + Send + 'static) -> (Self, AbortHandle) {
        let abort = Arc::new(Abort {
            aborted: AtomicBool::new(false),
            target: Mutex::new(Target::Nobody),
            notify: Notify::new(),
        });
        (Self { run: Box::new(run), abort: abort.clone(), dead: false }, AbortHandle(abort))
    }

    /// Has it called with what comes over a connection.
    pub(super) fn read(mut self, incoming: Incoming<T>) {
        let (end, decoded, codec) = incoming.into_parts();
        for element in decoded {
            self.call(PipeEvent::Element(element));
        }
        let Some(end) = end else {
            self.call(PipeEvent::Closed(CloseReason::ByWriter));
            return;
        };
        let inflow = end.0.clone();
        let abort = self.abort.clone();
        abort.set(Target::Inflow(Arc::downgrade(&inflow)));
        if abort.is_aborted() {
            inflow.tell_stop();
        }
        let worker = inflow.connection().worker().cloned();
        let (mut failed, mut stopped) = (None, false);
        inflow.read_direct(Box::new(move |delivery| match delivery {
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
                // Whoever aborts tells the writer already.
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
        }));
    }

    /// Has it called with what comes out of a stream of this process, from a task of its own.
    pub(super) fn read_stream(mut self, mut pipe: Pipe<T>) {
        let abort = self.abort.clone();
        tokio::spawn(task(async move {
            let mut aborted = pin!(abort.notify.notified());
            std::future::poll_fn(|cx| {
                if aborted.as_mut().poll(cx).is_ready() {
                    self.call(PipeEvent::Closed(CloseReason::ByAbort));
                    return Poll::Ready(());
                }
                while let Poll::Ready(next) = Pin::new(&mut pipe).poll_next(cx) {
                    let closed = match next {
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
                Poll::Pending
            })
            .await;
        }));
    }
}
