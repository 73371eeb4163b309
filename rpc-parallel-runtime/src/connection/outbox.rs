//! What waits to be written, and who writes it.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::transport::Writer;

/// Beyond this many bytes waiting, whoever would add more waits too.
const FULL: usize = 1024 * 1024;

/// Buffers larger than this are not kept for reuse.
const KEPT: usize = 256 * 1024;

/// The frames that one end of a connection has to say.
///
/// Several may add frames; the driver writes what has gathered in one piece. Only a frame that is
/// alone is written at once by whoever says it, which spares a lone call a turn of the driver.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Whether there is no room, as was last seen: spares a call the lock where there is.
    full: AtomicBool,
    writer: Box<dyn Writer>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// The driver holds bytes that come before those of the queue.
    driver_writes: bool,
    /// Wakes the driver; taken while it is awake already.
    driver: Option<Waker>,
    /// Those who wait for room.
    waiting: Vec<Waker>,
}

impl Outbox {
    pub(super) fn new(writer: Box<dyn Writer>) -> Self {
        Self { queue: Mutex::default(), full: AtomicBool::new(false), writer }
    }

    /// Adds a frame for the driver to write together with others.
    pub(super) fn add(&self, frame: &[u8]) {
        let mut queue = self.lock();
        queue.bytes.extend_from_slice(frame);
        self.note_room(&queue);
        Self::wake_driver(queue);
    }

    /// Writes a frame at once if nothing waits before it; the driver writes what does not go.
    pub(super) fn write_now(&self, frame: &[u8]) {
        let mut queue = self.lock();
        let first = queue.bytes.is_empty() && !queue.driver_writes;
        // An error is met again by the driver, which knows what to do about it.
        let written = if first { self.writer.try_write(frame).unwrap_or(0) } else { 0 };
        if written < frame.len() {
            queue.bytes.extend_from_slice(&frame[written..]);
            self.note_room(&queue);
            Self::wake_driver(queue);
        }
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

    /// Ends the transport, whoever else still holds a half of it. Nobody waits for room any more.
    pub(super) fn end(&self) {
        self.writer.end();
        let mut queue = self.lock();
        queue.bytes = Vec::new();
        self.note_room(&queue);
        let waiting = mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Wakes the driver, because something else than a frame awaits it.
    pub(super) fn wake(&self) {
        Self::wake_driver(self.lock());
    }

    fn note_room(&self, queue: &Queue) {
        self.full.store(queue.bytes.len() >= FULL, Ordering::Relaxed);
    }

    fn wake_driver(mut queue: MutexGuard<'_, Queue>) {
        let driver = queue.driver.take();
        drop(queue);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nobody panics while holding this lock")
    }
}

/// The driver's side of an [`Outbox`]: the bytes it is writing.
#[derive(Default)]
pub(super) struct Writing {
    bytes: Vec<u8>,
    written: usize,
}

impl Writing {
    /// Returns where the driver itself puts frames: they go before those of the queue.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Says whether so much waits to be written that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() - self.written >= FULL
    }

    /// Writes all that there is, and is ready when nothing is left.
    ///
    /// When it is pending the driver is woken as soon as it can go on, and when it is ready as
    /// soon as there is more.
    pub(super) fn poll_write(
        &mut self,
        outbox: &Outbox,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.bytes.len() && !self.take_queue(outbox, cx) {
                return Poll::Ready(Ok(()));
            }
            match outbox.writer.try_write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(outbox.writer.poll_writable(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Takes what the others have added; `false` when there is nothing.
    fn take_queue(&mut self, outbox: &Outbox, cx: &mut Context<'_>) -> bool {
        self.bytes.clear();
        self.written = 0;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        let mut queue = outbox.lock();
        mem::swap(&mut self.bytes, &mut queue.bytes);
        queue.driver_writes = !self.bytes.is_empty();
        if !queue.driver_writes && !queue.driver.as_ref().is_some_and(|it| it.will_wake(cx.waker()))
        {
            queue.driver = Some(cx.waker().clone());
        }
        outbox.note_room(&queue);
        let waiting = mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
        !self.bytes.is_empty()
    }
}
