//! The sending of large frames in fragments.

use std::collections::VecDeque;

use bytes::Bytes;

use super::transfers::MAX_TRANSFERS;
use crate::wire::{FrameWriter, Large, StreamId, TransferId, write_fragment_header};

/// The ordering of a frame: frames of one lane keep their order, although other frames overtake
/// large ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// The frame may overtake others, and others may overtake it.
    Any,
    /// The frame follows earlier frames of this stream, and the frame that opens the stream.
    Stream(StreamId),
    /// The frame follows earlier one-way calls.
    OneWay,
}

/// The large frames that are not written completely.
#[derive(Default)]
pub(super) struct Sending {
    /// The frames in the order in which they were added. The first [`MAX_TRANSFERS`] take turns.
    queue: VecDeque<Transfer>,
    turn: usize,
    next_id: u32,
    /// Frames that were held back behind a large frame, which is now written.
    behind: Vec<u8>,
    /// Streams that the peer never learns of, because the frame that opens them was abandoned.
    unknown: Vec<StreamId>,
}

struct Transfer {
    id: TransferId,
    lane: Lane,
    /// The streams that the frame opens.
    opens: Vec<StreamId>,
    total: u32,
    begun: bool,
    pieces: VecDeque<Bytes>,
    /// Small frames that must follow this frame.
    behind: Vec<u8>,
}

impl Sending {
    pub(super) fn begin(&mut self, frame: Large, lane: Lane, opens: Vec<StreamId>) -> TransferId {
        let id = TransferId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        if self.is_unknown(lane) {
            return id;
        }
        let (total, pieces) = frame.into_pieces();
        self.queue.push_back(Transfer {
            id,
            lane,
            opens,
            total,
            begun: false,
            pieces,
            behind: Vec::new(),
        });
        id
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() > MAX_TRANSFERS
    }

    pub(super) fn holds(&self, id: TransferId) -> bool {
        self.queue.iter().any(|it| it.id == id)
    }

    /// Returns whether frames of this lane must wait for a large frame.
    pub(super) fn holds_up(&self, lane: Lane) -> bool {
        lane != Lane::Any
            && (self.queue.iter().any(|it| it.comes_before(lane)) || self.is_unknown(lane))
    }

    fn is_unknown(&self, lane: Lane) -> bool {
        self.unknown.iter().any(|it| lane == Lane::Stream(*it))
    }

    /// Holds a frame back until the large frames before it are written. Returns `None` if it need
    /// not wait.
    pub(super) fn put_behind(&mut self, frame: &[u8], lane: Lane) -> Option<TransferId> {
        if lane == Lane::Any {
            return None;
        }
        if self.is_unknown(lane) {
            return Some(TransferId(self.next_id.wrapping_sub(1)));
        }
        let last = self.queue.iter_mut().rev().find(|it| it.comes_before(lane))?;
        last.behind.extend_from_slice(frame);
        Some(last.id)
    }

    /// Abandons the frame of a call, and notifies the peer if it has received a fragment. Returns
    /// the streams that the frame would have opened. Later frames of these streams are dropped.
    pub(super) fn abandon(&mut self, id: TransferId, out: &mut Vec<u8>) -> Option<Vec<StreamId>> {
        let at = self.queue.iter().position(|it| it.id == id)?;
        let transfer = self.queue.remove(at)?;
        if transfer.begun {
            FrameWriter::abandon(out, id).finish();
        }
        self.unknown.extend(&transfer.opens);
        // Large frames of these streams have not begun, because they had to wait for this frame.
        self.queue.retain(|it| !transfer.opens.iter().any(|id| it.lane == Lane::Stream(*id)));
        Some(transfer.opens)
    }

    /// Forgets abandoned streams, for which no further frames are added.
    pub(super) fn forget(&mut self, streams: &[StreamId]) {
        self.unknown.retain(|it| !streams.contains(it));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the header and the bytes of the next fragment, which has at most `max` bytes.
    pub(super) fn next_fragment(&mut self, max: usize) -> Option<(Vec<u8>, Bytes)> {
        let active = self.queue.len().min(MAX_TRANSFERS);
        let turns = (0..active).map(|it| (self.turn + it) % active);
        let at = turns.into_iter().find(|it| self.may_go(*it))?;
        let transfer = &mut self.queue[at];
        let mut head = Vec::with_capacity(16);
        let piece = transfer.pieces.front_mut()?;
        let bytes = piece.split_to(piece.len().min(max));
        let total = (!transfer.begun).then_some(transfer.total);
        write_fragment_header(&mut head, transfer.id, total, bytes.len());
        transfer.begun = true;
        if piece.is_empty() {
            transfer.pieces.pop_front();
        }
        self.turn = at + 1;
        if transfer.pieces.is_empty()
            && let Some(done) = self.queue.remove(at)
        {
            self.behind.extend_from_slice(&done.behind);
            self.turn = at;
        }
        Some((head, bytes))
    }

    /// Returns the frames that may be written after the last fragment.
    pub(super) fn take_behind(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.behind)
    }

    /// Returns whether no other large frame must be written before this one.
    fn may_go(&self, at: usize) -> bool {
        let lane = self.queue[at].lane;
        lane == Lane::Any || !self.queue.iter().take(at).any(|it| it.comes_before(lane))
    }
}

impl Transfer {
    fn comes_before(&self, lane: Lane) -> bool {
        self.lane == lane || self.opens.iter().any(|it| lane == Lane::Stream(*it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FunctionId, MAX_FRAGMENT_LEN, MessageWriter, TooLarge};
    use std::io::Write;

    fn large(len: usize) -> Large {
        let mut buffer = Vec::new();
        let writer = MessageWriter::one_way(&mut buffer, FunctionId(7), usize::MAX);
        let written = writer.message(|sink| {
            sink.write_all(&vec![7; len]).expect("a sink takes everything");
            Ok::<_, TooLarge>(())
        });
        written.expect("nothing is too large").finish().expect("it is large")
    }

    #[test]
    fn large_frames_take_turns() {
        let mut sending = Sending::default();
        let ids = [3 * MAX_FRAGMENT_LEN, 3 * MAX_FRAGMENT_LEN]
            .map(|len| sending.begin(large(len), Lane::Any, Vec::new()));

        let heads: Vec<_> = std::iter::from_fn(|| sending.next_fragment(MAX_FRAGMENT_LEN))
            .map(|(head, _)| head[5])
            .collect();

        let [one, other] = ids.map(|TransferId(id)| id as u8);
        assert_eq!(heads, [one, other, one, other, one, other, one, other]);
    }

    #[test]
    fn what_is_behind_a_large_frame_stays_behind_it() {
        let mut sending = Sending::default();
        sending.begin(large(2 * MAX_FRAGMENT_LEN), Lane::OneWay, Vec::new());

        assert!(sending.put_behind(b"other lane", Lane::Any).is_none());
        assert!(sending.put_behind(b"behind", Lane::OneWay).is_some());

        assert!(sending.next_fragment(MAX_FRAGMENT_LEN).is_some());
        assert!(sending.take_behind().is_empty());
        while sending.next_fragment(MAX_FRAGMENT_LEN).is_some() {}
        assert_eq!(sending.take_behind(), b"behind");
    }
}
