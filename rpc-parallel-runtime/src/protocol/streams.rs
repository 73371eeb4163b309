//! The streams of a connection: their numbers, their ends, and the frames that concern them.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::connection_window::ConnectionWindow;
use super::limits::Limits;
use super::outgoing::Outgoing;
use super::reading::{Chunk, Put, ReadEnded, Reading};
use super::waiter::Waiter;
use super::writing::{WriteClosed, Writing};
use crate::wire::{
    Frame, FrameError, FrameWriter, LARGEST_WINDOW, Opened, StreamId, Streams as Opens, WrittenBy,
};

/// What remains to be done about a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    Handled,
    /// The callback that reads this stream must be called with the content of the frame.
    Deliver(StreamId),
}

/// The streams of a connection.
pub(super) struct Streams<W> {
    ends: FxHashMap<StreamId, End<W>>,
    next: u64,
    /// The highest stream number that the peer has used.
    newest_of_peer: u64,
    /// The number of open streams.
    open: usize,
    /// Streams that have ended since the last call of [`take_ended`](Self::take_ended).
    ended: Vec<StreamId>,
    /// Whether a stream was opened since then.
    has_opened: bool,
    limits: Limits,
    pub(super) window: ConnectionWindow,
    is_lost: bool,
}

/// This side's end of a stream.
pub(super) enum End<W> {
    Reading(Reading<W>),
    Writing(Writing<W>),
}

impl<W: Waiter> Streams<W> {
    /// Makes a table without streams. The connecting side allocates odd numbers.
    pub(super) fn new(first: u64, limits: &Limits) -> Self {
        Self {
            ends: FxHashMap::default(),
            next: first,
            newest_of_peer: 0,
            open: 0,
            ended: Vec::new(),
            has_opened: false,
            limits: *limits,
            window: ConnectionWindow::new(limits),
            is_lost: false,
        }
    }

    /// Returns whether a message of this side may open `count` streams.
    pub(super) fn may_open(&self, count: usize) -> bool {
        count <= self.limits.open_streams().saturating_sub(self.open)
    }

    /// Makes this side's end of a stream that a message of this side opens.
    pub(super) fn open(&mut self, writer: WrittenBy, window: u32) -> Opened {
        let id = StreamId(self.next);
        self.next += 2;
        let end = match writer {
            WrittenBy::Sender => {
                let first = window.min(self.limits.send.first_window);
                End::Writing(Writing::new(window, first))
            }
            WrittenBy::Receiver => End::Reading(Reading::new(window)),
        };
        self.insert(id, end);
        Opened { id, writer, window }
    }

    /// Makes this side's ends of the streams that a message of the peer opens.
    ///
    /// # Errors
    ///
    /// A stream must not be opened. Those before it are open.
    pub(super) fn accept(&mut self, streams: Opens<'_>) -> Result<Vec<Opened>, FrameError> {
        let accept = |opened: Opened| {
            let Opened { id, writer, window } = opened;
            // Twice the limit, because both ends may open as many at the same time.
            if self.open >= self.limits.receive.streams.saturating_mul(2) {
                return Err(violation(id, "more open streams than `max_pipes` allows"));
            }
            // Stream 0 stands for the connection, and every second number for a stream of this side.
            let is_reserved = id.0 == 0 || id.0 % 2 == self.next % 2;
            if is_reserved || self.ends.contains_key(&id) {
                return Err(violation(id, "opened with a number that is in use or reserved"));
            }
            if window == 0 || window > LARGEST_WINDOW {
                return Err(violation(id, "the window is 0 bytes or larger than 1 GiB"));
            }
            self.newest_of_peer = self.newest_of_peer.max(id.0);
            let end = match writer {
                WrittenBy::Sender => End::Reading(Reading::new(self.granted(window))),
                WrittenBy::Receiver => End::Writing(Writing::new(window, window)),
            };
            self.insert(id, end);
            Ok(opened)
        };
        streams.iter().map(accept).collect()
    }

    /// Returns the window that this side grants for a stream of the peer, which has proposed one.
    fn granted(&self, proposed: u32) -> u32 {
        proposed.min(u32::try_from(self.window.size()).unwrap_or(u32::MAX))
    }

    /// Grants what is missing of the windows of streams that the peer has opened and writes.
    pub(super) fn grant_rest(&self, opened: &[Opened], outgoing: &mut Outgoing<W>) {
        for Opened { id, writer, window } in opened {
            if *writer == WrittenBy::Sender {
                let first = self.limits.receive.first_window;
                let rest = self.granted(*window).saturating_sub(first);
                send_credit(*id, rest as usize, outgoing);
            }
        }
    }

    fn insert(&mut self, id: StreamId, mut end: End<W>) {
        if self.is_lost {
            end.lose(&mut Vec::new());
        } else {
            self.open += 1;
            self.has_opened = true;
        }
        self.ends.insert(id, end);
    }

    /// Handles a frame that concerns a stream.
    pub(super) fn handle(
        &mut self,
        frame: Frame<'_>,
        outgoing: &mut Outgoing<W>,
        woken: &mut Vec<W>,
    ) -> Result<Received, FrameError> {
        let (stream, put) = match frame {
            Frame::Items { stream, count, elements } => {
                self.window.receive(Chunk::cost_in(&frame), stream)?;
                let reading = self.open_reading(stream, "elements of a stream that is not open")?;
                (stream, reading.receive(count, elements, woken))
            }
            Frame::Skipped { stream, error } => {
                self.window.receive(Chunk::cost_in(&frame), stream)?;
                let reading =
                    self.open_reading(stream, "a skipped element of a stream that is not open")?;
                (stream, reading.skip(error, woken))
            }
            Frame::End { stream, error } => {
                let reading = self.open_reading(stream, "the end of a stream that is not open")?;
                let put = reading.end(ReadEnded::ByWriter(Bytes::copy_from_slice(error)), woken);
                let is_done = reading.is_abandoned_by_reader();
                self.note_ended(stream);
                if is_done {
                    self.ends.remove(&stream);
                }
                (stream, Ok(put))
            }
            Frame::Stop { stream } => {
                let wrong = "stop of a stream that this end does not write";
                let writing = self.open_writing(stream, wrong)?;
                let is_open = writing.is_some_and(|it| it.close(WriteClosed::ReaderGone, woken));
                if is_open {
                    self.note_ended(stream);
                }
                // Elements before the end of the stream are not sent either.
                if is_open || outgoing.holds_end(stream) {
                    let unsent = outgoing.drop_frames(stream, woken);
                    self.add_credit_of_connection(unsent, woken);
                    let mut frame = Vec::new();
                    FrameWriter::end(&mut frame, stream).finish();
                    outgoing.add_end(stream, &frame);
                }
                (stream, Ok(Put::Buffered))
            }
            Frame::Credit { stream: StreamId(0), bytes } => {
                self.add_credit_of_connection(bytes as usize, woken);
                (StreamId(0), self.window.check_credit().map(|()| Put::Buffered))
            }
            Frame::Credit { stream, bytes } => {
                let wrong = "credit for a stream that this end does not write";
                let writing = self.open_writing(stream, wrong)?;
                let added = writing.map_or(Ok(()), |it| it.add_credit(bytes, woken));
                (stream, added.map(|()| Put::Buffered))
            }
            frame => return Err(FrameError::OutOfPlace(frame.describe())),
        };
        match put {
            Ok(Put::Buffered) => Ok(Received::Handled),
            Ok(Put::Dropped(cost)) => {
                self.note_read(cost, outgoing);
                Ok(Received::Handled)
            }
            Ok(Put::Deliver) => Ok(Received::Deliver(stream)),
            Err(wrong) => Err(violation(stream, wrong)),
        }
    }

    fn open_reading(
        &mut self,
        id: StreamId,
        wrong: &'static str,
    ) -> Result<&mut Reading<W>, FrameError> {
        match self.ends.get_mut(&id) {
            Some(End::Reading(reading)) if !reading.has_ended() => Ok(reading),
            Some(End::Reading(_) | End::Writing(_)) | None => Err(violation(id, wrong)),
        }
    }

    /// Returns the writing end of a stream. Returns `None` if it has ended, because the peer may
    /// not have received the end yet.
    fn open_writing(
        &mut self,
        id: StreamId,
        wrong: &'static str,
    ) -> Result<Option<&mut Writing<W>>, FrameError> {
        let newest = if id.0 % 2 == self.next % 2 { self.next - 1 } else { self.newest_of_peer };
        match self.ends.get_mut(&id) {
            Some(End::Writing(writing)) => Ok(Some(writing).filter(|it| it.is_open())),
            Some(End::Reading(_)) => Err(violation(id, wrong)),
            None if id.0 > newest => Err(violation(id, wrong)),
            None => Ok(None),
        }
    }

    pub(super) fn reading(&mut self, id: StreamId) -> Option<&mut Reading<W>> {
        match self.ends.get_mut(&id) {
            Some(End::Reading(reading)) => Some(reading),
            Some(End::Writing(_)) | None => None,
        }
    }

    pub(super) fn writing(&mut self, id: StreamId) -> Option<&mut Writing<W>> {
        match self.ends.get_mut(&id) {
            Some(End::Writing(writing)) => Some(writing),
            Some(End::Reading(_)) | None => None,
        }
    }

    /// Returns credit of the connection to the writers of this side, and wakes those that wait for
    /// it.
    pub(super) fn add_credit_of_connection(&mut self, bytes: usize, woken: &mut Vec<W>) {
        for stream in self.window.add_credit(bytes) {
            if let Some(writing) = self.writing(stream) {
                writing.wake(woken);
            }
        }
    }

    /// Records that elements of any stream were read, and returns credit of the connection to the
    /// peer.
    pub(super) fn note_read(&mut self, cost: usize, outgoing: &mut Outgoing<W>) {
        let bytes = self.window.note_read(cost);
        send_credit(StreamId(0), bytes, outgoing);
    }

    /// Removes an end that is no longer used.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<End<W>> {
        self.ends.remove(&id)
    }

    /// Records that a stream is not open any more.
    pub(super) fn note_ended(&mut self, id: StreamId) {
        self.open -= 1;
        self.ended.push(id);
    }

    /// Ends streams that the peer never opens, because the message that opens them was abandoned.
    /// Adds those that a callback reads to `deliver`.
    pub(super) fn abandon(
        &mut self,
        streams: &[StreamId],
        woken: &mut Vec<W>,
        deliver: &mut Vec<StreamId>,
    ) {
        for id in streams {
            let ended = match self.ends.get_mut(id) {
                Some(End::Reading(reading)) if !reading.has_ended() => {
                    if reading.end(ReadEnded::Abandoned, woken) == Put::Deliver {
                        deliver.push(*id);
                    }
                    let is_done = reading.is_abandoned_by_reader();
                    if is_done {
                        self.ends.remove(id);
                    }
                    true
                }
                Some(End::Writing(writing)) => writing.close(WriteClosed::ReaderGone, woken),
                Some(End::Reading(_)) | None => false,
            };
            if ended {
                self.note_ended(*id);
            }
        }
    }

    /// Ends all streams, because the connection is lost. Adds those that a callback reads to
    /// `deliver`.
    pub(super) fn lose(&mut self, woken: &mut Vec<W>, deliver: &mut Vec<StreamId>) {
        self.is_lost = true;
        self.open = 0;
        self.ends.retain(|id, end| {
            if end.is_open() {
                self.ended.push(*id);
                if end.lose(woken) == Put::Deliver {
                    deliver.push(*id);
                }
            }
            !matches!(end, End::Reading(it) if it.is_abandoned_by_reader())
        });
    }

    pub(super) fn is_open(&self, id: StreamId) -> bool {
        self.ends.get(&id).is_some_and(End::is_open)
    }

    /// Returns whether a stream was opened or has ended since the last call of
    /// [`take_ended`](Self::take_ended).
    pub(super) fn has_changes(&self) -> bool {
        self.has_opened || !self.ended.is_empty()
    }

    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    /// Returns the streams that have ended.
    pub(super) fn take_ended(&mut self) -> Vec<StreamId> {
        self.has_opened = false;
        std::mem::take(&mut self.ended)
    }

    /// Returns the number of ends that are open or still used.
    #[cfg(any(test, fuzzing))]
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of buffered bytes, and the sum of the windows.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self, overdraft: usize) -> (usize, usize) {
        let kept = self.ends.values().filter_map(|it| match it {
            End::Reading(reading) => Some(reading.kept()),
            End::Writing(_) => None,
        });
        kept.fold((0, 0), |(kept, allowed), (bytes, window)| {
            (kept + bytes, allowed + window + overdraft)
        })
    }
}

impl<W: Waiter> End<W> {
    fn is_open(&self) -> bool {
        match self {
            Self::Reading(reading) => !reading.has_ended(),
            Self::Writing(writing) => writing.is_open(),
        }
    }

    fn lose(&mut self, woken: &mut Vec<W>) -> Put {
        match self {
            Self::Reading(reading) => reading.end(ReadEnded::Lost, woken),
            Self::Writing(writing) => {
                writing.close(WriteClosed::Lost, woken);
                Put::Buffered
            }
        }
    }
}

/// Sends credit for a stream, or for the connection.
pub(super) fn send_credit<W: Waiter>(
    stream: StreamId,
    mut bytes: usize,
    outgoing: &mut Outgoing<W>,
) {
    // An element of 4 GiB that overdraws a large window costs more than one frame can return.
    while bytes > 0 {
        let returned = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(20);
        FrameWriter::credit(&mut frame, stream, returned).finish();
        outgoing.add_control(stream, &frame);
        bytes -= returned as usize;
    }
}

fn violation(StreamId(stream): StreamId, violation: &'static str) -> FrameError {
    FrameError::Stream { stream, violation }
}
