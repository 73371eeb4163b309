//! The end of a connection that calls, and the task that drives it.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::failure::{Loss, WorkerFailure};
use super::inbox::Inbox;
use super::opening::Opening;
use super::outbox::{WriteError, Writing};
use super::pending::{Answered, Pending};
use super::shared::{Connection, Peer};
use super::task::task;
use crate::transport::{Fault, Reader};
use crate::wire::{Frame, FrameError, WorkerId, WorkerLabel};

/// Tells, once its connection has broken, how the worker ended; `None` if it lives or nobody knows.
///
/// It is dropped with the connection, and so may hold what must not outlive it.
pub(crate) type FailureLookup = Pin<Box<dyn Future<Output = Option<WorkerFailure>> + Send>>;

/// What the clients and calls of one connection share with its driver.
pub(super) struct Caller {
    pub(super) id: WorkerId,
    pub(super) label: Arc<WorkerLabel>,
    pub(super) connection: Arc<Connection>,
    pending: Mutex<Pending>,
    closing: AtomicBool,
    /// Nobody answers any more, though it may not be known yet why.
    lost: AtomicBool,
    over: Notify,
}

impl Caller {
    /// Starts the driver of a connection.
    pub(super) fn start(
        opening: Opening,
        id: WorkerId,
        label: WorkerLabel,
        failure_lookup: FailureLookup,
    ) -> Arc<Self> {
        let Opening { reader, inbox, outbox, writing, settings } = opening;
        let label = Arc::new(label);
        let peer = Peer::Worker(label.clone());
        let caller = Arc::new(Self {
            id,
            label,
            connection: Arc::new(Connection::new(peer, settings, outbox)),
            pending: Mutex::default(),
            closing: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            over: Notify::new(),
        });
        let end = End(caller.clone());
        let driver = Driver { end, reader, inbox, writing, unwritable: false, wakers: Vec::new() };
        // It ends with the connection, which ends when the last client and call are dropped.
        tokio::spawn(task(driver.run(failure_lookup)));
        caller
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("nobody panics while holding this lock")
    }

    /// Ends the connection after what has been said already.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.connection.outbox.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.pending().lost().is_some()
    }

    /// Says whether the connection is lost, as far as its driver has seen.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits until the connection is no more.
    pub(super) async fn over(&self) -> Arc<Loss> {
        loop {
            let mut over = pin!(self.over.notified());
            // From here on the end is not missed.
            over.as_mut().enable();
            if let Some(loss) = self.pending().lost() {
                return loss.clone();
            }
            over.await;
        }
    }

    /// Notes that the connection is lost, before it is known why.
    fn begin_no_more(&self) {
        self.lost.store(true, Ordering::Release);
    }

    fn fail_all(&self, loss: Loss) {
        self.begin_no_more();
        let loss = Arc::new(loss);
        let wakers = self.pending().fail_all(loss.clone());
        wakers.into_iter().for_each(Waker::wake);
        self.connection.lose(&loss);
        self.over.notify_waiters();
    }
}

/// The driver's hold on the connection: however the driver ends, no call waits for ever.
struct End(Arc<Caller>);

impl Drop for End {
    fn drop(&mut self) {
        if self.0.pending().lost().is_none() {
            let why = "the tokio runtime that drove the connection was shut down";
            self.0.fail_all(Loss::Broken(why.to_owned()));
        }
        self.0.connection.outbox.end();
    }
}

/// Owns the socket; reads answers, writes what callers have gathered.
struct Driver {
    end: End,
    reader: Box<dyn Reader>,
    inbox: Inbox,
    writing: Writing,
    /// The peer reads no more. Answers may still be on their way.
    unwritable: bool,
    /// Those whom the frames at hand concern.
    wakers: Vec<Waker>,
}

/// All that can happen to the connection; nothing else wakes the driver.
enum Event {
    Received,
    Unwritable,
    ClosedHere,
    ClosedThere,
    /// The peer is gone, and has left this error.
    Reset(io::Error),
    /// This side cannot go on: it failed to do this to the worker.
    Failed(&'static str, io::Error),
}

impl Driver {
    async fn run(mut self, failure_lookup: FailureLookup) {
        let loss = loop {
            match self.next_event().await {
                Event::Received => {
                    let delivered = self.deliver_all();
                    // What came before a violation still holds.
                    self.wakers.drain(..).for_each(Waker::wake);
                    if let Err(error) = delivered {
                        break Loss::Broken(format!("the worker broke the protocol: {error}"));
                    }
                }
                Event::Unwritable => self.unwritable = true,
                Event::ClosedHere => break Loss::Closed,
                Event::ClosedThere => {
                    self.end.0.begin_no_more();
                    let why = || Loss::Broken("the worker closed the connection".to_owned());
                    break failure_lookup.await.map_or_else(why, Loss::Died);
                }
                Event::Reset(error) => {
                    self.end.0.begin_no_more();
                    let why = || Loss::Broken(format!("failed to read from the worker: {error}"));
                    break failure_lookup.await.map_or_else(why, Loss::Died);
                }
                // The worker has no part in it, so nothing is learned from its end.
                Event::Failed(verb, error) => {
                    break Loss::Failed(format!("failed to {verb} the worker: {error}"));
                }
            }
        };
        self.end.0.fail_all(loss);
    }

    /// Waits for the next event.
    ///
    /// # Cancel safety
    ///
    /// Nothing received or written is lost: both are remembered in `inbox` and `writing`.
    async fn next_event(&mut self) -> Event {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // Never wait for writing before reading: a peer that does the same would wait for ever.
        match self.inbox.poll_receive(&mut *self.reader, cx) {
            Poll::Ready(Ok(true)) => return Poll::Ready(Event::Received),
            Poll::Ready(Ok(false)) => return Poll::Ready(Event::ClosedThere),
            Poll::Ready(Err(error)) if Fault::of(&error) == Fault::PeerGone => {
                return Poll::Ready(Event::Reset(error));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed("read from", error)),
            Poll::Pending => {}
        }
        let caller = &self.end.0;
        if self.unwritable {
            // Registered first, so that the closing is not missed.
            caller.connection.outbox.wake_later(cx);
            let closing = caller.closing.load(Ordering::Acquire);
            return if closing { Poll::Ready(Event::ClosedHere) } else { Poll::Pending };
        }
        // Looked at first: frames are added before the connection is closed.
        let closing = caller.closing.load(Ordering::Acquire);
        match self.writing.poll_write(&caller.connection.outbox, cx) {
            Poll::Ready(Ok(())) if closing => Poll::Ready(Event::ClosedHere),
            Poll::Ready(Ok(())) if caller.closing.load(Ordering::Acquire) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            Poll::Ready(Err(WriteError::PeerGone(_))) => Poll::Ready(Event::Unwritable),
            Poll::Ready(Err(WriteError::Fatal(error))) => {
                Poll::Ready(Event::Failed("write to", error))
            }
        }
    }

    fn deliver_all(&mut self) -> Result<(), FrameError> {
        let Self { end: End(caller), inbox, wakers, .. } = self;
        let connection = &caller.connection;
        // Kept from one answer to the next, but not while a callback of the user's may run.
        let mut pending = None;
        while let Some(frame) = inbox.next_frame()? {
            if let Frame::Answer { call, outcome, value, streams } = frame {
                let ends = connection.accept(streams)?;
                let answered = Answered { outcome, value: value.keep(), ends };
                // An unknown number is no error: the caller may have given up meanwhile.
                let pending = pending.get_or_insert_with(|| caller.pending());
                wakers.extend(pending.answer(call, answered));
                continue;
            }
            pending = None;
            connection.handle(frame, wakers)?;
        }
        Ok(())
    }
}
