//! The calls and answers of one end.

use super::{Call, End, Kind, Message, Phase, Running, Stream, Waiting, nth};
use crate::protocol::calls::{Answered, CallStatus};
use crate::protocol::tests::content::{self, CANCELLABLE, FUNCTION, LASTING};
use crate::protocol::tests::ledger::Ledger;
use crate::wire::{CallId, Opened, WrittenBy};

impl End {
    /// Sends a message, or waits until there is room.
    pub(crate) fn begin(&mut self, message: Message, ledger: &mut Ledger) {
        self.next += 1;
        let number = self.next;
        self.in_line.insert(number, (message, None));
        self.poll(Waiting::InLine(number), false, ledger);
    }

    pub(super) fn poll_line(&mut self, number: u32, renews: bool, ledger: &mut Ledger) {
        let waiting = Waiting::InLine(number);
        let Some((message, place)) = self.in_line.get_mut(&number) else { return };
        let line = message.kind.line();
        let mut place = place.take();
        let task = self.task(waiting, renews);
        let is_lost = self.phase != Phase::Open;
        if !is_lost && !self.machine.has_room(line, &mut place, &task) {
            let place = place.expect("a task that waits has a place");
            self.in_line.get_mut(&number).expect("it is in line").1 = Some(place);
            return;
        }
        self.waiting.remove(&waiting);
        let (message, _) = self.in_line.remove(&number).expect("it is in line");
        if !is_lost {
            self.send(&message, ledger);
        }
    }

    fn send(&mut self, message: &Message, ledger: &mut Ledger) {
        let Message { kind, size, streams } = message;
        let (ticket, transmit) = match kind {
            Kind::OneWay => {
                let number = ledger.next_one_way();
                let mut frame = content::one_way(number, *size);
                let opened = self.open(streams, u32::MAX, ledger);
                frame.set_one_way(&opened);
                self.machine.begin_one_way();
                let (ticket, transmit) = self.machine.send_one_way(frame, &opened);
                self.one_ways.insert(number, ticket);
                self.poll(Waiting::OneWay(number), false, ledger);
                (ticket, transmit)
            }
            Kind::Call | Kind::Lasting => {
                let at_once = self.machine.writes_next_call_at_once();
                let number = ledger.next_message();
                let task = self.task(Waiting::Call(number), false);
                let begun = self.machine.begin_call(&FUNCTION, &task);
                let id = begun.expect("the connection is not lost");
                let lasts = *kind == Kind::Lasting;
                let function = if lasts { LASTING } else { CANCELLABLE };
                let mut frame = content::call(function, number, *size);
                let opened = self.open(streams, number, ledger);
                frame.set_call(&opened, id, None);
                let (ticket, transmit) = self.machine.send_call(frame, &opened, at_once);
                self.calls.insert(number, Call { id, ticket, kind: *kind });
                (ticket, transmit)
            }
        };
        if transmit.is_none() {
            self.order.queue(ticket);
        }
        self.hold(transmit);
    }

    /// Opens the streams of a message, unless there would be too many. Then the message opens none.
    pub(super) fn open(
        &mut self,
        streams: &[Stream],
        opener: u32,
        ledger: &mut Ledger,
    ) -> Vec<Opened> {
        let streams = if self.machine.may_open(streams.len()) { streams } else { &[] };
        let open = |it: &Stream| {
            let sender = it.is_written_by_sender;
            let writer = if sender { WrittenBy::Sender } else { WrittenBy::Receiver };
            let opened = self.machine.open(writer, it.window);
            ledger.open(opened.id, opener);
            opened
        };
        let opened: Vec<_> = streams.iter().map(open).collect();
        self.adopt(&opened, WrittenBy::Sender);
        opened
    }

    /// Gives up a message that waits for room.
    pub(crate) fn leave_line(&mut self, which: usize) {
        let Some(number) = nth(&self.in_line, which) else { return };
        let (message, place) = self.in_line.remove(&number).expect("it is in line");
        self.waiting.remove(&Waiting::InLine(number));
        if let Some(place) = place {
            self.machine.leave_room(message.kind.line(), &place);
        }
        self.collect();
    }

    /// Cancels a call.
    pub(crate) fn cancel(&mut self, which: usize, ledger: &mut Ledger) {
        let Some(number) = nth(&self.calls, which) else { return };
        let Call { id, ticket, kind } = self.calls.remove(&number).expect("the call exists");
        self.waiting.remove(&Waiting::Call(number));
        ledger.cancel(number);
        self.machine.cancel_call(id, ticket, kind == Kind::Call);
        self.collect();
    }

    /// Answers a call of the peer.
    pub(crate) fn answer(
        &mut self,
        which: usize,
        size: usize,
        streams: &[Stream],
        ledger: &mut Ledger,
    ) {
        if self.running.is_empty() || self.phase != Phase::Open {
            return;
        }
        let at = which % self.running.len();
        let Running { id, number, .. } = self.running.swap_remove(at);
        let opened = self.open(streams, u32::MAX, ledger);
        self.send_answer(id, number, size, &opened);
        self.collect();
    }

    pub(super) fn send_answer(&mut self, id: CallId, number: u32, size: usize, opened: &[Opened]) {
        let mut buffer = Vec::new();
        let large = content::answer(&mut buffer, id, number, size, opened);
        self.machine.send_answers(&mut buffer);
        if let Some(large) = large {
            self.machine.send_large_answer(large, opened.iter().map(|it| it.id).collect());
        }
    }

    pub(crate) fn has_running_calls(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn poll_call(&mut self, number: u32, renews: bool) {
        let waiting = Waiting::Call(number);
        let Some(id) = self.calls.get(&number).map(|it| it.id) else { return };
        let task = self.task(waiting, renews);
        match self.machine.poll_call(id, &task) {
            CallStatus::Waiting => return,
            CallStatus::Answered(Answered { value, streams, .. }) => {
                assert_eq!(content::number_of(&value), number, "the answer is of another call");
                self.adopt(&streams, WrittenBy::Receiver);
            }
            CallStatus::Lost => {
                assert_ne!(self.phase, Phase::Open, "the connection is not lost");
            }
        }
        self.waiting.remove(&waiting);
        self.calls.remove(&number);
    }
}
