//! Streams of both directions.

use std::collections::VecDeque;
use std::time::Instant;

#[cfg(any(test, fuzzing))]
use super::Line;
use super::Machine;
use crate::protocol::lane::Ticket;
use crate::protocol::limits::Limits;
use crate::protocol::outgoing::LANE_FULL;
use crate::protocol::reading::{Chunk, DirectStep, ReadEnded};
use crate::protocol::streams::send_credit;
use crate::protocol::transmit::Transmit;
use crate::protocol::waiter::Waiter;
use crate::protocol::writing::{SendStatus, WriteClosed};
use crate::wire::{FrameError, FrameWriter, Large, Opened, StreamId, Streams as Opens, WrittenBy};

/// Streams.
impl<W: Waiter> Machine<W> {
    /// Returns whether a message of this side may open `count` streams. A stream whose end is not
    /// sent is still open for the peer. The streams must be opened before anything else changes.
    pub(crate) fn may_open(&self, count: usize) -> bool {
        self.streams.may_open(count + self.outgoing.unsent_ends())
    }

    /// Returns the limits of the connection.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
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
        let opened = self.streams.accept(streams)?;
        self.streams.grant_rest(&opened, &mut self.outgoing);
        Ok(opened)
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
    pub(super) fn discard(&mut self, streams: &[Opened]) {
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
    /// length of the elements in the frame, or of the error that stands for one.
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
            self.outgoing.add_end(id, frame);
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
            ("calls in line", self.lines[Line::Calls].len()),
            ("one-way calls in line", self.lines[Line::OneWay].len()),
        ]);
        left.retain(|(_, count)| *count > 0);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::machine::Side;
    use crate::protocol::tests::{Task, limits};
    use crate::wire::{Frame, LARGEST_WINDOW, split};

    #[test]
    fn credit_beyond_u32_is_returned_completely() {
        let mut limits = limits();
        limits.receive.window = usize::MAX;
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
