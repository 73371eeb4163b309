//! Lanes: queues of frames whose order must be kept, and which take turns with each other.

use std::collections::VecDeque;

use bytes::Bytes;

use super::waiter::Waiter;
use super::written_line::WrittenLine;
use crate::wire::{Large, StreamId, TransferId, append_items};

/// Identifies a lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum LaneId {
    /// One large call or answer, which may overtake all others.
    Message(u64),
    /// One-way calls behind a large one.
    OneWay,
    /// The frames of one stream.
    Stream(StreamId),
}

/// Identifies a queued frame, to wait until it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ticket {
    Written,
    /// The frame was dropped, because the connection had ended.
    Dropped,
    /// The frame is written when this total number of urgent bytes is written.
    Urgent(u64),
    /// The frame is written when the frame with this number is written in this lane.
    Lane(LaneId, u64),
}

/// A queue of frames.
pub(super) struct Lane<W> {
    pub(super) frames: VecDeque<Queued>,
    /// The number of queued bytes.
    pub(super) bytes: usize,
    /// The number of the last frame that was added.
    pub(super) added: u64,
    /// The number of the last one that was handed out completely.
    pub(super) taken: u64,
    /// The number of the last one that is written.
    pub(super) written: u64,
    /// The number of its next turn, if it has one.
    pub(super) turn: Option<u64>,
    /// Whether the last frame is the end of a stream.
    pub(super) has_end: bool,
    /// Tasks that wait until a frame is written.
    pub(super) waiting: WrittenLine<W>,
}

/// A frame of a lane.
pub(super) struct Queued {
    pub(super) content: Content,
    /// The cost of its elements in the windows of their stream and of the connection, in bytes.
    pub(super) cost: usize,
    /// The streams that the frame opens.
    pub(super) opens: Vec<StreamId>,
}

pub(super) enum Content {
    Small(Vec<u8>),
    Large(Fragments),
}

/// A large frame that is sent in fragments.
pub(super) struct Fragments {
    /// Assigned with the first fragment.
    pub(super) id: Option<TransferId>,
    pub(super) total: u32,
    pub(super) pieces: VecDeque<Bytes>,
}

impl Fragments {
    pub(super) fn new(frame: Large) -> Self {
        let (total, pieces) = frame.into_pieces();
        Self { id: None, total, pieces }
    }
}

impl Queued {
    pub(super) fn small(frame: Vec<u8>) -> Self {
        Self { content: Content::Small(frame), cost: 0, opens: Vec::new() }
    }

    pub(super) fn large(frame: Large) -> Self {
        let content = Content::Large(Fragments::new(frame));
        Self { content, cost: 0, opens: Vec::new() }
    }

    /// Sets the streams that the frame opens.
    pub(super) fn opens(self, opens: Vec<StreamId>) -> Self {
        Self { opens, ..self }
    }

    /// Sets the cost of the elements in the frame.
    pub(super) fn costs(self, cost: usize) -> Self {
        Self { cost, ..self }
    }

    fn len(&self) -> usize {
        match &self.content {
            Content::Small(frame) => frame.len(),
            Content::Large(large) => large.pieces.iter().map(Bytes::len).sum(),
        }
    }
}

impl<W: Waiter> Lane<W> {
    /// Makes a lane whose first frame has the number after `last`.
    pub(super) fn new(last: u64) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            added: last,
            taken: last,
            written: last,
            turn: None,
            has_end: false,
            waiting: WrittenLine::new(),
        }
    }

    /// Adds a frame, and returns its number.
    pub(super) fn add(&mut self, frame: Queued) -> u64 {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        self.added += 1;
        self.added
    }

    /// Appends the elements of a frame, `len` bytes, to the last frame, if that is a frame of
    /// elements and stays within `max` bytes. Returns whether it was.
    pub(super) fn append(&mut self, frame: &[u8], len: usize, max: usize) -> bool {
        let Some(queued) = self.frames.back_mut() else { return false };
        let Queued { content: Content::Small(last), cost, .. } = queued else { return false };
        let before = last.len();
        let appended = before + frame.len() <= max && append_items(last, frame);
        self.bytes += last.len() - before;
        *cost += if appended { len } else { 0 };
        appended
    }

    /// Records that frames up to this number are written, and moves the tasks that wait for them to
    /// `woken`.
    pub(super) fn note_written(&mut self, written: u64, woken: &mut Vec<W>) {
        self.written = self.written.max(written);
        self.waiting.note_written(written, woken);
    }

    /// Returns whether no frame is queued or being written.
    pub(super) fn is_done(&self) -> bool {
        self.written == self.added
    }
}
