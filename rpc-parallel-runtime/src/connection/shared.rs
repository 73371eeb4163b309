//! One end of a connection, as its clients, calls, pipes and driver share it.

use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashMap;
use tokio::runtime::Handle;

use super::delivery::{Deliver, Delivery, Flow};
use super::failure::Loss;
use super::panics::{install_hook, is_silent};
use super::pipe::{PipeError, PipeErrorKind};
use super::sync::{Mutex, MutexGuard};
use super::traffic::Traffic;
use crate::protocol::{
    Chunk, DirectStep, Limits, Machine, ReadEnded, Received, Side, Ticket, Transmit,
};
use crate::transport::Writer;
use crate::wire::{Body, Frame, FrameError, ReceiveLimits, Settings, StreamId, WorkerLabel};

/// One end of a connection.
///
/// The [`Machine`] behind the lock makes all decisions of the protocol. The guard of the lock,
/// [`Locked`], notifies tasks, drops values and calls callbacks after it has released the lock.
pub(crate) struct Connection {
    pub(super) peer: Peer,
    pub(super) settings: Settings,
    /// The size limit of the messages that this end sends, in bytes: the smaller one of both ends.
    pub(super) max_message_size: usize,
    /// The window of a stream that this end opens and writes, unless it has its own, in bytes.
    pub(super) write_window: u32,
    /// The runtime of the tasks that feed pipes.
    pub(super) runtime: Handle,
    pub(super) traffic: &'static Traffic,
    pub(super) writer: Box<dyn Writer>,
    state: Mutex<State>,
}

/// The process at the other end.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    Worker(Arc<WorkerLabel>),
    Caller,
}

/// What keeps a connection open, for as long as it exists.
pub(super) type Keeper = Arc<dyn Any + Send + Sync>;

/// The state of a connection.
pub(super) struct State {
    pub(super) machine: Machine<Waker>,
    /// The waker of the driver. `None` while the driver is awake.
    driver: Option<Waker>,
    /// What the open streams keep.
    keepers: FxHashMap<StreamId, Keeper>,
    /// The callbacks that read streams, except for those that are running.
    callbacks: FxHashMap<StreamId, Deliver>,
    /// Why the connection was lost.
    lost: Option<Arc<Loss>>,
    /// Whether the connection ends as soon as all frames are written.
    pub(super) is_closing: bool,
    /// The number of streams that were counted as open.
    counted: usize,
}

impl Connection {
    pub(super) fn new(
        peer: Peer,
        settings: Settings,
        peer_limits: &ReceiveLimits,
        traffic: &'static Traffic,
        writer: Box<dyn Writer>,
    ) -> Self {
        // Panics of streams and callbacks of pipes are reported to the peer.
        install_hook();
        let side = match peer {
            Peer::Worker(_) => Side::Calling,
            Peer::Caller => Side::Answering,
        };
        let limits = Limits::new(&ReceiveLimits::of(&settings), peer_limits);
        let state = State {
            machine: Machine::new(side, limits),
            driver: None,
            keepers: FxHashMap::default(),
            callbacks: FxHashMap::default(),
            lost: None,
            is_closing: false,
            counted: 0,
        };
        let (runtime, state) = (Handle::current(), Mutex::new(state));
        let max_message_size = settings.max_message_size().min(peer_limits.max_message_size);
        let write_window = limits.send.first_window;
        Self { peer, settings, max_message_size, write_window, runtime, traffic, writer, state }
    }

    /// Returns the counters of this connection's traffic.
    pub(super) fn traffic(&self) -> &'static Traffic {
        self.traffic
    }

    /// Returns the worker at the other end, if it is one.
    pub(super) fn worker(&self) -> Option<&WorkerLabel> {
        match &self.peer {
            Peer::Worker(label) => Some(label),
            Peer::Caller => None,
        }
    }

    /// Locks the state for the driver, which is awake: nothing has to wake it.
    pub(super) fn lock_as_driver(&self) -> Locked<'_> {
        let mut locked = self.lock();
        locked.driver = None;
        locked.machine.note_driver();
        locked
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().expect("no thread panics while it holds this lock");
        Locked { connection: self, state: Some(state) }
    }

    /// Returns whether the connection belongs to the process from which this one was forked.
    pub(super) fn is_inherited(&self) -> bool {
        self.writer.is_inherited()
    }

    /// Returns the text of the error for a message that would open too many streams. It names the
    /// smaller limit of both ends.
    pub(super) fn too_many_pipes(&self, locked: &Locked<'_>) -> String {
        let limits = locked.machine.limits();
        let of_peer = match &self.peer {
            _ if limits.receive.streams <= limits.send.streams => "",
            Peer::Worker(_) => " of the worker",
            Peer::Caller => " of the caller",
        };
        let max = limits.open_streams();
        format!("more than {max} pipes would be open on its connection; raise `max_pipes`{of_peer}")
    }

    /// Writes bytes that the machine has handed out. The driver writes the rest. Returns whether
    /// all of them were written.
    pub(super) fn write_now(&self, mut transmit: Transmit) -> bool {
        // An error is ignored here, because the driver gets it again and handles it.
        if !is_silent()
            && let Ok(written) = try_write(&*self.writer, &transmit)
        {
            self.traffic.sent(written);
            transmit.advance(written);
        }
        let is_written = transmit.is_written();
        self.lock().machine.take_back(transmit);
        is_written
    }

    /// Writes all queued frames for which the transport has room. Returns `false` if the connection
    /// is locked.
    pub(super) fn try_write_queued(&self) -> bool {
        loop {
            let Ok(state) = self.state.try_lock() else { return false };
            let mut locked = Locked { connection: self, state: Some(state) };
            let transmit = locked.machine.transmit();
            drop(locked);
            if !transmit.is_some_and(|it| self.write_now(it)) {
                return true;
            }
        }
    }

    /// Waits until a frame is written, or is dropped because the connection has ended.
    pub(super) fn poll_written(&self, ticket: Ticket, cx: &Context<'_>) -> Poll<()> {
        match self.lock().machine.is_written(ticket, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Handles a received frame that is no call and no cancel. Releases the lock while a callback
    /// runs.
    pub(super) fn handle<'a>(
        &'a self,
        mut locked: Locked<'a>,
        frame: Frame<'_>,
    ) -> Result<Locked<'a>, FrameError> {
        match locked.machine.handle(frame)? {
            Received::Handled => Ok(locked),
            Received::Deliver(stream) => Ok(self.deliver(locked, stream, frame)),
        }
    }

    /// Calls the callback of a stream with the content of a frame, while the lock is released.
    pub(super) fn deliver<'a>(
        &'a self,
        mut locked: Locked<'a>,
        stream: StreamId,
        frame: Frame<'_>,
    ) -> Locked<'a> {
        let Some(mut callback) = locked.callbacks.remove(&stream) else { return locked };
        drop(locked);
        let flow = match frame {
            Frame::Items { count, elements, .. } => {
                callback(Delivery::Elements { count, elements })
            }
            Frame::Skipped { error, .. } => callback(Delivery::Skipped(self.error_of(error))),
            _ => Flow::Continue,
        };
        let cost = Chunk::cost_in(&frame);
        self.run_callback(stream, callback, flow, cost);
        self.lock()
    }

    /// Calls a callback with everything that is buffered of a stream, and lets the driver call it
    /// from then on.
    ///
    /// `flow` is what the callback has returned before, and `cost` that of the chunk that it got.
    pub(super) fn run_callback(
        &self,
        stream: StreamId,
        mut callback: Deliver,
        mut flow: Flow,
        mut cost: usize,
    ) {
        loop {
            let mut locked = self.lock();
            if flow == Flow::Stop {
                locked.machine.stop(stream);
            }
            if cost > 0 {
                locked.machine.note_read(stream, cost);
            }
            match locked.machine.next_step(stream) {
                DirectStep::Idle => {
                    locked.callbacks.insert(stream, callback);
                    return;
                }
                DirectStep::Chunk(chunk) => {
                    drop(locked);
                    cost = chunk.cost();
                    flow = match chunk {
                        Chunk::Elements { count, bytes } => {
                            let elements = Body::shared(&bytes);
                            callback(Delivery::Elements { count, elements })
                        }
                        Chunk::Skipped(error) => callback(Delivery::Skipped(self.error_of(&error))),
                    };
                }
                DirectStep::Ended(ended) => {
                    let end = locked.result_of(ended, self.worker());
                    drop(locked);
                    callback(Delivery::End(end));
                    return;
                }
            }
        }
    }

    /// Decodes the error of an element that the peer failed to send.
    pub(super) fn error_of(&self, error: &[u8]) -> PipeError {
        let error = PipeError::of_frame(error, self.worker());
        error.err().unwrap_or_else(|| unreachable!("the machine refuses empty errors"))
    }

    /// Fails all calls and streams, because the connection is lost. Queued frames are still
    /// written.
    pub(super) fn lose(&self, loss: &Arc<Loss>) {
        let mut locked = self.lock();
        locked.lost.get_or_insert_with(|| loss.clone());
        locked.machine.lose();
    }

    /// Ends the transport, and drops all queued and all later frames.
    pub(super) fn end(&self) {
        self.writer.close();
        self.lock().machine.end();
    }

    /// Ends the transport. Received bytes can still be read.
    pub(super) fn hang_up(&self) {
        self.writer.close();
    }

    /// Ends the connection as soon as the driver has written all queued frames.
    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.wake_driver();
    }

    /// Wakes the driver, unless it is awake.
    pub(super) fn wake_driver(&self) {
        let driver = self.lock().driver.take();
        driver.into_iter().for_each(Waker::wake);
    }

    /// Returns the number of buffered bytes, and its limit.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> (usize, usize) {
        // The last element of each stream may overdraw its window.
        let overdraft = crate::wire::largest_frame(self.settings.max_message_size());
        self.lock().machine.kept(overdraft)
    }

    /// Returns how many streams are open.
    pub(super) fn open_streams(&self) -> usize {
        self.lock().machine.open_streams()
    }
}

/// Writes as much of a transmit as the transport has room for.
pub(super) fn try_write(writer: &dyn Writer, transmit: &Transmit) -> io::Result<usize> {
    let segments = transmit.segments();
    let parts = if segments[1].is_empty() { 1 } else { 2 };
    writer.try_write(&segments[..parts])
}

impl State {
    /// Returns why the connection was lost, if it was.
    pub(super) fn lost(&self) -> Option<&Arc<Loss>> {
        self.lost.as_ref()
    }

    /// Returns why a call or a stream has failed.
    pub(super) fn loss(&self) -> Arc<Loss> {
        self.lost.clone().unwrap_or_else(|| Arc::new(Loss::Closed))
    }

    /// Returns how a stream has ended for its reader.
    pub(super) fn result_of(
        &self,
        ended: ReadEnded,
        worker: Option<&WorkerLabel>,
    ) -> Result<(), PipeError> {
        match ended {
            ReadEnded::ByWriter(error) => PipeError::of_frame(&error, worker),
            ReadEnded::Abandoned => Err(PipeError::new(worker, PipeErrorKind::Cancelled)),
            ReadEnded::Lost => Err(PipeError::lost(&self.loss(), worker)),
        }
    }

    /// Registers the waker of the driver.
    pub(super) fn set_driver(&mut self, cx: &Context<'_>) {
        self.machine.note_driver();
        match &mut self.driver {
            Some(known) if known.will_wake(cx.waker()) => {}
            driver => *driver = Some(cx.waker().clone()),
        }
    }

    /// Keeps a value while a stream is open. Returns the one that was kept before.
    pub(super) fn keep(&mut self, stream: StreamId, keeper: Option<Keeper>) -> Option<Keeper> {
        match keeper {
            Some(keeper) if self.machine.is_open(stream) => self.keepers.insert(stream, keeper),
            keeper => self.keepers.remove(&stream).or(keeper),
        }
    }
}

/// The locked state of a connection.
///
/// Dropping it releases the lock, and then does what must not happen before: it wakes the tasks
/// that the changes concern, drops what ended streams have kept, and calls the callbacks of streams
/// that have ended.
pub(super) struct Locked<'a> {
    connection: &'a Connection,
    /// `None` only while this is dropped.
    state: Option<MutexGuard<'a, State>>,
}

impl Deref for Locked<'_> {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        self.state.as_ref().expect("the lock is held until this is dropped")
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("the lock is held until this is dropped")
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        let State { machine, driver, is_closing, .. } = &mut *state;
        let must_write = machine.can_transmit() || *is_closing && machine.is_idle();
        let driver = if must_write { driver.take() } else { None };
        if machine.has_changes() {
            self.connection.release(state);
        } else {
            drop(state);
        }
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Connection {
    /// Releases the lock, and does what the changes of the machine require.
    fn release(&self, mut state: MutexGuard<'_, State>) {
        let State { machine, keepers, callbacks, counted, .. } = &mut *state;
        let (woken, dropped) = (machine.take_woken(), machine.take_dropped());
        let deliver = machine.take_deliver();
        let ended = machine.take_ended();
        let kept: Vec<_> = ended.iter().filter_map(|it| keepers.remove(it)).collect();
        let callbacks = deliver.iter().filter_map(|it| Some((*it, callbacks.remove(it)?)));
        let callbacks: Vec<_> = callbacks.collect();
        let before = mem::replace(counted, machine.open_streams());
        self.traffic.pipes_changed(before, *counted);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        drop(dropped);
        drop(kept);
        for (stream, callback) in callbacks {
            self.run_callback(stream, callback, Flow::Continue, 0);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("open_streams", &self.open_streams())
            .finish_non_exhaustive()
    }
}
