//! The sending of large frames in fragments.

use std::collections::VecDeque;

use bytes::Bytes;

use super::transfers::MAX_TRANSFERS;
use crate::wire::{FrameWriter, Large, StreamId, TransferId, write_fragment_header};

/// Which earlier frames a frame must follow, although other frames overtake large ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SendOrder {
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
    /// Frames that were held back for a large frame, which is completely written.
    released: Vec<u8>,
    /// Streams that the peer never opens, because the frame that opens them was abandoned.
    abandoned: Vec<StreamId>,
}

struct Transfer {
    id: TransferId,
    order: SendOrder,
    /// The streams that the frame opens.
    opens: Vec<StreamId>,
    total: u32,
    begun: bool,
    pieces: VecDeque<Bytes>,
    /// Small frames that must follow this frame.
    held_back: Vec<u8>,
}

impl Sending {
    pub(super) fn begin(
        &mut self,
        frame: Large,
        order: SendOrder,
        opens: Vec<StreamId>,
    ) -> TransferId {
        let id = TransferId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        if self.is_abandoned(order) {
            return id;
        }
        let (total, pieces) = frame.into_pieces();
        self.queue.push_back(Transfer {
            id,
            order,
            opens,
            total,
            begun: false,
            pieces,
            held_back: Vec::new(),
        });
        id
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() > MAX_TRANSFERS
    }

    pub(super) fn holds(&self, id: TransferId) -> bool {
        self.queue.iter().any(|it| it.id == id)
    }

    /// Returns whether a frame with this order must wait for a large frame.
    pub(super) fn delays(&self, order: SendOrder) -> bool {
        order != SendOrder::Any
            && (self.queue.iter().any(|it| it.comes_before(order)) || self.is_abandoned(order))
    }

    fn is_abandoned(&self, order: SendOrder) -> bool {
        self.abandoned.iter().any(|it| order == SendOrder::Stream(*it))
    }

    /// Holds a frame back until the large frames before it are written. Returns `None` if it need
    /// not wait.
    pub(super) fn hold_back(&mut self, frame: &[u8], order: SendOrder) -> Option<TransferId> {
        if order == SendOrder::Any {
            return None;
        }
        if self.is_abandoned(order) {
            return Some(TransferId(self.next_id.wrapping_sub(1)));
        }
        let last = self.queue.iter_mut().rev().find(|it| it.comes_before(order))?;
        last.held_back.extend_from_slice(frame);
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
        self.abandoned.extend(&transfer.opens);
        // Large frames of these streams have not begun, because they had to wait for this frame.
        self.queue.retain(|it| !transfer.opens.iter().any(|id| it.order == SendOrder::Stream(*id)));
        Some(transfer.opens)
    }

    /// Forgets abandoned streams, for which no further frames are added.
    pub(super) fn forget(&mut self, streams: &[StreamId]) {
        self.abandoned.retain(|it| !streams.contains(it));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the header and the bytes of the next fragment, which has at most `max` bytes.
    pub(super) fn next_fragment(&mut self, max: usize) -> Option<(Vec<u8>, Bytes)> {
        let active = self.queue.len().min(MAX_TRANSFERS);
        let turns = (0..active).map(|it| (self.turn + it) % active);
        let at = turns.into_iter().find(|it| self.may_be_sent(*it))?;
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
            self.released.extend_from_slice(&done.held_back);
            self.turn = at;
        }
        Some((head, bytes))
    }

    /// Returns the frames that may be written after the last fragment.
    pub(super) fn take_released(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.released)
    }

    /// Returns whether no other large frame must be written before this one.
    fn may_be_sent(&self, at: usize) -> bool {
        let order = self.queue[at].order;
        order == SendOrder::Any || !self.queue.iter().take(at).any(|it| it.comes_before(order))
    }
}

impl Transfer {
    fn comes_before(&self, order: SendOrder) -> bool {
        self.order == order || self.opens.iter().any(|it| order == SendOrder::Stream(*it))
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
            sink.write_all(&vec![7; len]).expect("the sink has no limit");
            Ok::<_, TooLarge>(())
        });
        written.expect("the message has no limit").finish().expect("the frame is a large one")
    }

    #[test]
    fn large_frames_take_turns() {
        let mut sending = Sending::default();
        let ids = [3 * MAX_FRAGMENT_LEN, 3 * MAX_FRAGMENT_LEN]
            .map(|len| sending.begin(large(len), SendOrder::Any, Vec::new()));

        let heads: Vec<_> = std::iter::from_fn(|| sending.next_fragment(MAX_FRAGMENT_LEN))
            .map(|(head, _)| head[5])
            .collect();

        let [one, other] = ids.map(|TransferId(id)| id as u8);
        assert_eq!(heads, [one, other, one, other, one, other, one, other]);
    }

    #[test]
    fn frame_of_same_order_stays_behind_large_one() {
        let mut sending = Sending::default();
        sending.begin(large(2 * MAX_FRAGMENT_LEN), SendOrder::OneWay, Vec::new());

        assert!(sending.hold_back(b"any order", SendOrder::Any).is_none());
        assert!(sending.hold_back(b"behind", SendOrder::OneWay).is_some());

        assert!(sending.next_fragment(MAX_FRAGMENT_LEN).is_some());
        assert!(sending.take_released().is_empty());
        while sending.next_fragment(MAX_FRAGMENT_LEN).is_some() {}
        assert_eq!(sending.take_released(), b"behind");
    }
}
