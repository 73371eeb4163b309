//! The order in which frames are handed out.

use std::collections::HashMap;

use crate::protocol::lane::Ticket;
use crate::protocol::transmit::Transmit;
use crate::wire::MAX_FRAGMENT_LEN;

/// Checks the order in which a machine hands out frames.
#[derive(Default)]
pub(super) struct Order {
    /// The large frames that are handed out in part.
    transfers: HashMap<u32, Transfer>,
    /// Small messages that are queued.
    queued: Vec<Ticket>,
    /// Small messages that must be in the transmit which is handed out.
    due: Vec<Ticket>,
}

struct Transfer {
    /// The number of bytes that are not handed out.
    left: usize,
    /// How many fragments of the others were handed out since the last one of this transfer.
    others: HashMap<u32, usize>,
}

impl Order {
    /// Records that a small message was queued.
    pub(super) fn queue(&mut self, ticket: Ticket) {
        if let Ticket::Urgent(_) = ticket {
            self.queued.push(ticket);
        }
    }

    /// Checks the frames of a transmit that is handed out for the first time: they are complete,
    /// and large frames take turns.
    pub(super) fn hand_out(&mut self, transmit: &Transmit) {
        assert!(self.due.is_empty());
        self.due.append(&mut self.queued);
        let bytes = transmit.segments().map(|it| it.to_vec()).concat();
        let mut rest = &bytes[..];
        while let Some((length, frame)) = rest.split_first_chunk() {
            let (frame, after) = frame.split_at(u32::from_le_bytes(*length) as usize);
            self.check(frame);
            rest = after;
        }
        assert!(self.transfers.len() <= 16, "too many transfers at the same time");
    }

    fn check(&mut self, frame: &[u8]) {
        const BEGIN: u8 = 12;
        const FRAGMENT: u8 = 13;
        const ABANDON: u8 = 14;
        match frame {
            [BEGIN, fields @ ..] => {
                let (transfer, fields) = number(fields);
                let (total, bytes) = number(fields);
                let transfer_of = Transfer { left: total as usize, others: HashMap::new() };
                assert!(self.transfers.insert(transfer, transfer_of).is_none());
                self.take_turn(transfer, bytes.len());
            }
            [FRAGMENT, fields @ ..] => {
                let (transfer, bytes) = number(fields);
                self.take_turn(transfer, bytes.len());
            }
            [ABANDON, fields @ ..] => drop(self.transfers.remove(&number(fields).0)),
            _ => {}
        }
    }

    fn take_turn(&mut self, id: u32, len: usize) {
        assert!(len <= MAX_FRAGMENT_LEN, "the fragment is too large");
        for (other, transfer) in &mut self.transfers {
            if *other == id {
                transfer.others.clear();
                transfer.left -= len;
                continue;
            }
            let turns = transfer.others.entry(id).or_default();
            *turns += 1;
            assert!(*turns <= 1, "a large frame waits for two turns of another one");
        }
        self.transfers.retain(|_, it| it.left > 0);
    }

    /// Returns the small messages that must be written, because the transmit is.
    pub(super) fn take_due(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.due)
    }
}

fn number(fields: &[u8]) -> (u32, &[u8]) {
    let (number, rest) = fields.split_first_chunk().expect("the frame has all fields");
    (u32::from_le_bytes(*number), rest)
}
