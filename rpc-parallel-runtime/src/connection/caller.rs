//! The calling end of a connection, and the driver task of this end.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::error::KillOutcome;
use super::failure::Loss;
use super::inbox::Inbox;
use super::opening::Opening;
use super::outbox::{WriteError, Writing};
use super::pending::{Answered, Pending};
use super::process_access::{FailureLookup, Killer, OverdueCall, ProcessAccess};
use super::shared::{Connection, Peer};
use super::task::task;
use crate::transport::{Fault, Reader};
use crate::wire::{Frame, FrameError, WorkerId, WorkerLabel};

/// The state that the clients and calls of one connection share with its driver.
pub(super) struct Caller {
    pub(super) id: WorkerId,
    pub(super) label: Arc<WorkerLabel>,
    pub(super) connection: Arc<Connection>,
    pending: Mutex<Pending>,
    /// `None` if this process cannot end the worker's process.
    killer: Option<Killer>,
    closing: AtomicBool,
    /// Set as soon as the peer is gone, also while the reason is still being looked up.
    lost: AtomicBool,
    over: Notify,
}

impl Caller {
    /// Starts the driver of a connection.
    pub(super) fn start(
        opening: Opening,
        id: WorkerId,
        label: WorkerLabel,
        process_access: ProcessAccess,
    ) -> Arc<Self> {
        let ProcessAccess { failure_lookup, killer } = process_access;
        let Opening { reader, inbox, outbox, writing, settings } = opening;
        let label = Arc::new(label);
        let peer = Peer::Worker(label.clone());
        let caller = Arc::new(Self {
            id,
            label,
            connection: Arc::new(Connection::new(peer, settings, outbox)),
            pending: Mutex::default(),
            killer,
            closing: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            over: Notify::new(),
        });
        let end = End(caller.clone());
        let driver = Driver { end, reader, inbox, writing, unwritable: false, wakers: Vec::new() };
        // The task ends with the connection, at the latest when the last client, call and pipe of
        // it are dropped.
        tokio::spawn(task(driver.run(failure_lookup)));
        caller
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no thread panics while it holds this lock")
    }

    /// Closes the connection after the driver has written all queued frames.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.connection.outbox.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.pending().lost().is_some()
    }

    /// Returns whether the driver has noticed the loss of the connection.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Requests the end of the worker's process, because a call has exceeded its deadline.
    pub(super) fn kill_worker(&self, overdue: OverdueCall) -> KillOutcome {
        let Some(kill) = &self.killer else { return KillOutcome::NotStartedHere };
        kill(overdue);
        KillOutcome::Killed
    }

    /// Waits until the connection has ended, and returns the reason.
    pub(super) async fn over(&self) -> Arc<Loss> {
        loop {
            let mut over = pin!(self.over.notified());
            // Registered before the check, so that the notification is not missed.
            over.as_mut().enable();
            if let Some(loss) = self.pending().lost() {
                return loss.clone();
            }
            over.await;
        }
    }

    /// Marks the connection as lost, before the reason is known.
    fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }

    fn fail_all(&self, loss: Loss) {
        self.mark_lost();
        let loss = Arc::new(loss);
        let wakers = self.pending().fail_all(loss.clone());
        wakers.into_iter().for_each(Waker::wake);
        self.connection.lose(&loss);
        self.over.notify_waiters();
    }
}

/// Fails all calls when the driver ends, for any reason.
struct End(Arc<Caller>);

impl Drop for End {
    fn drop(&mut self) {
        if self.0.pending().lost().is_none() {
            let why = "the tokio runtime of the connection was shut down";
            self.0.fail_all(Loss::Broken(why.to_owned()));
        }
        self.0.connection.outbox.end();
    }
}

/// The driver of the calling end: it owns the socket, reads answers, and writes queued frames.
struct Driver {
    end: End,
    reader: Box<dyn Reader>,
    inbox: Inbox,
    writing: Writing,
    /// Whether the peer has stopped reading. Its answers may still arrive.
    unwritable: bool,
    /// The wakers of the calls and pipes that the received frames concern.
    wakers: Vec<Waker>,
}

/// The events of the connection. Nothing else wakes the driver.
enum Event {
    Received,
    Unwritable,
    ClosedHere,
    ClosedThere,
    /// The peer is gone: the read failed with this error.
    Reset(io::Error),
    /// The socket of this process failed, while it was `read from` or `write to`.
    Failed(&'static str, io::Error),
}

impl Driver {
    async fn run(mut self, failure_lookup: FailureLookup) {
        let loss = loop {
            match self.next_event().await {
                Event::Received => {
                    let delivered = self.deliver_all();
                    // Frames before a protocol violation are valid.
                    self.wakers.drain(..).for_each(Waker::wake);
                    if let Err(error) = delivered {
                        break Loss::Broken(format!("the worker broke the protocol: {error}"));
                    }
                }
                Event::Unwritable => self.unwritable = true,
                Event::ClosedHere => break Loss::Closed,
                Event::ClosedThere => {
                    self.end.0.mark_lost();
                    let why = || Loss::Broken("the worker closed the connection".to_owned());
                    break failure_lookup.await.map_or_else(why, Loss::Died);
                }
                Event::Reset(error) => {
                    self.end.0.mark_lost();
                    let why = || Loss::Broken(format!("failed to read from the worker: {error}"));
                    break failure_lookup.await.map_or_else(why, Loss::Died);
                }
                // This process caused the failure, so there is no failure report to look up.
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
    /// No received or written byte is lost: `inbox` and `writing` keep their state.
    async fn next_event(&mut self) -> Event {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // Reading never waits for writing: two peers that both did that would deadlock.
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
            // Registered before the check, so that `close` is not missed.
            caller.connection.outbox.wake_later(cx);
            let closing = caller.closing.load(Ordering::Acquire);
            return if closing { Poll::Ready(Event::ClosedHere) } else { Poll::Pending };
        }
        // Loaded before writing: all frames of this process are queued before `closing` is set.
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
        // The lock is held across answers, but not while a callback of the user may run.
        let mut pending = None;
        while let Some(frame) = inbox.next_frame()? {
            if let Frame::Answer { call, outcome, value, streams } = frame {
                let ends = connection.accept(streams)?;
                let answered = Answered { outcome, value: value.keep(), ends };
                // An unknown number is not an error: the caller may have cancelled in the meantime.
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
