//! Elements of a stream that are sent one shortly after the other.

use std::time::{Duration, Instant};

use super::{Task, limits};
use crate::protocol::{Decoder, Machine, SendStatus, Side, Transmit};
use crate::wire::{Frame, MessageWriter, StreamId, TooLarge, WrittenBy};

/// Encodes a frame of one element.
fn element(stream: StreamId, value: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let written = MessageWriter::items(&mut frame, stream, 1024).message(|sink| {
        std::io::Write::write_all(sink, &[value]).expect("the sink has no limit");
        Ok::<_, TooLarge>(())
    });
    written.expect("the element is small").count(1).finish();
    frame
}

/// A machine with a stream that it writes.
fn with_stream() -> (Machine<Task>, StreamId) {
    let mut machine = Machine::new(Side::Calling, limits());
    let stream = machine.open(WrittenBy::Sender, 100_000).id;
    (machine, stream)
}

/// Writes a transmit, and returns the elements of each frame in it.
fn frames(machine: &mut Machine<Task>, mut transmit: Transmit) -> Vec<Vec<u8>> {
    let bytes = transmit.segments().map(|it| it.to_vec()).concat();
    transmit.advance(bytes.len());
    machine.take_back(transmit);
    let mut decoder = Decoder::new(1 << 20);
    let mut frames = Vec::new();
    for bytes in bytes.chunks(1000) {
        decoder.space()[0][..bytes.len()].copy_from_slice(bytes);
        decoder.received(bytes.len());
        while let Some(frame) = decoder.next_frame().expect("the frames are valid") {
            let Frame::Items { count, elements, .. } = frame else { panic!("{frame:?}") };
            assert_eq!(count as usize, elements.bytes().len());
            frames.push(elements.bytes().to_vec());
        }
    }
    frames
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn elements_within_20_us_share_frame() {
    let (mut machine, stream) = with_stream();
    let begun = Instant::now();
    let send = |machine: &mut Machine<Task>, value, after| {
        machine.send_elements(stream, element(stream, value), 1, begun + after)
    };

    let first = send(&mut machine, 1, micros(0)).expect("the first element is sent at once");
    assert_eq!(frames(&mut machine, first), [[1]]);
    assert!(send(&mut machine, 2, micros(1)).is_none());
    assert!(send(&mut machine, 3, micros(19)).is_none());
    let last = send(&mut machine, 4, micros(21)).expect("the gathered elements are due");

    assert_eq!(frames(&mut machine, last), [[2, 3, 4]]);
}

#[test]
fn element_after_turn_of_driver_is_sent_at_once() {
    let (mut machine, stream) = with_stream();
    let begun = Instant::now();
    let first = machine.send_elements(stream, element(stream, 1), 1, begun);
    frames(&mut machine, first.expect("the first element is sent at once"));

    machine.note_driver();
    let second = machine.send_elements(stream, element(stream, 2), 1, begun + micros(1));

    assert_eq!(frames(&mut machine, second.expect("nothing is gathered")), [[2]]);
}

#[test]
fn driver_sends_gathered_elements() {
    let (mut machine, stream) = with_stream();
    let begun = Instant::now();
    let first = machine.send_elements(stream, element(stream, 1), 1, begun);
    frames(&mut machine, first.expect("the first element is sent at once"));
    for value in 2..5 {
        assert!(machine.send_elements(stream, element(stream, value), 1, begun).is_none());
    }

    let gathered = machine.transmit().expect("elements are queued");

    assert_eq!(frames(&mut machine, gathered), [[2, 3, 4]]);
}

/// A frame costs 64 bytes of the window beside its elements.
#[test]
fn gathered_elements_cost_one_frame() {
    let (mut machine, stream) = with_stream();
    let begun = Instant::now();
    let first = machine.send_elements(stream, element(stream, 1), 1, begun);
    frames(&mut machine, first.expect("the first element is sent at once"));

    for value in 2..12 {
        machine.send_elements(stream, element(stream, value), 1, begun);
    }

    assert_eq!(machine.send_status(stream), SendStatus::Room(100_000 - 2 * 64 - 11));
}
