//! Calls of both ends.

use super::{ADMITTED, Line, Machine};
use crate::protocol::calls::{CallStatus, Cancelled, Progress};
use crate::protocol::lane::Ticket;
use crate::protocol::transmit::Transmit;
use crate::protocol::waiter::Waiter;
use crate::protocol::waiting_line::Place;
use crate::wire::{CallId, FrameError, FrameWriter, FunctionInfo, Large, Opened, StreamId, Unsent};

/// Calls of this end.
impl<W: Waiter> Machine<W> {
    /// Waits until a call may be sent. A task that waits gets a place, and passes it again when it is
    /// polled next, or to [`leave_room`](Self::leave_room).
    pub(crate) fn has_room(&mut self, line: Line, place: &mut Option<Place>, waiter: &W) -> bool {
        let Some(known) = &*place else {
            if self.lines[line].is_empty() && self.free_slots(line) > 0 {
                return true;
            }
            *place = Some(self.lines[line].join(waiter));
            return false;
        };
        if !self.lines[line].is_admitted(known, waiter, &mut self.dropped) {
            return false;
        }
        self.lines[line].proceed();
        let free = self.free_slots(line);
        if free == 0 {
            // Others have filled the queue of frames.
            self.lines[line].wait_again(known, waiter);
            return false;
        }
        *place = None;
        // This call is about to take one of them.
        if free > 1 {
            self.lines[line].admit(1, &mut self.woken);
        }
        true
    }

    /// Returns how many more calls may be sent or admitted.
    pub(in crate::protocol) fn free_slots(&self, line: Line) -> usize {
        if !self.outgoing.has_room() {
            return 0;
        }
        let free = match line {
            Line::Calls => self.limits.send.calls.saturating_sub(self.calls.in_use()),
            Line::OneWay => self.one_way_credit as usize,
        };
        free.saturating_sub(self.lines[line].admitted())
    }

    /// Admits up to `at_most` waiting calls for which there are slots.
    pub(super) fn admit(&mut self, line: Line, at_most: usize) {
        if !self.lines[line].is_empty() {
            let count = self.free_slots(line).min(at_most);
            self.lines[line].admit(count, &mut self.woken);
        }
    }

    /// Gives up a place that [`has_room`](Self::has_room) has given.
    pub(crate) fn leave_room(&mut self, line: Line, place: &Place) {
        self.lines[line].leave(place, &mut self.dropped);
        self.admit(line, 1);
    }

    /// Records that a call for which there was room is not sent.
    pub(crate) fn give_up_room(&mut self, line: Line) {
        self.admit(line, 1);
    }

    /// Returns whether the next call should be written at once: it is the only one, or the caller
    /// waits for one answer after the other beside a call that takes long. While many calls begin
    /// between two answers, they are written together.
    pub(crate) fn writes_next_call_at_once(&self) -> bool {
        self.calls.writes_next_at_once()
    }

    /// Begins a call. Returns `None` if the connection is lost.
    pub(crate) fn begin_call(
        &mut self,
        function: &'static FunctionInfo,
        waiter: &W,
    ) -> Option<CallId> {
        self.calls.begin(function, waiter)
    }

    /// Sends the frame of a call. If `at_once`, the frame is handed out if no other is queued.
    pub(crate) fn send_call(
        &mut self,
        frame: Unsent,
        opened: &[Opened],
        at_once: bool,
    ) -> (Ticket, Option<Transmit>) {
        match frame {
            Unsent::Small(frame) if at_once => self.send_at_once(frame),
            Unsent::Small(frame) => (self.outgoing.add_messages(&frame), None),
            Unsent::Large(frame) => (self.outgoing.add_large(*frame, ids(opened)), None),
        }
    }

    /// Takes the credit for a one-way call.
    pub(crate) fn begin_one_way(&mut self) {
        self.one_way_credit = self.one_way_credit.saturating_sub(1);
    }

    /// Sends the frame of a one-way call that was begun. It is handed out if no other frame is queued.
    pub(crate) fn send_one_way(
        &mut self,
        frame: Unsent,
        opened: &[Opened],
    ) -> (Ticket, Option<Transmit>) {
        match frame {
            Unsent::Small(frame) if self.outgoing.is_idle() => self.send_at_once(frame),
            Unsent::Small(frame) => (self.outgoing.add_one_way(frame, ids(opened)), None),
            Unsent::Large(frame) => (self.outgoing.add_large_one_way(*frame, ids(opened)), None),
        }
    }

    pub(super) fn add_one_way_credit(&mut self, count: u32) -> Result<(), FrameError> {
        let credit = self.one_way_credit.saturating_add(count);
        if credit > self.limits.send.one_way_calls {
            return Err(FrameError::OutOfPlace("credit for one-way calls that were not sent"));
        }
        self.one_way_credit = credit;
        self.admit(Line::OneWay, ADMITTED);
        Ok(())
    }

    fn send_at_once(&mut self, frame: Vec<u8>) -> (Ticket, Option<Transmit>) {
        if !self.outgoing.is_idle() {
            return (self.outgoing.add_messages(&frame), None);
        }
        let transmit = self.outgoing.transmit_frame(frame);
        (self.outgoing.last_ticket(), Some(transmit))
    }

    /// Returns the status of a call, and registers the waiter while the call waits.
    pub(crate) fn poll_call(&mut self, call: CallId, waiter: &W) -> CallStatus {
        let status = self.calls.poll(call, waiter, &mut self.dropped);
        if !matches!(status, CallStatus::Waiting) {
            self.admit(Line::Calls, 1);
        }
        status
    }

    /// Cancels a call. Returns whether the worker might still have answered it. If `may_abandon`
    /// and the worker has not received the complete message, it never will.
    pub(crate) fn cancel_call(&mut self, call: CallId, ticket: Ticket, may_abandon: bool) -> bool {
        match self.calls.cancel(call, &mut self.dropped) {
            Cancelled::Pending => {}
            Cancelled::Answered(unwanted) => {
                self.discard(&unwanted.streams);
                self.admit(Line::Calls, 1);
                return false;
            }
            Cancelled::Ended => return false,
        }
        if may_abandon && let Some((streams, cost)) = self.outgoing.abandon(ticket, &mut self.woken)
        {
            self.streams.add_credit_of_connection(cost, &mut self.woken);
            self.streams.abandon(&streams, &mut self.woken, &mut self.deliver);
            self.calls.forget(call);
            self.admit(Line::Calls, 1);
            return true;
        }
        let mut frame = Vec::new();
        FrameWriter::cancel(&mut frame, call).finish();
        self.outgoing.add_cancel(ticket, frame);
        true
    }

    /// Returns the functions of the pending calls.
    pub(crate) fn called_functions(&self) -> impl Iterator<Item = &'static FunctionInfo> {
        self.calls.functions()
    }

    /// Returns the progress of the calls.
    pub(crate) fn progress(&self) -> Progress {
        self.calls.progress()
    }
}

/// Answers to the calls of the peer.
impl<W: Waiter> Machine<W> {
    /// Adds small answers, and empties their buffer.
    pub(crate) fn send_answers(&mut self, frames: &mut Vec<u8>) {
        if !frames.is_empty() {
            self.outgoing.add_buffer(frames);
        }
    }

    /// Adds a large answer, and the streams that it opens.
    pub(crate) fn send_large_answer(&mut self, frame: Large, opens: Vec<StreamId>) {
        self.outgoing.add_large(frame, opens);
    }
}

/// One-way calls of the peer.
impl<W: Waiter> Machine<W> {
    /// Handles a received one-way call.
    ///
    /// # Errors
    ///
    /// The peer has sent more than it may.
    pub(crate) fn receive_one_way(&mut self) -> Result<(), FrameError> {
        if self.one_way_granted.receive(1, 0) {
            return Ok(());
        }
        Err(FrameError::OutOfPlace("one-way call beyond `max_one_way_calls`"))
    }

    /// Records that a received one-way call has completed, and returns credit to the peer.
    pub(crate) fn complete_one_way(&mut self) {
        let count = self.one_way_granted.complete(1);
        if count > 0 {
            let mut frame = Vec::new();
            let count = u32::try_from(count).expect("the limit of one-way calls fits into 32 bits");
            FrameWriter::one_way_credit(&mut frame, count).finish();
            self.outgoing.add_urgent(&frame);
        }
    }
}

fn ids(opened: &[Opened]) -> Vec<StreamId> {
    opened.iter().map(|it| it.id).collect()
}
