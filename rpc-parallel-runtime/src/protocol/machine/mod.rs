//! One end of a connection.

mod calling;
mod streaming;
mod transmitting;

use super::calls::{Answered, Calls};
use super::grant::Grant;
use super::limits::Limits;
use super::outgoing::Outgoing;
use super::streams::{Received, Streams};
use super::waiter::Waiter;
use super::waiting_line::{Line, Lines};
use crate::wire::{Frame, FrameError, StreamId};

/// The number of waiting calls that are admitted at once. Each of them admits the next one, while
/// there is room.
const ADMITTED: usize = 32;

/// One end of a connection: its calls, its streams, and the frames to send.
///
/// `W` identifies a waiting task. The machine notifies no task itself: it collects the tasks that a
/// change concerns, and [`take_woken`](Self::take_woken) returns them. So a caller that holds a lock
/// on the machine can release the lock before it notifies them. [`take_dropped`](Self::take_dropped)
/// returns those that it does not need any more, because dropping a waker may run code of its task.
pub(crate) struct Machine<W> {
    side: Side,
    limits: Limits,
    calls: Calls<W>,
    streams: Streams<W>,
    outgoing: Outgoing<W>,
    /// The calls that wait until they may be sent.
    lines: Lines<W>,
    /// The number of one-way calls that may be sent before others have completed.
    one_way_credit: u32,
    /// The one-way calls that the peer may send.
    one_way_granted: Grant,
    woken: Vec<W>,
    /// The waiters that are not needed any more. Dropping one may run code of its task.
    dropped: Vec<W>,
    /// Streams whose callbacks must be called with the end of the stream.
    deliver: Vec<StreamId>,
    /// The streams whose lanes have room again, for reuse.
    drained: Vec<StreamId>,
}

/// Which end of a connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The end that has connected, and makes calls.
    Calling,
    /// The end that has accepted, and answers calls.
    Answering,
}

impl<W: Waiter> Machine<W> {
    pub(crate) fn new(side: Side, limits: Limits) -> Self {
        let first = match side {
            Side::Calling => 1,
            Side::Answering => 2,
        };
        Self {
            side,
            limits,
            calls: Calls::new(),
            streams: Streams::new(first, &limits),
            outgoing: Outgoing::new(),
            lines: Lines::new(),
            one_way_credit: limits.send.one_way_calls,
            one_way_granted: Grant::new(limits.receive.one_way_calls as usize),
            woken: Vec::new(),
            dropped: Vec::new(),
            deliver: Vec::new(),
            drained: Vec::new(),
        }
    }

    /// Handles a frame that is no call and no cancel.
    ///
    /// # Errors
    ///
    /// The frame violates the protocol.
    pub(crate) fn handle(&mut self, frame: Frame<'_>) -> Result<Received, FrameError> {
        if let (Frame::Answer { call, outcome, value, streams }, Side::Calling) = (frame, self.side)
        {
            let streams = self.accept(streams)?;
            let answered = Answered { outcome, value: value.keep(), streams };
            if let Some(unwanted) = self.calls.answer(call, answered, &mut self.woken) {
                self.discard(&unwanted.streams);
                self.admit(Line::Calls, 1);
            }
            return Ok(Received::Handled);
        }
        if let (Frame::OneWayCredit { count }, Side::Calling) = (frame, self.side) {
            self.add_one_way_credit(count)?;
            return Ok(Received::Handled);
        }
        self.streams.handle(frame, &mut self.outgoing, &mut self.woken)
    }

    /// Fails all calls and streams, because the connection is lost. Queued frames can still be
    /// handed out.
    pub(crate) fn lose(&mut self) {
        self.calls.lose(&mut self.woken);
        self.streams.lose(&mut self.woken, &mut self.deliver);
        self.lines.admit_all(&mut self.woken);
    }

    /// Drops all queued and all later frames.
    pub(crate) fn end(&mut self) {
        self.outgoing.end(&mut self.woken);
        self.lines.admit_all(&mut self.woken);
    }

    /// Returns whether a change notifies something, or a stream was opened or has ended.
    pub(crate) fn has_changes(&self) -> bool {
        !self.woken.is_empty()
            || !self.dropped.is_empty()
            || !self.deliver.is_empty()
            || self.streams.has_changes()
    }

    /// Returns what the changes since the last call notify.
    pub(crate) fn take_woken(&mut self) -> Vec<W> {
        // The next ones are often as many.
        let next = Vec::with_capacity(self.woken.len());
        std::mem::replace(&mut self.woken, next)
    }

    /// Returns the waiters that are not needed any more.
    pub(crate) fn take_dropped(&mut self) -> Vec<W> {
        std::mem::take(&mut self.dropped)
    }

    /// Returns the streams whose callbacks must be called with the end of the stream.
    pub(crate) fn take_deliver(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.deliver)
    }
}
