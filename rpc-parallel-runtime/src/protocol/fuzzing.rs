//! A machine that is driven by fuzzer input, without a runtime.
//!
//! The input is a list of operations: frames of a peer that keeps no rules, and what the application
//! of this end does meanwhile.

use std::io::Write;
use std::time::Instant;

use super::calls::CallStatus;
use super::decoder::Decoder;
use super::lane::Ticket;
use super::limits::{DirectionLimits, Limits};
use super::machine::{Machine, Side};
use super::reading::{Chunk, DirectStep};
use super::streams::Received;
use super::transmit::Transmit;
use super::waiter::Waiter;
use super::waiting_line::Line;
use super::waiting_line::Place;
use super::writing::SendStatus;
use crate::wire::{
    CallId, Frame, FrameError, FrameWriter, FunctionInfo, FuzzInput, Large, MAX_FRAGMENT_LEN,
    MessageWriter, Opened, Outcome, SourceLocation, StreamId, TooLarge, Unsent, WrittenBy,
    fuzz_frame, largest_frame,
};

static FUNCTION: FunctionInfo = {
    let location =
        SourceLocation { package: "p", version: "1.0.0", module: "m", file: "", line: 1 };
    FunctionInfo::new("function", "Fuzzed", location, "", "()")
};

/// The maximum message size, in bytes. Larger messages are slow to fuzz and reach no other code.
const MAX_MESSAGE_SIZE: usize = 1024;

/// Limits that a peer reaches, and that this end reaches without one.
const LIMITS: Limits = Limits {
    receive: DirectionLimits {
        calls: 4,
        one_way_calls: 4,
        streams: usize::MAX,
        window: 4096,
        first_window: 500,
        overdraft: 2048,
    },
    send: DirectionLimits {
        calls: 3,
        one_way_calls: 2,
        streams: usize::MAX,
        window: 2048,
        first_window: 100,
        overdraft: 1024,
    },
};

/// Drives one end of a connection with the operations of the input. After a violation, the rest of
/// the input drives another one.
///
/// # Panics
///
/// Panics if the machine buffers more than its limit, forgets a task, or leaves something behind.
pub(crate) fn drive(bytes: &[u8]) {
    let functions = [&FUNCTION];
    let mut input = FuzzInput::new(bytes, &functions);
    while !input.is_empty() {
        let side = if input.flag() { Side::Answering } else { Side::Calling };
        let (mut driven, mut result) = (Driven::new(side), Ok(()));
        while !input.is_empty() && result.is_ok() {
            result = driven.step(&mut input);
            driven.check();
        }
        driven.finish(result.is_err());
    }
}

/// A task by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Task(u32);

impl Waiter for Task {
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

struct Driven {
    side: Side,
    machine: Machine<Task>,
    decoder: Decoder,
    transmit: Option<Transmit>,
    places: Vec<(Line, Place)>,
    calls: Vec<(CallId, Ticket)>,
    /// The calls of the peer.
    received: Vec<CallId>,
    readers: Vec<StreamId>,
    writers: Vec<StreamId>,
    /// The streams whose callbacks wait.
    callbacks: Vec<StreamId>,
    /// The number of the last stream that a valid frame of the peer has opened.
    opened_by_peer: u64,
    /// The last ticket of a frame.
    ticket: Ticket,
}

impl Driven {
    fn new(side: Side) -> Self {
        Self {
            side,
            machine: Machine::new(side, LIMITS),
            decoder: Decoder::new(MAX_MESSAGE_SIZE),
            transmit: None,
            places: Vec::new(),
            calls: Vec::new(),
            received: Vec::new(),
            readers: Vec::new(),
            writers: Vec::new(),
            callbacks: Vec::new(),
            // Beyond the numbers of other frames.
            opened_by_peer: if side == Side::Calling { 1000 } else { 1001 },
            ticket: Ticket::Written,
        }
    }

    /// Does one operation.
    fn step(&mut self, input: &mut FuzzInput<'_>) -> Result<(), FrameError> {
        match input.u8() % 32 {
            0 => self.begin(input),
            1 => self.send_one_way(input),
            2 => self.cancel(input),
            3 => self.poll_call(input),
            4 | 5 => self.answer(input),
            6 | 7 => self.write_elements(input),
            8 => self.end_stream(input),
            9 | 10 => self.read(input),
            11 => self.call_back(input),
            12 => self.drop_reader(input),
            13 => self.stop(input),
            14 | 15 => self.write(input),
            _ => return self.receive(input),
        }
        Ok(())
    }

    /// Receives a frame in two pieces.
    fn receive(&mut self, input: &mut FuzzInput<'_>) -> Result<(), FrameError> {
        let mut bytes = Vec::new();
        match input.flag() {
            true => input.next_operation(&mut bytes),
            false => bytes = self.valid_frame(input).unwrap_or_default(),
        }
        let (first, second) = bytes.split_at(usize::from(input.u8()) % (bytes.len() + 1));
        self.receive_bytes(first)?;
        self.receive_bytes(second)
    }

    /// Makes a frame that concerns a stream or a call of this end, or begins a call.
    fn valid_frame(&mut self, input: &mut FuzzInput<'_>) -> Option<Vec<u8>> {
        let kind = input.u8() % 8;
        let reads = if input.flag() { &self.readers } else { &self.callbacks };
        let read = choose(reads, input).map(|it| it.0.to_le_bytes());
        let written = choose(&self.writers, input).map(|it| it.0.to_le_bytes());
        Some(match kind {
            0 | 1 => {
                let elements = [&[7], input.bytes()].concat();
                let count = (1 + u32::from(input.u8()) % elements.len() as u32).to_le_bytes();
                fuzz_frame(8, &[&read?, &count, &elements])
            }
            2 => fuzz_frame(9, &[&read?, input.bytes()]),
            3 => fuzz_frame(15, &[&read?, &[7], input.bytes()]),
            4 => fuzz_frame(10, &[&written?]),
            5 => fuzz_frame(11, &[&written?, &u32::from(input.u8()).to_le_bytes()]),
            6 => {
                let (CallId(call), _) = choose(&self.calls, input)?;
                let message = [&[0], &[1][..], input.bytes(), &self.opened_by_peer(input)].concat();
                fuzz_frame(5, &[&call.to_le_bytes(), &message])
            }
            _ => {
                let call = u64::from(input.u8()).to_le_bytes();
                let function = FUNCTION.id().get().to_le_bytes();
                let message = [&[1], input.bytes(), &self.opened_by_peer(input)].concat();
                match input.flag() {
                    true => fuzz_frame(4, &[&call, &function, &message]),
                    false => fuzz_frame(7, &[&function, &message]),
                }
            }
        })
    }

    /// Makes the list of a stream that a message of the peer opens.
    fn opened_by_peer(&mut self, input: &mut FuzzInput<'_>) -> Vec<u8> {
        self.opened_by_peer += 2;
        let window = (1 + u32::from(input.u8()) * 8).to_le_bytes();
        let writer = u8::from(input.flag());
        [&self.opened_by_peer.to_le_bytes()[..], &[writer], &window, &[1, 0]].concat()
    }

    fn receive_bytes(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let mut received = 0;
            for space in self.decoder.space() {
                let len = space.len().min(bytes.len());
                space[..len].copy_from_slice(&bytes[..len]);
                bytes = &bytes[len..];
                received += len;
            }
            self.decoder.received(received);
            while let Some(frame) = self.decoder.next_frame()? {
                match (frame, self.side) {
                    (Frame::Call { call, streams, .. }, Side::Answering) => {
                        let opened = self.machine.accept(streams)?;
                        adopt(&mut self.readers, &mut self.writers, &opened, WrittenBy::Receiver);
                        self.received.push(call);
                    }
                    (Frame::OneWay { streams, .. }, Side::Answering) => {
                        self.machine.receive_one_way()?;
                        self.machine.complete_one_way();
                        let opened = self.machine.accept(streams)?;
                        adopt(&mut self.readers, &mut self.writers, &opened, WrittenBy::Receiver);
                    }
                    (Frame::Cancel { .. }, Side::Answering) => {}
                    (frame, _) => {
                        if let Received::Deliver(stream) = self.machine.handle(frame)? {
                            let cost = Chunk::cost_in(&frame);
                            run_callback(&mut self.machine, &mut self.callbacks, stream, cost);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, transmit: Option<Transmit>) {
        if transmit.is_some() {
            assert!(self.transmit.is_none(), "two transmits are handed out at the same time");
            self.transmit = transmit;
        }
    }

    /// Writes a part of the next transmit, or keeps it.
    fn write(&mut self, input: &mut FuzzInput<'_>) {
        let transmit = self.machine.transmit();
        self.hold(transmit);
        let part = input.u8();
        if let Some(mut transmit) = self.transmit.take() {
            let len: usize = transmit.segments().iter().map(|it| it.len()).sum();
            transmit.advance(if part < 128 { len } else { len.min(part.into()) });
            match part % 8 {
                0 => self.transmit = Some(transmit),
                _ => self.machine.take_back(transmit),
            }
        }
    }

    fn open(&mut self, input: &mut FuzzInput<'_>) -> Vec<Opened> {
        let count = input.u8() % 3;
        let open = |_| {
            let writer = if input.flag() { WrittenBy::Receiver } else { WrittenBy::Sender };
            self.machine.open(writer, input.u32().clamp(1, 1 << 20))
        };
        let opened: Vec<_> = (0..count).map(open).collect();
        adopt(&mut self.readers, &mut self.writers, &opened, WrittenBy::Sender);
        opened
    }

    /// Returns whether there is room for a message. Waits or gives up its place otherwise.
    fn has_room(&mut self, line: Line, input: &mut FuzzInput<'_>) -> bool {
        let at = self.places.iter().position(|(it, _)| *it == line);
        let mut place = at.map(|it| self.places.swap_remove(it).1);
        let has_room = self.machine.has_room(line, &mut place, &Task(0));
        match place {
            Some(place) if input.flag() => self.machine.leave_room(line, &place),
            place => self.places.extend(place.map(|it| (line, it))),
        }
        has_room
    }

    fn begin(&mut self, input: &mut FuzzInput<'_>) {
        if self.side == Side::Answering || !self.has_room(Line::Calls, input) {
            return;
        }
        let mut buffer = Vec::new();
        let writer = MessageWriter::call(&mut buffer, FUNCTION.id(), usize::MAX);
        let large = message(writer, input).finish();
        let mut frame = unsent(buffer, large);
        let at_once = self.machine.writes_next_call_at_once();
        let begun = self.machine.begin_call(&FUNCTION, &Task(0));
        let call = begun.expect("the connection is not lost");
        let opened = self.open(input);
        frame.set_call(&opened, call, None);
        let (ticket, transmit) = self.machine.send_call(frame, &opened, at_once);
        self.hold(transmit);
        self.calls.push((call, ticket));
    }

    fn send_one_way(&mut self, input: &mut FuzzInput<'_>) {
        if self.side == Side::Answering || !self.has_room(Line::OneWay, input) {
            return;
        }
        let mut buffer = Vec::new();
        let writer = MessageWriter::one_way(&mut buffer, FUNCTION.id(), usize::MAX);
        let large = message(writer, input).finish();
        let mut frame = unsent(buffer, large);
        let opened = self.open(input);
        frame.set_one_way(&opened);
        self.machine.begin_one_way();
        let (ticket, transmit) = self.machine.send_one_way(frame, &opened);
        self.hold(transmit);
        self.ticket = ticket;
        self.machine.is_written(ticket, &Task(0));
    }

    fn cancel(&mut self, input: &mut FuzzInput<'_>) {
        if let Some((call, ticket)) = take(&mut self.calls, input) {
            self.machine.cancel_call(call, ticket, input.flag());
        }
    }

    fn poll_call(&mut self, input: &mut FuzzInput<'_>) {
        let Some((call, ticket)) = take(&mut self.calls, input) else { return };
        match self.machine.poll_call(call, &Task(0)) {
            CallStatus::Waiting => self.calls.push((call, ticket)),
            CallStatus::Answered(answered) => {
                let streams = &answered.streams;
                adopt(&mut self.readers, &mut self.writers, streams, WrittenBy::Receiver);
            }
            CallStatus::Lost => panic!("the connection is not lost"),
        }
    }

    fn answer(&mut self, input: &mut FuzzInput<'_>) {
        let Some(call) = take(&mut self.received, input) else { return };
        let opened = self.open(input);
        let mut buffer = Vec::new();
        let writer = MessageWriter::answer(&mut buffer, call, Outcome::Value, usize::MAX);
        let large = message(writer, input).streams(&opened).finish();
        self.machine.send_answers(&mut buffer);
        if let Some(large) = large {
            self.machine.send_large_answer(large, opened.iter().map(|it| it.id).collect());
        }
    }

    fn write_elements(&mut self, input: &mut FuzzInput<'_>) {
        let Some(stream) = choose(&self.writers, input) else { return };
        match self.machine.send_status(stream) {
            SendStatus::Room(_) => {
                let mut buffer = Vec::new();
                let writer = MessageWriter::items(&mut buffer, stream, usize::MAX);
                let large = message(writer, input).count(1).finish();
                let (len, now) = (buffer.len(), Instant::now());
                match large {
                    Some(large) => self.machine.send_large_element(stream, large, len),
                    None => {
                        let transmit = self.machine.send_elements(stream, buffer, len, now);
                        self.hold(transmit);
                    }
                }
            }
            SendStatus::Full => self.machine.wait_to_send(stream, &Task(0)),
            SendStatus::Closed(_) | SendStatus::Ended => {}
        }
    }

    fn end_stream(&mut self, input: &mut FuzzInput<'_>) {
        if let Some(stream) = take(&mut self.writers, input) {
            self.drop_writer(stream);
        }
    }

    fn drop_writer(&mut self, stream: StreamId) {
        let mut end = Vec::new();
        FrameWriter::end(&mut end, stream).finish();
        self.machine.end_stream(stream, &end);
        self.machine.drop_writer(stream);
    }

    fn read(&mut self, input: &mut FuzzInput<'_>) {
        let Some(stream) = choose(&self.readers, input) else { return };
        if let Some(Ok(chunk)) = self.machine.poll_chunk(stream, &Task(0)) {
            self.machine.note_read(stream, chunk.cost());
        }
    }

    fn call_back(&mut self, input: &mut FuzzInput<'_>) {
        if let Some(stream) = take(&mut self.readers, input) {
            run_callback(&mut self.machine, &mut self.callbacks, stream, 0);
        }
    }

    fn drop_reader(&mut self, input: &mut FuzzInput<'_>) {
        if let Some(stream) = take(&mut self.readers, input) {
            self.machine.drop_reader(stream);
        }
    }

    fn stop(&mut self, input: &mut FuzzInput<'_>) {
        let streams = if input.flag() { &self.callbacks } else { &self.readers };
        if let Some(stream) = choose(streams, input) {
            self.machine.stop(stream);
        }
    }

    /// Checks the limit of buffered bytes, and continues the callbacks of streams that have ended.
    fn check(&mut self) {
        let (kept, allowed) = self.machine.kept(largest_frame(MAX_MESSAGE_SIZE));
        assert!(kept <= allowed, "{kept} bytes are kept, {allowed} are allowed");
        self.machine.take_woken();
        self.machine.take_ended();
        for stream in self.machine.take_deliver() {
            run_callback(&mut self.machine, &mut self.callbacks, stream, 0);
        }
    }

    /// Ends the connection, and checks that everything ends with it.
    fn finish(mut self, is_violated: bool) {
        self.machine.lose();
        self.machine.end();
        if let Some(transmit) = self.transmit.take() {
            self.machine.take_back(transmit);
        }
        self.check();
        assert!(self.callbacks.is_empty(), "a callback waits for the end of its stream");
        assert!(self.machine.is_written(self.ticket, &Task(0)), "a frame waits for ever");
        for (call, _) in self.calls.drain(..) {
            let status = self.machine.poll_call(call, &Task(0));
            assert!(!matches!(status, CallStatus::Waiting), "a call waits for ever");
            if let CallStatus::Answered(answered) = status {
                let streams = &answered.streams;
                adopt(&mut self.readers, &mut self.writers, streams, WrittenBy::Receiver);
            }
        }
        for stream in self.readers.drain(..) {
            while let Some(Ok(_)) = self.machine.poll_chunk(stream, &Task(0)) {}
            let end = self.machine.poll_chunk(stream, &Task(0));
            assert!(end.is_some(), "a reader waits for ever");
            self.machine.drop_reader(stream);
        }
        for stream in std::mem::take(&mut self.writers) {
            let status = self.machine.send_status(stream);
            assert!(matches!(status, SendStatus::Closed(_)), "a writer waits for ever");
            self.drop_writer(stream);
        }
        let mut left = self.machine.leftovers();
        // A message that opens an invalid stream may have opened others, which nothing owns.
        left.retain(|(name, _)| !is_violated || *name != "streams");
        assert_eq!(left, []);
    }
}

/// Adds the ends of streams that this end owns.
fn adopt(
    readers: &mut Vec<StreamId>,
    writers: &mut Vec<StreamId>,
    opened: &[Opened],
    this_end: WrittenBy,
) {
    for Opened { id, writer, .. } in opened {
        let ends = if *writer == this_end { &mut *writers } else { &mut *readers };
        ends.push(*id);
    }
}

/// Calls a callback until it waits or its stream ends.
fn run_callback(
    machine: &mut Machine<Task>,
    callbacks: &mut Vec<StreamId>,
    stream: StreamId,
    mut cost: usize,
) {
    callbacks.retain(|it| *it != stream);
    loop {
        machine.note_read(stream, cost);
        match machine.next_step(stream) {
            DirectStep::Chunk(chunk) => cost = chunk.cost(),
            DirectStep::Idle => return callbacks.push(stream),
            DirectStep::Ended(_) => return,
        }
    }
}

/// Writes a message whose length is usually small.
fn message<'a>(writer: MessageWriter<'a>, input: &mut FuzzInput<'_>) -> MessageWriter<'a> {
    static BYTES: [u8; 3 * MAX_FRAGMENT_LEN] = [7; 3 * MAX_FRAGMENT_LEN];
    let len = match input.u8() {
        255 => usize::from(input.u8()) * 512 + MAX_FRAGMENT_LEN,
        small => usize::from(small),
    };
    let written = writer.message(|sink| {
        sink.write_all(&BYTES[..len]).expect("writing to a sink cannot fail");
        Ok::<_, TooLarge>(())
    });
    written.expect("the message has no limit")
}

fn unsent(frame: Vec<u8>, large: Option<Large>) -> Unsent {
    match large {
        Some(large) => Unsent::Large(Box::new(large)),
        None => Unsent::Small(frame),
    }
}

fn choose<T: Copy>(of: &[T], input: &mut FuzzInput<'_>) -> Option<T> {
    let at = usize::from(input.u8()).checked_rem(of.len())?;
    Some(of[at])
}

fn take<T>(of: &mut Vec<T>, input: &mut FuzzInput<'_>) -> Option<T> {
    let at = usize::from(input.u8()).checked_rem(of.len())?;
    Some(of.swap_remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of one input, in bytes.
    const LEN: usize = 600;

    /// The number of pseudo-random bytes, unless `RPC_PARALLEL_FUZZ_BYTES` is set.
    const DEFAULT: u64 = 3_000_000;

    #[test]
    fn random_operations_of_peer_leave_nothing_behind() {
        let total = match std::env::var("RPC_PARALLEL_FUZZ_BYTES") {
            Ok(total) => total.parse().expect("`RPC_PARALLEL_FUZZ_BYTES` is a number"),
            Err(_) => DEFAULT,
        };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for number in 0..total / LEN as u64 {
            let input: Vec<_> = (0..LEN).map(|_| random.next()).collect();
            let driven = std::panic::catch_unwind(|| drive(&input));
            assert!(driven.is_ok(), "input {number}: {input:?}");
        }
    }

    /// The generator `xorshift64*`.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u8 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        }
    }
}
