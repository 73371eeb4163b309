//! A stream that this end writes, with its flow control.

use super::lane::Ticket;
use super::waiter::Waiter;

/// Why a stream can no longer be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteClosed {
    /// The peer reads no more.
    ReaderGone,
    /// The connection was lost.
    Lost,
}

/// Whether elements can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SendStatus {
    /// The reader has room for this number of bytes.
    Room(usize),
    /// The reader has no room, or the connection has not written earlier elements.
    Full,
    Closed(WriteClosed),
    /// This end has ended the stream.
    Ended,
}

/// The writing end of a stream.
pub(super) struct Writing<W> {
    window: u32,
    /// The number of bytes that may be written before the reader has read more. One frame may
    /// overdraw it.
    credit: i64,
    phase: Phase,
    waiting: Vec<W>,
    /// The last frame that was sent.
    pub(super) last: Ticket,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Ended,
    Closed(WriteClosed),
}

impl<W: Waiter> Writing<W> {
    /// Makes an end whose reader grants at most `window` bytes, and has granted `first`.
    pub(super) fn new(window: u32, first: u32) -> Self {
        let (credit, phase) = (first.into(), Phase::Open);
        Self { window, credit, phase, waiting: Vec::new(), last: Ticket::Written }
    }

    /// Returns whether elements can be sent.
    pub(super) fn status(&self) -> SendStatus {
        match self.phase {
            Phase::Open if self.credit > 0 => {
                SendStatus::Room(usize::try_from(self.credit).unwrap_or(usize::MAX))
            }
            Phase::Open => SendStatus::Full,
            Phase::Ended => SendStatus::Ended,
            Phase::Closed(why) => SendStatus::Closed(why),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Takes the credit for a frame of elements.
    pub(super) fn take_credit(&mut self, cost: usize) {
        self.credit -= i64::try_from(cost).unwrap_or(i64::MAX);
    }

    /// Handles credit of the reader.
    pub(super) fn add_credit(
        &mut self,
        bytes: u32,
        woken: &mut Vec<W>,
    ) -> Result<(), &'static str> {
        self.credit += i64::from(bytes);
        if self.credit > i64::from(self.window) {
            return Err("credit for more than was written");
        }
        self.wake(woken);
        Ok(())
    }

    /// Ends the stream. Returns whether it was open.
    pub(super) fn end(&mut self, woken: &mut Vec<W>) -> bool {
        self.leave_open(Phase::Ended, woken)
    }

    /// Closes the stream. Returns whether it was open.
    pub(super) fn close(&mut self, why: WriteClosed, woken: &mut Vec<W>) -> bool {
        self.leave_open(Phase::Closed(why), woken)
    }

    fn leave_open(&mut self, phase: Phase, woken: &mut Vec<W>) -> bool {
        let was_open = self.is_open();
        if was_open {
            self.phase = phase;
            self.wake(woken);
        }
        was_open
    }

    /// Registers a task that waits for a change.
    pub(super) fn wait(&mut self, waiter: &W) {
        if !self.waiting.iter().any(|it| it.is_same(waiter)) {
            self.waiting.push(waiter.clone());
        }
    }

    /// Moves all waiting tasks to `woken`.
    pub(super) fn wake(&mut self, woken: &mut Vec<W>) {
        woken.append(&mut self.waiting);
    }
}
