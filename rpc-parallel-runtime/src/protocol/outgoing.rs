//! The frames that are to be sent, and the order in which they are.
//!
//! Urgent frames overtake all others: small calls, answers and the control of streams. Streams and
//! large frames have lanes, which take turns. A frame that must follow another is never sent before
//! it: the frames of a stream follow the message that opens it, and one-way calls follow each other.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::lane::{Content, Fragments, Lane, LaneId, Queued, Ticket};
use super::reading::Chunk;
use super::reassembly::MAX_TRANSFERS;
use super::transmit::{Segment, Transmit};
use super::waiter::Waiter;
use super::written_line::WrittenLine;
use crate::wire::{
    FrameWriter, Large, MAX_FRAGMENT_LEN, StreamId, TransferId, write_fragment_header,
};

/// The number of urgent bytes from which on calls wait before they add a frame.
pub(super) const FULL: usize = 1024 * 1024;

/// The number of queued bytes of one stream from which on its writer waits.
pub(super) const LANE_FULL: usize = 256 * 1024;

/// The number of large messages from which on a peer that does not read them gets no more answers.
const MAX_MESSAGES: usize = MAX_TRANSFERS;

/// The size of a lane's turn while urgent frames are sent too, in bytes.
const SMALL_TURN: usize = 16 * 1024;

/// The number of small turns after an urgent frame.
const SMALL_TURNS: u32 = 64;

/// The largest frame of a lane that is copied into the first segment of a transmit, in bytes.
const MAX_COPIED: usize = 4 * 1024;

/// How long elements of a stream are gathered after one was handed out at once.
const GATHER_TIME: Duration = Duration::from_micros(20);

/// The largest frame that is gathered, in bytes. A system call for a larger one is worth it.
const MAX_GATHERED: usize = 512;

/// The size of a frame of gathered elements, in bytes.
const GATHERED: usize = 32 * 1024;

/// The maximum capacity of a buffer that is kept for reuse, in bytes.
const KEPT: usize = 256 * 1024;

/// The frames that are to be sent.
pub(super) struct Outgoing<W> {
    urgent: Vec<u8>,
    /// The total number of urgent bytes that were added.
    added: u64,
    /// How many of them were handed out.
    taken: u64,
    /// How many of them are written.
    written: u64,
    /// The tasks that wait until a number of urgent bytes is written.
    waiting: WrittenLine<W>,
    lanes: FxHashMap<LaneId, Lane<W>>,
    /// The lanes with frames that may be sent, in the order of their turns.
    turns: BTreeMap<u64, LaneId>,
    /// Lanes whose turn is a large frame, which has to wait until another one is sent.
    deferred: BTreeMap<u64, LaneId>,
    next_turn: u64,
    /// Streams whose opening message is not sent completely. Their lanes have no turns.
    unopened: FxHashSet<StreamId>,
    /// The number of frames that were added to lanes.
    queued: u64,
    /// The number of streams whose end waits in their lane, or is being written.
    unsent_ends: usize,
    next_message: u64,
    messages: usize,
    next_transfer: u32,
    /// The number of large frames that are sent in part.
    transfers: usize,
    /// Whether a transmit is handed out.
    is_transmitting: bool,
    /// A transmit that was given back before it was written completely.
    torn: Option<Transmit>,
    /// The frames of lanes that end in the current transmit.
    ending: Vec<(LaneId, u64)>,
    /// Whether an urgent message was added since the last turn of a lane.
    had_urgent: bool,
    /// The number of further small turns.
    small_turns: u32,
    /// The stream whose element was handed out at once, and when. The following ones are gathered.
    gathering: Option<(StreamId, Instant)>,
    /// A buffer for reuse.
    spare: Vec<u8>,
    ended: bool,
}

/// How elements were added.
pub(super) struct Added {
    pub(super) ticket: Ticket,
    pub(super) transmit: Option<Transmit>,
    /// What they cost, in bytes: less if they share a frame with those before them.
    pub(super) cost: usize,
}

impl<W: Waiter> Outgoing<W> {
    pub(super) fn new() -> Self {
        Self {
            urgent: Vec::new(),
            added: 0,
            taken: 0,
            written: 0,
            waiting: WrittenLine::new(),
            lanes: FxHashMap::default(),
            turns: BTreeMap::new(),
            deferred: BTreeMap::new(),
            next_turn: 0,
            unopened: FxHashSet::default(),
            queued: 0,
            unsent_ends: 0,
            next_message: 0,
            messages: 0,
            next_transfer: 0,
            transfers: 0,
            is_transmitting: false,
            torn: None,
            ending: Vec::new(),
            had_urgent: false,
            small_turns: 0,
            gathering: None,
            spare: Vec::new(),
            ended: false,
        }
    }

    /// Adds small calls or answers.
    pub(super) fn add_messages(&mut self, frames: &[u8]) -> Ticket {
        self.had_urgent = true;
        self.add_urgent(frames)
    }

    /// Adds small answers, and takes over their buffer if that saves a copy.
    pub(super) fn add_buffer(&mut self, frames: &mut Vec<u8>) {
        if self.urgent.is_empty() && !self.ended {
            self.had_urgent = true;
            self.added += frames.len() as u64;
            mem::swap(&mut self.urgent, frames);
        } else {
            self.add_messages(frames);
        }
        frames.clear();
    }

    /// Adds a small one-way call, behind those before it.
    pub(super) fn add_one_way(&mut self, frame: Vec<u8>, opens: Vec<StreamId>) -> Ticket {
        match self.has_lane(LaneId::OneWay) {
            true => self.add_opening(LaneId::OneWay, Queued::small(frame).opens(opens)),
            false => self.add_messages(&frame),
        }
    }

    /// Adds the cancel of a call behind its message.
    pub(super) fn add_cancel(&mut self, message: Ticket, frame: Vec<u8>) -> Ticket {
        match message {
            Ticket::Lane(id, _) if self.lanes.get(&id).is_some_and(|it| !it.frames.is_empty()) => {
                self.add_to_lane(id, Queued::small(frame))
            }
            _ => self.add_messages(&frame),
        }
    }

    /// Adds a large call or answer.
    pub(super) fn add_large(&mut self, frame: Large, opens: Vec<StreamId>) -> Ticket {
        let lane = LaneId::Message(self.next_message);
        self.next_message += 1;
        self.add_large_message(lane, frame, opens)
    }

    /// Adds a large one-way call, behind those before it.
    pub(super) fn add_large_one_way(&mut self, frame: Large, opens: Vec<StreamId>) -> Ticket {
        self.add_large_message(LaneId::OneWay, frame, opens)
    }

    fn add_large_message(&mut self, lane: LaneId, frame: Large, opens: Vec<StreamId>) -> Ticket {
        if self.ended {
            return Ticket::Dropped;
        }
        self.messages += 1;
        self.add_opening(lane, Queued::large(frame).opens(opens))
    }

    /// Adds a message to a lane. The lanes of the streams that it opens get no turns before.
    fn add_opening(&mut self, lane: LaneId, message: Queued) -> Ticket {
        if self.ended {
            return Ticket::Dropped;
        }
        self.unopened.extend(&message.opens);
        self.add_to_lane(lane, message)
    }

    /// Adds elements of a stream.
    ///
    /// They are handed out at once if nothing else is queued. If elements of this stream were handed
    /// out at once less than [`GATHER_TIME`] before, they are gathered instead.
    pub(super) fn add_elements(
        &mut self,
        stream: StreamId,
        frame: Vec<u8>,
        len: usize,
        now: Instant,
        drained: &mut Vec<StreamId>,
    ) -> Added {
        let lane = LaneId::Stream(stream);
        let since = match self.gathering {
            Some((gathering, since)) if gathering == stream => Some(now - since),
            Some(_) | None => None,
        };
        let gathers = frame.len() <= MAX_GATHERED && since.is_some_and(|it| it < GATHER_TIME);
        if self.ended {
            return Added { ticket: Ticket::Dropped, transmit: None, cost: 0 };
        }
        if !gathers && self.is_idle() && !self.delays(stream) {
            self.gathering = Some((stream, now));
            let transmit = self.transmit_frame(frame);
            let (ticket, cost) = (Ticket::Urgent(self.added), Chunk::cost_of(len));
            return Added { ticket, transmit: Some(transmit), cost };
        }
        let queued = self.lanes.get_mut(&lane);
        let shared = queued.and_then(|it| it.append(&frame, len, GATHERED).then_some(it.added));
        let (ticket, cost) = match shared {
            Some(number) => (Ticket::Lane(lane, number), len),
            None => {
                let cost = Chunk::cost_of(len);
                (self.add_to_lane(lane, Queued::small(frame).costs(cost)), cost)
            }
        };
        let is_due = since.is_some() && (!gathers || self.queued_bytes(stream) >= GATHERED);
        let transmit = if is_due { self.transmit(drained) } else { None };
        if transmit.is_some() {
            self.gathering = Some((stream, now));
        }
        Added { ticket, transmit, cost }
    }

    /// Records that the driver runs: it writes what is queued, so nothing has to be gathered.
    pub(super) fn note_driver(&mut self) {
        self.gathering = None;
    }

    /// Adds a large element of a stream.
    pub(super) fn add_large_element(
        &mut self,
        stream: StreamId,
        frame: Large,
        cost: usize,
    ) -> Ticket {
        let frame = Queued::large(frame).costs(cost);
        self.add_to_lane(LaneId::Stream(stream), frame)
    }

    /// Adds the end of a stream that this end writes, behind its elements.
    pub(super) fn add_end(&mut self, stream: StreamId, frame: &[u8]) {
        if let Ticket::Lane(id, _) = self.add_control(stream, frame)
            && let Some(lane) = self.lanes.get_mut(&id)
        {
            lane.has_end = true;
            self.unsent_ends += 1;
        }
    }

    /// Returns the number of ended streams whose end frame is not written yet.
    pub(super) fn unsent_ends(&self) -> usize {
        self.unsent_ends
    }

    /// Returns whether the end of a stream waits behind its elements.
    pub(super) fn holds_end(&self, stream: StreamId) -> bool {
        let lane = self.lanes.get(&LaneId::Stream(stream));
        lane.is_some_and(|it| it.has_end && !it.frames.is_empty())
    }

    /// Adds a frame that concerns a stream, behind its elements.
    pub(super) fn add_control(&mut self, stream: StreamId, frame: &[u8]) -> Ticket {
        let lane = LaneId::Stream(stream);
        match self.unopened.contains(&stream) || self.has_lane(lane) {
            true => self.add_to_lane(lane, Queued::small(frame.to_vec())),
            false => self.add_urgent(frame),
        }
    }

    pub(super) fn add_urgent(&mut self, frames: &[u8]) -> Ticket {
        if self.ended {
            return Ticket::Dropped;
        }
        self.urgent.extend_from_slice(frames);
        self.added += frames.len() as u64;
        Ticket::Urgent(self.added)
    }

    fn add_to_lane(&mut self, id: LaneId, frame: Queued) -> Ticket {
        if self.ended {
            return Ticket::Dropped;
        }
        // A lane that is made again continues with higher numbers, so that old tickets stay written.
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(self.queued));
        self.queued += 1;
        let number = lane.add(frame);
        let may_be_sent = !matches!(id, LaneId::Stream(it) if self.unopened.contains(&it));
        if may_be_sent && lane.turn.is_none() {
            self.give_turn(id);
        }
        Ticket::Lane(id, number)
    }

    /// Gives a lane a turn behind all others.
    fn give_turn(&mut self, id: LaneId) {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.turn = Some(turn);
        }
    }

    /// Gives the first deferred lane a turn.
    fn resume_deferred(&mut self) {
        if let Some((_, id)) = self.deferred.pop_first() {
            self.give_turn(id);
        }
    }

    fn has_lane(&self, lane: LaneId) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Returns whether frames of this stream have to wait in its lane.
    pub(super) fn delays(&self, stream: StreamId) -> bool {
        self.has_lane(LaneId::Stream(stream)) || self.unopened.contains(&stream)
    }

    /// Returns the number of queued bytes of a stream.
    pub(super) fn queued_bytes(&self, stream: StreamId) -> usize {
        // Most connections have no lanes.
        if self.lanes.is_empty() {
            return 0;
        }
        self.lanes.get(&LaneId::Stream(stream)).map_or(0, |it| it.bytes)
    }

    /// Removes the queued frames of a stream, and returns what they cost. The peer drops the rest of
    /// a large frame.
    pub(super) fn drop_frames(&mut self, stream: StreamId, woken: &mut Vec<W>) -> usize {
        self.unopened.remove(&stream);
        self.remove_lane(LaneId::Stream(stream), woken)
    }

    /// Removes a large message. Returns the streams that it would have opened, and what their
    /// elements cost. Returns `None` if the message was handed out completely.
    pub(super) fn abandon(
        &mut self,
        ticket: Ticket,
        woken: &mut Vec<W>,
    ) -> Option<(Vec<StreamId>, usize)> {
        let Ticket::Lane(id @ LaneId::Message(_), _) = ticket else { return None };
        let front = self.lanes.get_mut(&id)?.frames.front_mut()?;
        let Content::Large(_) = &front.content else { return None };
        let opens = mem::take(&mut front.opens);
        self.remove_lane(id, woken);
        let cost = opens.iter().map(|it| self.drop_frames(*it, woken)).sum();
        Some((opens, cost))
    }

    /// Removes a lane, and returns what its elements cost.
    fn remove_lane(&mut self, id: LaneId, woken: &mut Vec<W>) -> usize {
        let Some(mut lane) = self.lanes.remove(&id) else { return 0 };
        self.unsent_ends -= usize::from(lane.has_end);
        let mut cost = 0;
        for frame in lane.frames.drain(..) {
            cost += frame.cost;
            let Content::Large(Fragments { id: transfer, .. }) = frame.content else { continue };
            self.messages -= usize::from(!matches!(id, LaneId::Stream(_)));
            if let Some(transfer) = transfer {
                let mut abandon = Vec::new();
                FrameWriter::abandon(&mut abandon, transfer).finish();
                self.add_urgent(&abandon);
                self.transfers -= 1;
            }
        }
        lane.waiting.note_written(u64::MAX, woken);
        if let Some(turn) = lane.turn {
            self.turns.remove(&turn);
            self.deferred.remove(&turn);
        }
        // Either a large frame was sent in part, or it was this lane's turn to begin the next one.
        if self.transfers < MAX_TRANSFERS {
            self.resume_deferred();
        }
        cost
    }

    /// Returns whether calls have to wait until frames are written.
    pub(super) fn has_room(&self) -> bool {
        self.urgent.len() < FULL
    }

    /// Returns whether no answers should be added, because the peer does not read them.
    pub(super) fn is_full(&self) -> bool {
        self.urgent.len() >= FULL || self.messages > MAX_MESSAGES
    }

    /// Returns whether a frame is written, or was dropped. Otherwise registers the task.
    pub(super) fn is_written(&mut self, ticket: Ticket, waiter: &W) -> bool {
        match ticket {
            Ticket::Written | Ticket::Dropped => true,
            Ticket::Urgent(at) => {
                let written = self.written >= at || self.ended;
                if !written {
                    self.waiting.wait(at, waiter);
                }
                written
            }
            Ticket::Lane(id, number) => {
                let lane = self.lanes.get_mut(&id).filter(|it| it.written < number);
                if let Some(lane) = lane {
                    lane.waiting.wait(number, waiter);
                    return false;
                }
                true
            }
        }
    }

    /// Returns whether nothing is queued and nothing is being written, so that a frame can be
    /// written at once.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_transmitting && !self.has_frames()
    }

    fn has_frames(&self) -> bool {
        self.torn.is_some() || !self.urgent.is_empty() || !self.turns.is_empty()
    }

    /// Returns whether there is something to hand out.
    pub(super) fn can_transmit(&self) -> bool {
        !self.is_transmitting && self.has_frames()
    }

    /// Hands out one frame, which is the only one: [`is_idle`](Self::is_idle) must hold.
    pub(super) fn transmit_frame(&mut self, frame: Vec<u8>) -> Transmit {
        debug_assert!(self.is_idle());
        self.added += frame.len() as u64;
        self.taken = self.added;
        self.is_transmitting = true;
        Transmit::of(frame)
    }

    /// Returns the ticket of the frame that [`transmit_frame`](Self::transmit_frame) hands out.
    pub(super) fn last_ticket(&self) -> Ticket {
        Ticket::Urgent(self.added)
    }

    /// Hands out the next bytes. Adds the streams whose lanes have room again to `drained`.
    pub(super) fn transmit(&mut self, drained: &mut Vec<StreamId>) -> Option<Transmit> {
        if !self.can_transmit() {
            return None;
        }
        self.is_transmitting = true;
        if let Some(torn) = self.torn.take() {
            return Some(torn);
        }
        let mut head = mem::replace(&mut self.urgent, mem::take(&mut self.spare));
        self.taken = self.added;
        let had_urgent = mem::take(&mut self.had_urgent);
        if self.turns.is_empty() {
            self.small_turns = 0;
            return Some(Transmit::of(head));
        }
        self.small_turns = match had_urgent {
            true => SMALL_TURNS,
            false => self.small_turns.saturating_sub(1),
        };
        let prefers_latency = self.small_turns > 0;
        let turn = if prefers_latency { SMALL_TURN } else { MAX_FRAGMENT_LEN };
        let tail = self.take_turns(turn, &mut head, drained);
        Some(Transmit::of_turn(head, tail, prefers_latency))
    }

    /// Takes frames of the lanes, up to `turn` bytes.
    fn take_turns(
        &mut self,
        turn: usize,
        head: &mut Vec<u8>,
        drained: &mut Vec<StreamId>,
    ) -> Segment {
        let mut tail = None;
        let mut left = turn;
        while left > 0
            && tail.is_none()
            && let Some((_, id)) = self.turns.pop_first()
        {
            let before = head.len();
            tail = self.take_turn(id, (left, turn), head, drained);
            left = left.saturating_sub(head.len() - before);
        }
        tail.unwrap_or_default()
    }

    /// Takes frames of one lane: several small ones up to `left` bytes, or one fragment, which may
    /// have the length of a whole turn.
    fn take_turn(
        &mut self,
        id: LaneId,
        (left, turn): (usize, usize),
        head: &mut Vec<u8>,
        drained: &mut Vec<StreamId>,
    ) -> Option<Segment> {
        let lane = self.lanes.get_mut(&id)?;
        let was_full = lane.bytes >= LANE_FULL;
        let (mut tail, mut opened, mut taken, mut resumes) = (None, Vec::new(), 0, false);
        while taken < left
            && tail.is_none()
            && let Some(frame) = lane.frames.front_mut()
        {
            match &mut frame.content {
                Content::Small(bytes) => {
                    taken += bytes.len();
                    opened.append(&mut frame.opens);
                    match bytes.len() {
                        ..=MAX_COPIED => head.extend_from_slice(bytes),
                        _ => tail = Some(Segment::Frame(mem::take(bytes))),
                    }
                    lane.frames.pop_front();
                    lane.taken += 1;
                }
                // A large frame begins its own transmit, so that it gets a whole turn.
                Content::Large(_) if taken > 0 => break,
                Content::Large(large) => {
                    if large.id.is_none() && self.transfers == MAX_TRANSFERS {
                        let turn = self.next_turn;
                        self.next_turn += 1;
                        self.deferred.insert(turn, id);
                        lane.turn = Some(turn);
                        return None;
                    }
                    let begins = large.id.is_none();
                    let transfer = *large.id.get_or_insert_with(|| {
                        self.next_transfer = self.next_transfer.wrapping_add(1);
                        TransferId(self.next_transfer)
                    });
                    self.transfers += usize::from(begins);
                    let Some(piece) = large.pieces.front_mut() else { break };
                    let bytes = piece.split_to(piece.len().min(turn.min(MAX_FRAGMENT_LEN)));
                    let total = begins.then_some(large.total);
                    write_fragment_header(head, transfer, total, bytes.len());
                    taken += bytes.len();
                    tail = Some(Segment::Fragment(bytes));
                    if piece.is_empty() {
                        large.pieces.pop_front();
                    }
                    if large.pieces.is_empty() {
                        opened.append(&mut frame.opens);
                        lane.frames.pop_front();
                        lane.taken += 1;
                        self.messages -= usize::from(!matches!(id, LaneId::Stream(_)));
                        self.transfers -= 1;
                        resumes = true;
                    }
                }
            }
        }
        lane.bytes -= taken;
        self.ending.push((id, lane.taken));
        lane.turn = None;
        let (has_frames, is_drained) =
            (!lane.frames.is_empty(), was_full && lane.bytes < LANE_FULL);
        if resumes {
            self.resume_deferred();
        }
        if has_frames {
            self.give_turn(id);
        }
        if let LaneId::Stream(stream) = id
            && is_drained
        {
            drained.push(stream);
        }
        opened.into_iter().for_each(|it| self.note_opened(it));
        tail
    }

    /// Gives the lane of a stream its turns, because the message that opens it was handed out.
    fn note_opened(&mut self, stream: StreamId) {
        self.unopened.remove(&stream);
        let id = LaneId::Stream(stream);
        if let Some(lane) = self.lanes.get_mut(&id)
            && !lane.frames.is_empty()
            && lane.turn.is_none()
        {
            self.give_turn(id);
        }
    }

    /// Takes back a transmit, written or not.
    pub(super) fn take_back(&mut self, transmit: Transmit, woken: &mut Vec<W>) {
        self.is_transmitting = false;
        if self.ended {
            return;
        }
        if !transmit.is_written() {
            self.torn = Some(transmit);
            return;
        }
        self.written = self.taken;
        self.waiting.note_written(self.written, woken);
        for (id, taken) in self.ending.drain(..) {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.note_written(taken, woken);
            if lane.is_done() {
                self.unsent_ends -= usize::from(lane.has_end);
                self.lanes.remove(&id);
            }
        }
        let mut head = transmit.into_buffer();
        if head.capacity() > self.spare.capacity() && head.capacity() <= KEPT {
            head.clear();
            self.spare = head;
        }
    }

    /// Drops all queued and all later frames.
    pub(super) fn end(&mut self, woken: &mut Vec<W>) {
        self.ended = true;
        self.waiting.note_written(u64::MAX, woken);
        for mut lane in mem::take(&mut self.lanes).into_values() {
            lane.waiting.note_written(u64::MAX, woken);
        }
        (self.urgent, self.torn) = (Vec::new(), None);
        self.turns.clear();
        self.deferred.clear();
        self.unopened.clear();
        (self.messages, self.transfers, self.unsent_ends) = (0, 0, 0);
    }

    /// Names and counts what is left of lanes and large frames.
    #[cfg(any(test, fuzzing))]
    pub(super) fn leftovers(&self) -> [(&'static str, usize); 6] {
        [
            ("lanes", self.lanes.len()),
            ("turns", self.turns.len() + self.deferred.len()),
            ("streams that are not opened", self.unopened.len()),
            ("large messages", self.messages),
            ("ends of streams", self.unsent_ends),
            ("transfers", self.transfers),
        ]
    }
}
