//! The bytes to write.

use super::{ADMITTED, Line, Machine};
use crate::protocol::lane::Ticket;
use crate::protocol::transmit::Transmit;
use crate::protocol::waiter::Waiter;

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
    pub(super) fn wake_drained(&mut self) {
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
        self.admit(Line::Calls, ADMITTED);
        self.admit(Line::OneWay, ADMITTED);
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
