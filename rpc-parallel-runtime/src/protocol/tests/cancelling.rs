//! Cancels of calls whose message is not sent completely, and of which the peer sees nothing.

use std::iter;
use std::time::Instant;

use super::content::{self, CANCELLABLE, FUNCTION, LASTING, MAX};
use super::{Task, limits};
use crate::protocol::decoder::Decoder;
use crate::protocol::lane::Ticket;
use crate::protocol::machine::{Machine, Side};
use crate::protocol::reading::ReadEnded;
use crate::protocol::transmit::Transmit;
use crate::protocol::writing::{SendStatus, WriteClosed};
use crate::wire::{CallId, Frame, FunctionId, MAX_FRAGMENT_LEN, Opened, StreamId, WrittenBy};

/// A large call that opens two streams, and of which one fragment is handed out.
struct PartlySent {
    machine: Machine<Task>,
    call: CallId,
    ticket: Ticket,
    /// The stream that this end writes.
    written: StreamId,
    /// The stream that this end reads.
    read: StreamId,
    transmit: Option<Transmit>,
    decoder: Decoder,
    frames: Vec<&'static str>,
}

impl PartlySent {
    fn new(function: FunctionId) -> Self {
        let mut machine = Machine::new(Side::Calling, limits());
        let call = machine.begin_call(&FUNCTION, &Task(0)).expect("the connection is not lost");
        let mut frame = content::call(function, 7, 3 * MAX_FRAGMENT_LEN);
        let opened = [WrittenBy::Sender, WrittenBy::Receiver].map(|it| machine.open(it, 1000));
        frame.set_call(&opened, call, None);
        let (ticket, none) = machine.send_call(frame, &opened, true);
        assert!(none.is_none());
        let transmit = machine.transmit();
        assert!(transmit.is_some());
        let [written, read] = opened.map(|Opened { id, .. }| id);
        let (decoder, frames) = (Decoder::new(MAX), Vec::new());
        Self { machine, call, ticket, written, read, transmit, decoder, frames }
    }

    fn write_elements(&mut self) {
        let elements = content::elements(self.written, 0, 3, 10);
        let transmit = content::send(&mut self.machine, self.written, elements, Instant::now());
        assert!(transmit.is_none(), "the stream is not open at the peer");
    }

    fn end_written(&mut self) {
        self.machine.end_stream(self.written, &content::end(self.written, b"failed"));
        self.machine.drop_writer(self.written);
    }

    fn drop_reader(&mut self) {
        self.machine.drop_reader(self.read);
    }

    fn cancel(&mut self) {
        assert!(self.machine.cancel_call(self.call, self.ticket, true));
    }

    /// Writes the transmit that is handed out, and takes the next one.
    fn write(&mut self) {
        let Some(mut transmit) = self.transmit.take() else { return };
        for segment in transmit.segments() {
            receive(&mut self.decoder, &segment, &mut self.frames);
        }
        transmit.skip();
        self.machine.take_back(transmit);
        self.transmit = self.machine.transmit();
    }

    /// Writes everything, and returns the names of the frames that the peer receives.
    fn finish(&mut self) -> &[&'static str] {
        while self.transmit.is_some() {
            self.write();
        }
        assert!(!self.decoder.is_receiving_large());
        &self.frames
    }
}

fn receive(decoder: &mut Decoder, mut bytes: &[u8], frames: &mut Vec<&'static str>) {
    while !bytes.is_empty() {
        let [space, _] = decoder.space();
        let len = bytes.len().min(space.len());
        space[..len].copy_from_slice(&bytes[..len]);
        decoder.received(len);
        bytes = &bytes[len..];
        let next = || decoder.next_frame().expect("the frames are valid").map(|it| it.describe());
        frames.extend(iter::from_fn(next));
    }
}

#[test]
fn cancel_after_use_of_streams_sends_none_of_their_frames() {
    let mut sent = PartlySent::new(CANCELLABLE);
    sent.write_elements();
    sent.end_written();
    sent.machine.stop(sent.read);
    sent.drop_reader();

    sent.cancel();

    assert_eq!(sent.finish(), [""; 0]);
    assert_eq!(sent.machine.leftovers(), []);
}

#[test]
fn streams_used_after_cancel_send_no_frames() {
    let mut sent = PartlySent::new(CANCELLABLE);
    sent.write_elements();

    sent.cancel();

    let status = sent.machine.send_status(sent.written);
    assert_eq!(status, SendStatus::Closed(WriteClosed::ReaderGone));
    let read = sent.machine.poll_chunk(sent.read, &Task(0)).expect("the stream has ended");
    assert_eq!(read.err(), Some(ReadEnded::Abandoned));
    sent.machine.stop(sent.read);
    sent.machine.note_read(sent.read, 1000);
    sent.end_written();
    sent.drop_reader();
    assert_eq!(sent.finish(), [""; 0]);
    assert_eq!(sent.machine.leftovers(), []);
}

#[test]
fn cancel_of_stream_ends_wakes_their_tasks() {
    let mut sent = PartlySent::new(CANCELLABLE);
    assert!(sent.machine.poll_chunk(sent.read, &Task(1)).is_none());
    sent.machine.wait_to_send(sent.written, &Task(2));

    sent.cancel();

    let mut woken = sent.machine.take_woken();
    woken.sort_by_key(|it| it.0);
    assert_eq!(woken, [Task(1), Task(2)]);
}

#[test]
fn cancel_of_completely_handed_out_call_follows_it() {
    let mut sent = PartlySent::new(CANCELLABLE);
    for _ in 0..3 {
        sent.write();
    }
    sent.end_written();

    sent.cancel();

    sent.drop_reader();
    assert_eq!(sent.finish(), ["call", "end of a stream", "cancel", "stop of a stream"]);
}

#[test]
fn cancel_of_partly_sent_lasting_call_follows_it() {
    let mut sent = PartlySent::new(LASTING);

    assert!(sent.machine.cancel_call(sent.call, sent.ticket, false));

    assert_eq!(sent.finish(), ["call", "cancel"]);
}

#[test]
fn stop_of_stream_that_has_ended_drops_its_elements() {
    let mut machine = Machine::<Task>::new(Side::Calling, limits());
    let stream = machine.open(WrittenBy::Sender, 100_000).id;
    // Nothing else is sent while it is handed out.
    let first =
        content::send(&mut machine, stream, content::elements(stream, 0, 1, 10), Instant::now());
    let mut first = first.expect("the first element is sent at once");
    content::send(&mut machine, stream, content::elements(stream, 1, 1, 50_000), Instant::now());
    machine.end_stream(stream, &content::end(stream, b""));
    machine.drop_writer(stream);

    machine.handle(Frame::Stop { stream }).expect("the peer may stop a stream");
    machine.handle(Frame::Stop { stream }).expect("the peer may not know the end yet");

    first.skip();
    machine.take_back(first);
    let (mut decoder, mut frames) = (Decoder::new(MAX), Vec::new());
    while let Some(mut transmit) = machine.transmit() {
        for segment in transmit.segments() {
            receive(&mut decoder, &segment, &mut frames);
        }
        transmit.skip();
        machine.take_back(transmit);
    }
    assert_eq!(frames, ["end of a stream"]);
    assert_eq!(machine.leftovers(), []);
}
