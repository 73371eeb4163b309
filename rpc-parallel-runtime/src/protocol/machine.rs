//! One end of a connection.

use std::collections::VecDeque;
use std::time::Instant;

use super::calls::{Answered, CallStatus, Calls, Cancelled, Progress};
use super::grant::Grant;
use super::lane::Ticket;
use super::limits::Limits;
use super::outgoing::{LANE_FULL, Outgoing};
use super::reading::{Chunk, DirectStep, ReadEnded};
use super::streams::{Received, Streams, send_credit};
use super::transmit::Transmit;
use super::waiter::Waiter;
use super::waiting_line::{Place, WaitingLine};
use super::writing::{SendStatus, WriteClosed};
use crate::wire::{
    CallId, Frame, FrameError, FrameWriter, FunctionInfo, Large, Opened, StreamId,
    Streams as Opens, Unsent, WrittenBy,
};

/// The number of waiting calls that are admitted when frames were written. Each of them admits the
/// next one, while there is room.
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
    /// Calls that wait until the queue of frames has room, and fewer calls wait for answers.
    room: WaitingLine<W>,
    /// One-way calls that wait until others have completed.
    one_way_room: WaitingLine<W>,
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

/// The lines in which calls wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    Calls,
    OneWay,
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
            room: WaitingLine::new(),
            one_way_room: WaitingLine::new(),
            one_way_credit: limits.one_way_calls,
            one_way_granted: Grant::new(limits.one_way_calls as usize),
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
                self.admit_next_call();
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
        self.room.admit_all(&mut self.woken);
        self.one_way_room.admit_all(&mut self.woken);
    }

    /// Drops all queued and all later frames.
    pub(crate) fn end(&mut self) {
        self.outgoing.end(&mut self.woken);
        self.room.admit_all(&mut self.woken);
        self.one_way_room.admit_all(&mut self.woken);
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

/// Calls of this end.
impl<W: Waiter> Machine<W> {
    /// Waits until a call may be sent. A task that waits gets a place, and passes it again when it is
    /// polled next, or to [`leave_room`](Self::leave_room).
    pub(crate) fn has_room(&mut self, line: Line, place: &mut Option<Place>, waiter: &W) -> bool {
        let has_room = self.has_room_now(line);
        let waiting = match line {
            Line::Calls => &mut self.room,
            Line::OneWay => &mut self.one_way_room,
        };
        match place {
            Some(known) if !waiting.is_admitted(known, waiter, &mut self.dropped) => return false,
            // Admitted, but others have filled the queue.
            Some(_) | None if !has_room => {}
            None if !waiting.is_empty() => {}
            Some(_) | None => {
                if place.take().is_some() {
                    waiting.admit(1, &mut self.woken);
                }
                return true;
            }
        }
        *place = Some(waiting.join(waiter));
        false
    }

    /// Returns whether a call may be sent that is the first in its line.
    pub(super) fn has_room_now(&self, line: Line) -> bool {
        let is_allowed = match line {
            Line::Calls => self.calls.in_use() < self.limits.calls,
            Line::OneWay => self.one_way_credit > 0,
        };
        is_allowed && self.outgoing.has_room()
    }

    /// Admits a waiting call, because the slot of another one is free.
    fn admit_next_call(&mut self) {
        if !self.room.is_empty() {
            self.room.admit(1, &mut self.woken);
        }
    }

    /// Gives up a place that [`has_room`](Self::has_room) has given.
    pub(crate) fn leave_room(&mut self, line: Line, place: Place) {
        match line {
            Line::Calls => self.room.leave(place, &mut self.woken, &mut self.dropped),
            Line::OneWay => self.one_way_room.leave(place, &mut self.woken, &mut self.dropped),
        }
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

    /// Sends the frame of a one-way call. It is handed out if no other frame is queued.
    pub(crate) fn send_one_way(
        &mut self,
        frame: Unsent,
        opened: &[Opened],
    ) -> (Ticket, Option<Transmit>) {
        self.one_way_credit = self.one_way_credit.saturating_sub(1);
        match frame {
            Unsent::Small(frame) if self.outgoing.is_idle() => self.send_at_once(frame),
            Unsent::Small(frame) => (self.outgoing.add_one_way(frame, ids(opened)), None),
            Unsent::Large(frame) => (self.outgoing.add_large_one_way(*frame, ids(opened)), None),
        }
    }

    fn add_one_way_credit(&mut self, count: u32) -> Result<(), FrameError> {
        let credit = self.one_way_credit.saturating_add(count);
        if credit > self.limits.one_way_calls {
            return Err(FrameError::OutOfPlace("credit for one-way calls that were not sent"));
        }
        self.one_way_credit = credit;
        self.one_way_room.admit(ADMITTED, &mut self.woken);
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
            self.admit_next_call();
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
                self.admit_next_call();
                return false;
            }
            Cancelled::Ended => return false,
        }
        if may_abandon && let Some((streams, cost)) = self.outgoing.abandon(ticket, &mut self.woken)
        {
            self.streams.add_credit_of_connection(cost, &mut self.woken);
            self.streams.abandon(&streams, &mut self.woken, &mut self.deliver);
            self.calls.forget(call);
            self.admit_next_call();
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

/// Streams.
impl<W: Waiter> Machine<W> {
    /// Returns whether a message of this side may open `count` streams.
    pub(crate) fn may_open(&self, count: usize) -> bool {
        self.streams.may_open(count)
    }

    /// Makes this side's end of a stream that a message of this side opens.
    pub(crate) fn open(&mut self, writer: WrittenBy, window: u32) -> Opened {
        self.streams.open(writer, window)
    }

    /// Makes this side's ends of the streams that a message of the peer opens.
    pub(crate) fn accept(&mut self, streams: Opens<'_>) -> Result<Vec<Opened>, FrameError> {
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        self.streams.accept(streams)
    }

    /// Returns whether a stream is open.
    pub(crate) fn is_open(&mut self, id: StreamId) -> bool {
        self.streams.is_open(id)
    }

    /// Returns the number of open streams.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.open_count()
    }

    /// Returns the streams that have ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<StreamId> {
        self.streams.take_ended()
    }

    /// Ends the streams of a message that nothing reads.
    fn discard(&mut self, streams: &[Opened]) {
        for Opened { id, writer, .. } in streams {
            match writer {
                WrittenBy::Sender => drop(self.drop_reader(*id)),
                WrittenBy::Receiver => {
                    let mut frame = Vec::new();
                    FrameWriter::end(&mut frame, *id).finish();
                    self.end_stream(*id, &frame);
                    self.drop_writer(*id);
                }
            }
        }
    }

    /// Returns the next chunk of a stream or its end. Registers the waiter if there is neither.
    pub(crate) fn poll_chunk(
        &mut self,
        id: StreamId,
        waiter: &W,
    ) -> Option<Result<Chunk, ReadEnded>> {
        match self.streams.reading(id) {
            Some(reading) => reading.poll_chunk(waiter, &mut self.dropped),
            None => Some(Err(ReadEnded::Lost)),
        }
    }

    /// Records that a chunk of a stream was read.
    pub(crate) fn note_read(&mut self, id: StreamId, cost: usize) {
        let Some(reading) = self.streams.reading(id) else { return };
        let bytes = reading.note_read(cost);
        send_credit(id, bytes, &mut self.outgoing);
        self.streams.note_read(cost, &mut self.outgoing);
    }

    /// Stops a stream that is read: the writer answers with its end.
    pub(crate) fn stop(&mut self, id: StreamId) {
        let is_open = self.streams.reading(id).is_some_and(|it| !it.has_ended());
        if is_open {
            let mut frame = Vec::new();
            FrameWriter::stop(&mut frame, id).finish();
            self.outgoing.add_control(id, &frame);
        }
    }

    /// Lets a callback read a stream. Returns its next step, see [`DirectStep`].
    pub(crate) fn next_step(&mut self, id: StreamId) -> DirectStep {
        let Some(reading) = self.streams.reading(id) else {
            return DirectStep::Ended(ReadEnded::Lost);
        };
        let step = reading.next_step(&mut self.dropped);
        if let DirectStep::Ended(_) = step {
            self.streams.remove(id);
        }
        step
    }

    /// Drops the reader of a stream, and stops the writer. Does nothing if a callback reads the
    /// stream. Returns the chunks that were not read.
    pub(crate) fn drop_reader(&mut self, id: StreamId) -> VecDeque<Chunk> {
        let Some(reading) = self.streams.reading(id) else { return VecDeque::new() };
        if reading.has_callback() {
            return VecDeque::new();
        }
        let (chunks, cost) = reading.drop_reader(&mut self.dropped);
        if reading.has_ended() {
            self.streams.remove(id);
        } else {
            self.stop(id);
        }
        self.streams.note_read(cost, &mut self.outgoing);
        chunks
    }

    /// Returns whether a callback reads a stream.
    pub(crate) fn has_callback(&mut self, id: StreamId) -> bool {
        self.streams.reading(id).is_some_and(|it| it.has_callback())
    }

    /// Returns whether elements can be written to a stream.
    pub(crate) fn send_status(&mut self, id: StreamId) -> SendStatus {
        let is_blocked =
            self.outgoing.queued_bytes(id) >= LANE_FULL || !self.streams.window.has_credit();
        match self.streams.writing(id) {
            Some(writing) => match writing.status() {
                SendStatus::Room(_) if is_blocked => SendStatus::Full,
                status => status,
            },
            None => SendStatus::Closed(WriteClosed::Lost),
        }
    }

    /// Registers a task that waits for a change of the [status](Self::send_status).
    pub(crate) fn wait_to_send(&mut self, id: StreamId, waiter: &W) {
        if !self.streams.window.has_credit() {
            self.streams.window.block(id);
        }
        if let Some(writing) = self.streams.writing(id) {
            writing.wait(waiter);
        }
    }

    /// Sends elements of a stream, whose [status](Self::send_status) must be `Room`. `len` is the
    /// length of the elements in the frame.
    ///
    /// They are handed out at once if no other frame is queued. Elements that follow within 20 µs
    /// are gathered, and share frames: they are handed out with the first that comes later, when
    /// they are 32 KiB, or to the driver.
    pub(crate) fn send_elements(
        &mut self,
        id: StreamId,
        frame: Vec<u8>,
        len: usize,
        now: Instant,
    ) -> Option<Transmit> {
        self.streams.writing(id)?;
        let added = self.outgoing.add_elements(id, frame, len, now, &mut self.drained);
        self.wake_drained();
        self.note_sent(id, added.cost, added.ticket);
        added.transmit
    }

    /// Sends a large element of a stream, whose [status](Self::send_status) must be `Room`. `len` is
    /// its length.
    pub(crate) fn send_large_element(&mut self, id: StreamId, frame: Large, len: usize) {
        let cost = Chunk::cost_of(len);
        let ticket = self.outgoing.add_large_element(id, frame, cost);
        self.note_sent(id, cost, ticket);
    }

    fn note_sent(&mut self, id: StreamId, cost: usize, ticket: Ticket) {
        self.streams.window.take_credit(cost);
        if let Some(writing) = self.streams.writing(id) {
            writing.take_credit(cost);
            writing.last = ticket;
        }
    }

    /// Returns the ticket of the last elements of a stream.
    #[cfg(feature = "pool")]
    pub(crate) fn last_elements(&mut self, id: StreamId) -> Ticket {
        self.streams.writing(id).map_or(Ticket::Written, |it| it.last)
    }

    /// Ends a stream that is written, with the frame of its end, unless it has ended.
    pub(crate) fn end_stream(&mut self, id: StreamId, frame: &[u8]) {
        let Some(writing) = self.streams.writing(id) else { return };
        if writing.end(&mut self.woken) {
            self.streams.note_ended(id);
            self.outgoing.add_control(id, frame);
        }
    }

    /// Forgets a stream that was written and has ended.
    pub(crate) fn drop_writer(&mut self, id: StreamId) {
        self.streams.remove(id);
    }

    /// Returns the number of buffered bytes, and its limit.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn kept(&self, overdraft: usize) -> (usize, usize) {
        self.streams.kept(overdraft)
    }

    /// Names and counts what is left of calls, streams and frames.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn leftovers(&self) -> Vec<(&'static str, usize)> {
        let mut left = self.outgoing.leftovers().to_vec();
        left.extend([
            ("calls", self.calls.taken()),
            ("streams", self.streams.count()),
            ("open streams", self.streams.open_count()),
            ("calls in line", usize::from(!self.room.is_empty())),
            ("one-way calls in line", usize::from(!self.one_way_room.is_empty())),
        ]);
        left.retain(|(_, count)| *count > 0);
        left
    }
}

/// The bytes to write.
impl<W: Waiter> Machine<W> {
    /// Returns whether there is something to hand out.
    pub(crate) fn can_transmit(&self) -> bool {
        self.outgoing.can_transmit()
    }

    /// Hands out the next bytes to write. `None` if nothing is queued, or if a transmit is handed
    /// out already.
    pub(crate) fn transmit(&mut self) -> Option<Transmit> {
        let transmit = self.outgoing.transmit(&mut self.drained);
        self.wake_drained();
        transmit
    }

    /// Wakes the writers of streams whose lanes have room again.
    fn wake_drained(&mut self) {
        for stream in self.drained.drain(..) {
            if let Some(writing) = self.streams.writing(stream) {
                writing.wake(&mut self.woken);
            }
        }
    }

    /// Records that the driver runs, and will write what is queued.
    pub(crate) fn note_driver(&mut self) {
        self.outgoing.note_driver();
    }

    /// Takes back a transmit. What is not written of it is handed out next.
    pub(crate) fn take_back(&mut self, transmit: Transmit) {
        self.outgoing.take_back(transmit, &mut self.woken);
        if !self.room.is_empty() && self.has_room_now(Line::Calls) {
            self.room.admit(ADMITTED, &mut self.woken);
        }
        if !self.one_way_room.is_empty() && self.has_room_now(Line::OneWay) {
            self.one_way_room.admit(ADMITTED, &mut self.woken);
        }
    }

    /// Returns whether a frame is written, or was dropped. Otherwise registers the task.
    pub(crate) fn is_written(&mut self, ticket: Ticket, waiter: &W) -> bool {
        self.outgoing.is_written(ticket, waiter)
    }

    /// Returns whether nothing is queued and nothing is being written.
    pub(crate) fn is_idle(&self) -> bool {
        self.outgoing.is_idle()
    }

    /// Returns whether no answers should be added, because the peer does not read them.
    pub(crate) fn is_full(&self) -> bool {
        self.outgoing.is_full()
    }
}

fn ids(opened: &[Opened]) -> Vec<StreamId> {
    opened.iter().map(|it| it.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::Task;
    use crate::wire::{LARGEST_WINDOW, Settings, split};

    #[test]
    fn credit_beyond_u32_is_returned_completely() {
        let limits = Limits { window: usize::MAX, ..Limits::of(&Settings::default()) };
        let mut machine = Machine::<Task>::new(Side::Calling, limits);
        let Opened { id, .. } = machine.open(WrittenBy::Receiver, LARGEST_WINDOW);
        // The largest number of bytes without credit, and the largest element, which overdraws the
        // window.
        let (before, element) = (LARGEST_WINDOW as usize / 2 - 1, 4095 * 1024 * 1024);
        let reading = machine.streams.reading(id).expect("this end reads the stream");
        reading.note_received(before + element);

        machine.note_read(id, before);
        machine.note_read(id, element);

        let transmit = machine.transmit().expect("credit is queued");
        let [frames, _] = transmit.segments();
        let (mut rest, mut credit) = (&*frames, 0);
        while let Some((frame, len)) = split(rest, 1024).expect("the frames are valid") {
            let Frame::Credit { bytes, .. } = frame else { panic!("{frame:?}") };
            credit += bytes as usize;
            rest = &rest[len..];
        }
        assert_eq!(credit, before + element);
    }
}
