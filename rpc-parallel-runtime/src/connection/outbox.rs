//! What waits to be written, and who writes it.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;

use super::panics::is_silent;
use super::pause::Pause;
use super::sending::{Lane, Sending};
use super::traffic::Traffic;
use crate::transport::{Fault, Writer};
use crate::wire::{Large, PART, StreamId, TransferId};

/// Beyond this many bytes waiting, whoever would add more waits too.
const FULL: usize = 1024 * 1024;

/// How large a part of a large frame is while other frames are written too.
const SMALL_PART: usize = 16 * 1024;

/// For how many parts that holds after another frame.
const SMALL_PARTS: u32 = 64;

/// Buffers larger than this are not kept for reuse.
const KEPT: usize = 256 * 1024;

/// The frames that one end of a connection has to say.
///
/// Several may add frames; the driver writes what has gathered in one piece. Only a frame that is
/// alone is written at once by whoever says it, which spares a lone call a turn of the driver.
/// Large frames are written in parts, between which the others go.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Whether there is no room, as was last seen: spares a call the lock where there is.
    full: AtomicBool,
    writer: Box<dyn Writer>,
    pub(super) traffic: &'static Traffic,
}

#[derive(Default)]
struct Queue {
    /// The rest of a frame that has begun to be written: nothing may come before it.
    torn: Vec<u8>,
    bytes: Vec<u8>,
    large: Sending,
    /// The driver holds bytes that come before those of the queue.
    driver_writes: bool,
    /// Wakes the driver; taken while it is awake already.
    driver: Option<Waker>,
    /// Those who wait for room, or until what they have said is written.
    waiting: Vec<Waker>,
    /// How many bytes have gone through the queue, and how many of them are written.
    added: u64,
    taken: u64,
    written: u64,
}

/// How far a frame has come that was given to an [`Outbox`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ticket {
    Written,
    /// Written when so many bytes are.
    Queued(u64),
    /// Written when this large frame is.
    Large(TransferId),
}

impl Outbox {
    pub(super) fn new(writer: Box<dyn Writer>, traffic: &'static Traffic) -> Self {
        Self { queue: Mutex::default(), full: AtomicBool::new(false), writer, traffic }
    }

    /// Adds a frame for the driver to write together with others.
    pub(super) fn add(&self, frame: &[u8], lane: Lane) -> Ticket {
        if frame.is_empty() {
            return Ticket::Written;
        }
        let mut queue = self.lock();
        let ticket = queue.add(frame, lane);
        self.note_room(&queue);
        Self::wake_driver(queue);
        ticket
    }

    /// Writes a frame at once if nothing waits before it; the driver writes what does not go.
    pub(super) fn write_now(&self, frame: &[u8], lane: Lane) -> Ticket {
        let mut queue = self.lock();
        let first = queue.bytes.is_empty() && !queue.driver_writes && !queue.large.holds_up(lane);
        // The driver meets an error again, and knows what to do about it.
        let written =
            if first && !is_silent() { self.writer.try_write(frame).unwrap_or(0) } else { 0 };
        self.traffic.sent(written);
        if written == frame.len() {
            return Ticket::Written;
        }
        let ticket = match written {
            0 => queue.add(frame, lane),
            _ => queue.tear(&frame[written..]),
        };
        self.note_room(&queue);
        Self::wake_driver(queue);
        ticket
    }

    /// Says whether the connection belongs to the process that forked this one.
    pub(super) fn is_inherited(&self) -> bool {
        self.writer.is_inherited()
    }

    /// Writes the frame of a destructor at once, except in a forked child: destructors run there as
    /// well, and the connection is its parent's.
    pub(super) fn write_at_end(&self, frame: &[u8], lane: Lane) {
        if !self.is_inherited() {
            self.write_now(frame, lane);
        }
    }

    /// Adds a frame that is written in parts, and that opens some streams.
    pub(super) fn add_large(&self, frame: Large, lane: Lane, opens: Vec<StreamId>) -> Ticket {
        let mut queue = self.lock();
        let transfer = queue.large.begin(frame, lane, opens);
        self.note_room(&queue);
        Self::wake_driver(queue);
        Ticket::Large(transfer)
    }

    /// Takes a large frame back, and returns the streams that it would have opened; `None` if all
    /// of it has been written. Until they are forgotten, nothing is written on those streams.
    pub(super) fn abandon(&self, transfer: TransferId) -> Option<Vec<StreamId>> {
        let mut queue = self.lock();
        let mut frame = Vec::new();
        let abandoned = queue.large.abandon(transfer, &mut frame);
        queue.add(&frame, Lane::Any);
        self.note_room(&queue);
        Self::wake_driver(queue);
        abandoned
    }

    /// Forgets streams of an abandoned frame, on which nothing is said any more.
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

    /// Waits until a frame is written.
    pub(super) fn poll_written(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        let written = match ticket {
            Ticket::Written => true,
            Ticket::Queued(at) => queue.written >= at,
            Ticket::Large(transfer) => !queue.large.holds(transfer),
        };
        if written {
            return Poll::Ready(());
        }
        queue.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the transport, whoever else still holds a half of it. What the peer has said can still
    /// be read.
    pub(super) fn hang_up(&self) {
        self.writer.end();
    }

    /// Ends the transport, whoever else still holds a half of it. Nobody waits for room any more.
    pub(super) fn end(&self) {
        self.writer.end();
        let mut queue = self.lock();
        (queue.torn, queue.bytes) = (Vec::new(), Vec::new());
        queue.large = Sending::default();
        queue.written = u64::MAX;
        self.note_room(&queue);
        let waiting = mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Wakes the driver, because something else than a frame awaits it.
    pub(super) fn wake(&self) {
        Self::wake_driver(self.lock());
    }

    /// Has the driver woken by what is added, and by [`wake`](Self::wake), though it cannot write.
    pub(super) fn wake_later(&self, cx: &Context<'_>) {
        self.lock().driver = Some(cx.waker().clone());
    }

    /// Says whether so much waits to be written that nothing should be added, as was last seen.
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
    fn add(&mut self, frame: &[u8], lane: Lane) -> Ticket {
        if let Some(transfer) = self.large.put_behind(frame, lane) {
            return Ticket::Large(transfer);
        }
        self.bytes.extend_from_slice(frame);
        self.added += frame.len() as u64;
        Ticket::Queued(self.added)
    }

    /// Keeps the rest of a frame for the driver; until then nobody else writes.
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
    /// A part of a large frame: its head, and what it carries.
    part: Option<(Vec<u8>, Bytes)>,
    /// Written after the part.
    bytes: Vec<u8>,
    /// How much of what is being written has been.
    written: usize,
    /// Nobody else writes until this has been.
    claimed: bool,
    owes_part: bool,
    /// Frames that are not large have been written since the last part.
    wrote_others: bool,
    /// So many parts are to be small, because others wait for their end.
    small_parts: u32,
    nobody_reads: bool,
    /// Runs after a transient fault.
    pause: Pause,
    /// Met by [`write_some`](Self::write_some), and returned by the next
    /// [`poll_write`](Self::poll_write).
    failed: Option<WriteError>,
}

/// Why a connection can be written to no more.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The peer reads no more. What it sent before still counts, and only reading tells when that
    /// was all.
    PeerGone(io::Error),
    /// The socket failed: the connection cannot go on.
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
    /// Returns where the driver itself puts frames: they go before those of the queue.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Says whether so much waits to be written that nothing should be added.
    pub(super) fn is_full(&self, outbox: &Outbox) -> bool {
        self.bytes.len() >= FULL || outbox.is_full()
    }

    /// Has all that is to be written forgotten from now on, because nobody reads it.
    pub(super) fn forget_all(&mut self) {
        self.nobody_reads = true;
        self.pause = Pause::default();
    }

    /// Writes what can be written now.
    pub(super) fn write_some(&mut self, outbox: &Outbox, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_write(outbox, cx) {
            self.failed = Some(error);
        }
    }

    /// Writes all that there is, and is ready when nothing is left.
    ///
    /// When it is pending the driver is woken as soon as it can go on, and when it is ready as
    /// soon as there is more. A write that fails with a transient fault is retried after a pause,
    /// for as long as the fault lasts.
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
            if self.nobody_reads {
                (self.part, self.written) = (None, 0);
                self.bytes.clear();
            }
            let written = if let Some((head, body)) = &self.part {
                match self.written.checked_sub(head.len()) {
                    Some(of_body) if of_body == body.len() => {
                        (self.part, self.written) = (None, 0);
                        // Whatever else this thread has to do comes between two parts: a socket
                        // that is emptied as fast as it is filled never makes us wait.
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

    /// Returns how large the next part may be, and has the transport hold as little as fits.
    ///
    /// A part takes its time, and so does all that the transport holds before it. Only while
    /// nothing but large frames is said is that for the good of all.
    fn size_of_part(&mut self, none: bool, outbox: &Outbox) -> usize {
        let before = self.small_parts;
        self.small_parts = match (none, mem::take(&mut self.wrote_others)) {
            (true, _) => 0,
            (false, true) => SMALL_PARTS,
            (false, false) => before.saturating_sub(1),
        };
        if (before > 0) != (self.small_parts > 0) {
            outbox.writer.hold(self.small_parts == 0);
        }
        if self.small_parts > 0 { SMALL_PART } else { PART }
    }

    /// Keeps others from writing while the driver's own frames are.
    fn claim(&mut self, outbox: &Outbox) {
        let mut queue = outbox.lock();
        queue.driver_writes = true;
        let torn = queue.take_torn();
        drop(queue);
        self.bytes.splice(0..0, torn);
        self.claimed = true;
    }

    /// Takes what the others have added; `false` when there is nothing.
    fn take(&mut self, outbox: &Outbox, cx: &mut Context<'_>) -> bool {
        self.bytes.clear();
        self.written = 0;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        let mut guard = outbox.lock();
        let queue = &mut *guard;
        // What was taken before is written now.
        queue.written = queue.written.max(queue.taken);
        if !queue.torn.is_empty() {
            self.bytes = queue.take_torn();
        } else if self.owes_part || queue.bytes.is_empty() {
            let most = self.size_of_part(queue.large.is_empty(), outbox);
            self.part = queue.large.next_part(most);
            let behind = queue.large.take_behind();
            queue.added += behind.len() as u64;
            queue.bytes.extend_from_slice(&behind);
        }
        // Other frames and parts of large ones take turns.
        self.owes_part = self.part.is_none();
        if self.part.is_none() && self.bytes.is_empty() {
            mem::swap(&mut self.bytes, &mut queue.bytes);
            queue.taken = queue.added;
        }
        let taken = !self.bytes.is_empty() || self.part.is_some();
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
