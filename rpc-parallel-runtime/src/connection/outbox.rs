//! The frames of one end of a connection that are not written yet.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;

use super::panics::is_silent;
use super::pause::Pause;
use super::sending::{SendOrder, Sending};
use super::traffic::Traffic;
use crate::transport::{Fault, Writer};
use crate::wire::{Large, MAX_FRAGMENT_LEN, StreamId, TransferId};

/// The number of queued bytes from which on calls wait before they add a frame.
const FULL: usize = 1024 * 1024;

/// The size of a fragment while other frames are written too, in bytes.
const SMALL_FRAGMENT: usize = 16 * 1024;

/// The number of small fragments after another frame was written.
const SMALL_FRAGMENTS: u32 = 64;

/// The maximum capacity of a buffer that is kept for reuse, in bytes.
const KEPT: usize = 256 * 1024;

/// The outgoing frames of one end of a connection.
///
/// Tasks and threads add frames, and the driver writes the queued ones together. If the queue is
/// empty, the task that adds a frame may write it directly, which saves a lone call one turn of the
/// driver. Large frames are written in fragments, and alternate with other frames.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Whether the queue was full at the last change. Reading it needs no lock.
    full: AtomicBool,
    writer: Box<dyn Writer>,
    pub(super) traffic: &'static Traffic,
}

#[derive(Default)]
struct Queue {
    /// The rest of a frame that was written in part: it must be written first.
    torn: Vec<u8>,
    bytes: Vec<u8>,
    large: Sending,
    /// Whether the driver holds bytes that must be written before those of the queue.
    driver_writes: bool,
    /// Whether the connection has ended, so that frames are dropped instead of queued.
    ended: bool,
    /// The waker of the driver. `None` while the driver is awake.
    driver: Option<Waker>,
    /// The wakers of tasks that wait for room, or until their frame is written.
    waiting: Vec<Waker>,
    /// The total number of bytes that were added to the queue.
    added: u64,
    /// How many of them the driver has taken.
    taken: u64,
    /// How many of them are written.
    written: u64,
}

/// The state of a frame that was added to an [`Outbox`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ticket {
    Written,
    /// The frame was dropped, because the connection had ended.
    Dropped,
    /// The frame is written when this total number of bytes is written.
    Queued(u64),
    /// The frame is written when this large frame is written.
    Large(TransferId),
}

impl Outbox {
    pub(super) fn new(writer: Box<dyn Writer>, traffic: &'static Traffic) -> Self {
        Self { queue: Mutex::default(), full: AtomicBool::new(false), writer, traffic }
    }

    /// Adds a frame for the driver to write together with others.
    pub(super) fn add(&self, frame: &[u8], order: SendOrder) -> Ticket {
        if frame.is_empty() {
            return Ticket::Written;
        }
        let mut queue = self.lock();
        let ticket = queue.add(frame, order);
        self.note_room(&queue);
        Self::wake_driver(queue);
        ticket
    }

    /// Writes a frame directly if no other frame is queued. The driver writes the rest.
    pub(super) fn write_now(&self, frame: &[u8], order: SendOrder) -> Ticket {
        let mut queue = self.lock();
        if queue.ended {
            return Ticket::Dropped;
        }
        let first = queue.bytes.is_empty() && !queue.driver_writes && !queue.large.delays(order);
        // An error is ignored here, because the driver gets it again and handles it.
        let written =
            if first && !is_silent() { self.writer.try_write(frame).unwrap_or(0) } else { 0 };
        self.traffic.sent(written);
        if written == frame.len() {
            return Ticket::Written;
        }
        let ticket = match written {
            0 => queue.add(frame, order),
            _ => queue.tear(&frame[written..]),
        };
        self.note_room(&queue);
        Self::wake_driver(queue);
        ticket
    }

    /// Returns whether the connection belongs to the process from which this one was forked.
    pub(super) fn is_inherited(&self) -> bool {
        self.writer.is_inherited()
    }

    /// Writes the frame of a destructor directly. In a forked child it writes nothing, because the
    /// connection belongs to the parent.
    pub(super) fn write_at_end(&self, frame: &[u8], order: SendOrder) {
        if !self.is_inherited() {
            self.write_now(frame, order);
        }
    }

    /// Adds a frame that is written in fragments, and the streams that it opens.
    pub(super) fn add_large(&self, frame: Large, order: SendOrder, opens: Vec<StreamId>) -> Ticket {
        let mut queue = self.lock();
        if queue.ended {
            return Ticket::Dropped;
        }
        let transfer = queue.large.begin(frame, order, opens);
        self.note_room(&queue);
        Self::wake_driver(queue);
        Ticket::Large(transfer)
    }

    /// Abandons a large frame, and returns the streams that it would have opened. Returns `None` if
    /// the frame is written completely. Frames of these streams are dropped until
    /// [`forget`](Self::forget) is called.
    pub(super) fn abandon(&self, transfer: TransferId) -> Option<Vec<StreamId>> {
        let mut queue = self.lock();
        let mut frame = Vec::new();
        let abandoned = queue.large.abandon(transfer, &mut frame);
        queue.add(&frame, SendOrder::Any);
        self.note_room(&queue);
        Self::wake_driver(queue);
        abandoned
    }

    /// Forgets streams of an abandoned frame, for which no further frames are added.
    pub(super) fn forget(&self, streams: &[StreamId]) {
        self.lock().large.forget(streams);
    }

    /// Waits for room.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.full.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        let mut queue = self.lock();
        if queue.bytes.len() < FULL {
            return Poll::Ready(());
        }
        queue.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until a frame is written, or is dropped because the connection has ended.
    pub(super) fn poll_written(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        let written = match ticket {
            Ticket::Written | Ticket::Dropped => true,
            Ticket::Queued(at) => queue.written >= at,
            Ticket::Large(transfer) => !queue.large.holds(transfer),
        };
        if written {
            return Poll::Ready(());
        }
        queue.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// Shuts down the transport for both of its halves. Received bytes can still be read.
    pub(super) fn hang_up(&self) {
        self.writer.end();
    }

    /// Shuts down the transport for both of its halves, drops all queued and later frames, and
    /// wakes all waiting tasks.
    pub(super) fn end(&self) {
        self.writer.end();
        let mut queue = self.lock();
        (queue.torn, queue.bytes) = (Vec::new(), Vec::new());
        queue.large = Sending::default();
        (queue.written, queue.ended) = (u64::MAX, true);
        self.note_room(&queue);
        let waiting = mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Wakes the driver for another reason than a frame.
    pub(super) fn wake(&self) {
        Self::wake_driver(self.lock());
    }

    /// Registers the waker of a driver that does not write: added frames and [`wake`](Self::wake)
    /// wake it.
    pub(super) fn wake_later(&self, cx: &Context<'_>) {
        self.lock().driver = Some(cx.waker().clone());
    }

    /// Returns whether the queue was full at the last change.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn note_room(&self, queue: &Queue) {
        let full = queue.bytes.len() >= FULL || queue.large.is_full();
        self.full.store(full, Ordering::Relaxed);
    }

    fn wake_driver(mut queue: MutexGuard<'_, Queue>) {
        let driver = queue.driver.take();
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics while it holds this lock")
    }
}

impl Queue {
    fn add(&mut self, frame: &[u8], order: SendOrder) -> Ticket {
        if self.ended {
            return Ticket::Dropped;
        }
        if let Some(transfer) = self.large.hold_back(frame, order) {
            return Ticket::Large(transfer);
        }
        self.bytes.extend_from_slice(frame);
        self.added += frame.len() as u64;
        Ticket::Queued(self.added)
    }

    /// Stores the rest of a frame for the driver. Until it is written, only the driver writes.
    fn tear(&mut self, rest: &[u8]) -> Ticket {
        self.torn.extend_from_slice(rest);
        self.driver_writes = true;
        self.added += rest.len() as u64;
        Ticket::Queued(self.added)
    }

    fn take_torn(&mut self) -> Vec<u8> {
        self.taken += self.torn.len() as u64;
        mem::take(&mut self.torn)
    }
}

/// The driver's side of an [`Outbox`]: the bytes it is writing.
#[derive(Default)]
pub(super) struct Writing {
    /// The fragment that is being written: its header and its bytes.
    fragment: Option<(Vec<u8>, Bytes)>,
    /// Written after the fragment.
    bytes: Vec<u8>,
    /// The number of written bytes of the fragment or of `bytes`.
    written: usize,
    /// Whether only the driver may write, until these bytes are written.
    claimed: bool,
    /// Whether the next frame must be a fragment.
    owes_fragment: bool,
    /// Whether other frames have been written since the last fragment.
    wrote_others: bool,
    /// The number of further fragments that are small, because other frames wait for their end.
    small_fragments: u32,
    /// Whether all frames are dropped, because the peer does not read.
    is_discarding: bool,
    /// Runs after a transient fault.
    pause: Pause,
    /// The error of [`write_some`](Self::write_some), which the next
    /// [`poll_write`](Self::poll_write) returns.
    failed: Option<WriteError>,
}

/// The connection can no longer be written to.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The peer reads no more. Its earlier frames are still valid, and the end of the stream is
    /// detected after all of them are read.
    PeerGone(io::Error),
    /// The socket failed, so the connection cannot continue.
    Fatal(io::Error),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::PeerGone(error) | WriteError::Fatal(error) => error,
        }
    }
}

impl Writing {
    /// Returns the buffer for frames of the driver, which are written before those of the queue.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Returns whether the buffer or the queue is full, so that no frames should be added.
    pub(super) fn is_full(&self, outbox: &Outbox) -> bool {
        self.bytes.len() >= FULL || outbox.is_full()
    }

    /// Drops all current and later frames, because the peer does not read.
    pub(super) fn discard(&mut self) {
        self.is_discarding = true;
        self.pause = Pause::default();
    }

    /// Writes as much as the transport takes without waiting.
    pub(super) fn write_some(&mut self, outbox: &Outbox, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_write(outbox, cx) {
            self.failed = Some(error);
        }
    }

    /// Writes all frames. It is ready when none is left.
    ///
    /// If it is pending, the driver is woken when it can continue. If it is ready, the driver is
    /// woken when a frame is added. A write that fails with a transient fault is retried after a
    /// pause, for as long as the fault lasts.
    pub(super) fn poll_write(
        &mut self,
        outbox: &Outbox,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        ready!(self.pause.poll(cx));
        if !self.claimed && !self.bytes.is_empty() {
            self.claim(outbox);
        }
        loop {
            if self.is_discarding {
                (self.fragment, self.written) = (None, 0);
                self.bytes.clear();
            }
            let written = if let Some((head, body)) = &self.fragment {
                match self.written.checked_sub(head.len()) {
                    Some(of_body) if of_body == body.len() => {
                        (self.fragment, self.written) = (None, 0);
                        // Other tasks of this thread run between two fragments. Otherwise a peer
                        // that reads as fast as this task writes would keep the thread busy.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Some(of_body) => outbox.writer.try_write(&body[of_body..]),
                    None => outbox.writer.try_write_both(&head[self.written..], body),
                }
            } else if self.written < self.bytes.len() {
                self.wrote_others = true;
                outbox.writer.try_write(&self.bytes[self.written..])
            } else if self.take(outbox, cx) {
                continue;
            } else {
                return Poll::Ready(Ok(()));
            };
            let error = match written {
                Ok(written) => {
                    self.pause.reset();
                    self.written += written;
                    outbox.traffic.sent(written);
                    continue;
                }
                Err(error) if Fault::of(&error) == Fault::NotReady => {
                    match ready!(outbox.writer.poll_writable(cx)) {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            match Fault::of(&error) {
                Fault::NotReady | Fault::Transient => {
                    self.pause.begin();
                    ready!(self.pause.poll(cx));
                }
                Fault::PeerGone => return Poll::Ready(Err(WriteError::PeerGone(error))),
                Fault::Fatal => return Poll::Ready(Err(WriteError::Fatal(error))),
            }
        }
    }

    /// Returns the size of the next fragment, and sets the send buffer of the transport
    /// accordingly. `is_idle` states whether no large frame is queued.
    ///
    /// A large fragment and a large send buffer delay frames that are added after them. So both are
    /// large only while no other frames are written.
    fn fragment_size(&mut self, is_idle: bool, outbox: &Outbox) -> usize {
        let before = self.small_fragments;
        self.small_fragments = match (is_idle, mem::take(&mut self.wrote_others)) {
            (true, _) => 0,
            (false, true) => SMALL_FRAGMENTS,
            (false, false) => before.saturating_sub(1),
        };
        if (before > 0) != (self.small_fragments > 0) {
            outbox.writer.use_large_buffer(self.small_fragments == 0);
        }
        if self.small_fragments > 0 { SMALL_FRAGMENT } else { MAX_FRAGMENT_LEN }
    }

    /// Prevents other tasks from writing until the driver's own frames are written.
    fn claim(&mut self, outbox: &Outbox) {
        let mut queue = outbox.lock();
        queue.driver_writes = true;
        let torn = queue.take_torn();
        drop(queue);
        self.bytes.splice(0..0, torn);
        self.claimed = true;
    }

    /// Takes the next frames of the queue. Returns `false` if it is empty.
    fn take(&mut self, outbox: &Outbox, cx: &mut Context<'_>) -> bool {
        self.bytes.clear();
        self.written = 0;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        let mut guard = outbox.lock();
        let queue = &mut *guard;
        // The frames that were taken before are written now.
        queue.written = queue.written.max(queue.taken);
        if !queue.torn.is_empty() {
            self.bytes = queue.take_torn();
        } else if self.owes_fragment || queue.bytes.is_empty() {
            let max = self.fragment_size(queue.large.is_empty(), outbox);
            self.fragment = queue.large.next_fragment(max);
            let released = queue.large.take_released();
            queue.added += released.len() as u64;
            queue.bytes.extend_from_slice(&released);
        }
        // Fragments and other frames alternate.
        self.owes_fragment = self.fragment.is_none();
        if self.fragment.is_none() && self.bytes.is_empty() {
            mem::swap(&mut self.bytes, &mut queue.bytes);
            queue.taken = queue.added;
        }
        let taken = !self.bytes.is_empty() || self.fragment.is_some();
        queue.driver_writes = taken;
        self.claimed = taken;
        if !taken && !queue.driver.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            queue.driver = Some(cx.waker().clone());
        }
        outbox.note_room(queue);
        let waiting = mem::take(&mut queue.waiting);
        drop(guard);
        waiting.into_iter().for_each(Waker::wake);
        taken
    }
}
