//! The calling end of a connection, and the driver task of this end.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::error::KillOutcome;
use super::failure::Loss;
use super::open_connections;
use super::opening::Opening;
use super::process_access::{FailureLookup, Killer, OverdueCall, ProcessAccess};
use super::receiving::Receiving;
use super::shared::{Connection, Peer};
use super::task::task;
use super::writing::{WriteError, Writing};
#[cfg(feature = "pool")]
use crate::transport::BusyPolling;
use crate::transport::{Fault, wake_after_events};
use crate::wire::{FrameError, WorkerId, WorkerLabel};

/// How long a closed connection waits for a peer that reads none of the queued frames.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// The state that the clients and calls of one connection share with its driver.
pub(super) struct Caller {
    pub(super) id: WorkerId,
    pub(super) label: Arc<WorkerLabel>,
    pub(super) connection: Arc<Connection>,
    /// `None` if this process cannot end the worker's process.
    killer: Option<Killer>,
    /// Set as soon as the peer is gone, also while the reason is still being looked up.
    lost: AtomicBool,
    /// Why the connection has ended. Set after the driver has written the last frame.
    ended: OnceLock<Arc<Loss>>,
    over: Notify,
    /// `None` when the driver has ended. The driver and a thread in `Call::wait` use `try_lock`, so
    /// neither blocks the other.
    pub(super) receiving: Mutex<Option<Receiving>>,
    /// Decides for the thread that looks for its answer. Only one thread at a time does.
    #[cfg(feature = "pool")]
    pub(super) looking: Mutex<BusyPolling>,
}

/// Keeps a connection open: the connection closes when the last hold is dropped.
pub(super) struct Hold(pub(super) Arc<Caller>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.close();
    }
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
        let peer_limits = opening.peer_limits();
        let Opening { reader, writer, inbox, traffic, settings, .. } = opening;
        let label = Arc::new(label);
        let peer = Peer::Worker(label.clone());
        let connection = Connection::new(peer, settings, &peer_limits, traffic, writer);
        let connection = Arc::new(connection);
        open_connections::add(&connection);
        let caller = Arc::new(Self {
            id,
            label,
            connection,
            killer,
            lost: AtomicBool::new(false),
            ended: OnceLock::new(),
            over: Notify::new(),
            receiving: Mutex::new(Some(Receiving::new(reader, inbox))),
            #[cfg(feature = "pool")]
            looking: Mutex::new(BusyPolling::of_waiting_thread(settings.busy_poll())),
        });
        let (end, writing) = (End(caller.clone()), Writing::default());
        let driver = Driver { end, writing, unwritable: false, flushing: None };
        // The task ends with the connection, at the latest when the last client, call and pipe of
        // it are dropped.
        tokio::spawn(task(driver.run(failure_lookup)));
        caller
    }

    /// Closes the connection. The driver still writes all queued frames.
    pub(super) fn close(&self) {
        // In a forked child another thread of the parent may have held the lock.
        if self.connection.is_inherited() {
            return;
        }
        self.connection.close();
    }

    pub(super) fn is_over(&self) -> bool {
        let locked = self.connection.lock();
        locked.is_closing || locked.lost().is_some()
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

    /// Receives and handles available bytes for a thread that waits for an answer. Returns their
    /// number: 0 if no bytes are available, or the driver is receiving them.
    #[cfg(feature = "pool")]
    pub(super) fn try_receive(&self) -> usize {
        let Some(mut receiving) = self.try_receiving() else { return 0 };
        receiving.as_mut().map_or(0, |it| it.try_receive(&self.connection))
    }

    /// Locks the receiving half, unless it is locked.
    fn try_receiving(&self) -> Option<MutexGuard<'_, Option<Receiving>>> {
        match self.receiving.try_lock() {
            Ok(receiving) => Some(receiving),
            // A waker of the user has panicked in a thread that looked. The half is still valid.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Waits until the connection has ended, and returns the reason.
    pub(super) async fn over(&self) -> Arc<Loss> {
        loop {
            let mut over = pin!(self.over.notified());
            // Registered before the check, so that the notification is not missed.
            over.as_mut().enable();
            if let Some(loss) = self.ended.get() {
                return loss.clone();
            }
            over.await;
        }
    }

    /// Marks the connection as lost, before the reason is known.
    fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Fails all calls and streams.
    fn fail_all(&self, loss: Loss) {
        self.mark_lost();
        self.connection.lose(&Arc::new(loss));
    }
}

/// Ends the connection when the driver ends, for any reason.
struct End(Arc<Caller>);

impl Drop for End {
    fn drop(&mut self) {
        let Caller { connection, ended, over, receiving, .. } = &*self.0;
        let why = "the tokio runtime of the connection was shut down";
        // It has no effect if the driver has given a reason.
        self.0.fail_all(Loss::Broken(why.to_owned()));
        connection.end();
        let receiving = receiving.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(receiving);
        ended.get_or_init(|| connection.lock().loss());
        over.notify_waiters();
    }
}

/// The driver of the calling end: it reads answers, and writes queued frames.
struct Driver {
    end: End,
    writing: Writing,
    /// Whether the peer has stopped reading. Its answers may still arrive.
    unwritable: bool,
    /// Set when the connection was closed.
    flushing: Option<Flushing>,
}

/// The rest of a closed connection, in which queued frames are written.
struct Flushing {
    /// The number of written transmits when the timer was started.
    written: u64,
    timer: Pin<Box<Sleep>>,
}

/// The events of the connection. Nothing else wakes the driver.
enum Event {
    /// The peer has broken the protocol.
    Broken(FrameError),
    Unwritable,
    /// This side has closed the connection.
    Closing,
    /// The closed connection has nothing left to write, or its peer does not read.
    Flushed,
    ClosedThere,
    /// The peer is gone: the read failed with this error.
    Reset(io::Error),
    /// The socket of this process failed, while it was `read from` or `write to`.
    Failed(&'static str, io::Error),
}

impl Driver {
    async fn run(mut self, failure_lookup: FailureLookup) {
        let loss = loop {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Broken(error) => {
                    break Loss::Broken(format!("the worker broke the protocol: {error}"));
                }
                Event::Unwritable => self.unwritable = true,
                Event::Closing => {
                    self.end.0.fail_all(Loss::Closed);
                    let (written, timer) = (self.writing.written, Box::pin(sleep(FLUSH_TIMEOUT)));
                    self.flushing = Some(Flushing { written, timer });
                }
                Event::Flushed => break Loss::Closed,
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

    /// Waits for the next event. No received or written byte is lost if the driver is polled for
    /// another reason.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // Reading never waits for writing: two peers that both did that would deadlock.
        if let Poll::Ready(event) = self.poll_receive(cx) {
            return Poll::Ready(event);
        }
        let connection = &self.end.0.connection;
        let mut is_flushed = false;
        if !self.unwritable {
            match self.writing.poll_write(connection, &mut Vec::new(), cx) {
                // The driver is registered, and `close` wakes it.
                Poll::Ready(Ok(())) if !self.writing.is_closing => return Poll::Pending,
                Poll::Ready(Ok(())) => is_flushed = true,
                // Registering the driver would wake it at once, before other tasks run.
                Poll::Pending if self.writing.has_yielded => return Poll::Pending,
                Poll::Pending => {}
                Poll::Ready(Err(WriteError::PeerGone(_))) => {
                    return Poll::Ready(Event::Unwritable);
                }
                Poll::Ready(Err(WriteError::Fatal(error))) => {
                    return Poll::Ready(Event::Failed("write to", error));
                }
            }
        }
        // Registered in the same lock as the check, so that `close` is not missed.
        let mut locked = connection.lock();
        locked.set_driver(cx);
        if !locked.is_closing {
            return Poll::Pending;
        }
        let Some(flushing) = &mut self.flushing else { return Poll::Ready(Event::Closing) };
        if self.unwritable || is_flushed && locked.machine.is_idle() {
            return Poll::Ready(Event::Flushed);
        }
        drop(locked);
        if flushing.written != self.writing.written {
            flushing.written = self.writing.written;
            flushing.timer = Box::pin(sleep(FLUSH_TIMEOUT));
        }
        flushing.timer.as_mut().poll(cx).map(|()| Event::Flushed)
    }

    /// Receives and handles frames until one ends the connection.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let Self { end: End(caller), writing, flushing, .. } = self;
        let Some(mut receiving) = caller.try_receiving() else {
            // A thread that looks for its answer is receiving. It handles what it receives, but does
            // not wait for more.
            wake_after_events(cx);
            return Poll::Pending;
        };
        let receiving = receiving.as_mut().expect("only the end of the driver removes it");
        if let Some(error) = receiving.take_broken() {
            return Poll::Ready(Event::Broken(error));
        }
        if mem::take(&mut writing.is_sharing) {
            // This task has woken itself, and an answer may have arrived.
            receiving.reader.look();
        }
        loop {
            return Poll::Ready(match ready!(receiving.poll_receive(cx)) {
                Ok(true) => {
                    writing.has_woken = true;
                    let connection = &caller.connection;
                    match receiving.deliver(connection, connection.lock_as_driver()) {
                        Ok(()) => continue,
                        Err(error) => Event::Broken(error),
                    }
                }
                Ok(false) | Err(_) if flushing.is_some() => Event::Flushed,
                Ok(false) => Event::ClosedThere,
                Err(error) if Fault::of(&error) == Fault::PeerGone => Event::Reset(error),
                Err(error) => Event::Failed("read from", error),
            });
        }
    }
}
