//! Frames whose content a receiver can check: each message and element has a number, and its other
//! bytes depend on their position.

use std::io::Write;
use std::sync::LazyLock;
use std::time::Instant;

use super::Task;
use crate::protocol::machine::Machine;
use crate::protocol::transmit::Transmit;
use crate::wire::{
    CallId, FrameWriter, FunctionId, FunctionInfo, Large, MessageWriter, Opened, Outcome, Sink,
    SourceLocation, StreamId, TooLarge, Unsent,
};

/// The maximum message size of the machines, in bytes.
pub(super) const MAX: usize = 1024 * 1024;

/// A function that can be cancelled.
pub(super) const CANCELLABLE: FunctionId = FunctionId(7);

/// A function that runs to completion.
pub(super) const LASTING: FunctionId = FunctionId(8);

pub(super) static FUNCTION: FunctionInfo = {
    let location =
        SourceLocation { package: "bank", version: "1.0.0", module: "bank", file: "", line: 1 };
    FunctionInfo::new("deposit", "Bank", location, "", "()")
};

/// The length of a message or element without its other bytes.
const NUMBER_LEN: usize = 4;

/// The length of the field that holds the number of an element's other bytes.
const SIZE_LEN: usize = 4;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..MAX).map(|it| (it % 251) as u8).collect());

/// Encodes a call with `size` bytes beside its number.
pub(super) fn call(function: FunctionId, number: u32, size: usize) -> Unsent {
    let mut frame = Vec::new();
    let writer = MessageWriter::call(&mut frame, function, MAX);
    let large = message(writer, number, size).finish();
    unsent(frame, large)
}

/// Encodes a one-way call with `size` bytes beside its number.
pub(super) fn one_way(number: u32, size: usize) -> Unsent {
    let mut frame = Vec::new();
    let writer = MessageWriter::one_way(&mut frame, CANCELLABLE, MAX);
    let large = message(writer, number, size).finish();
    unsent(frame, large)
}

fn unsent(frame: Vec<u8>, large: Option<Large>) -> Unsent {
    match large {
        Some(large) => Unsent::Large(Box::new(large)),
        None => Unsent::Small(frame),
    }
}

/// Adds an answer to a buffer, or returns it if it is large.
pub(super) fn answer(
    buffer: &mut Vec<u8>,
    call: CallId,
    number: u32,
    size: usize,
    opened: &[Opened],
) -> Option<Large> {
    let writer = MessageWriter::answer(buffer, call, Outcome::Value, MAX);
    message(writer, number, size).streams(opened).finish()
}

/// Encodes elements of a stream with consecutive numbers. Returns their frame, or their large
/// frame, and their length.
pub(super) fn elements(
    stream: StreamId,
    first: u32,
    count: u32,
    size: usize,
) -> (Vec<u8>, Option<Large>, usize) {
    let (mut frame, mut len) = (Vec::new(), 0);
    let written = MessageWriter::items(&mut frame, stream, MAX).message(|sink| {
        for number in first..first + count {
            write(sink, &number.to_le_bytes());
            write(sink, &(size as u32).to_le_bytes());
            write(sink, &PATTERN[..size]);
        }
        len = sink.len();
        Ok::<_, TooLarge>(())
    });
    let large = written.expect("the elements are within the limit").count(count).finish();
    (frame, large, len)
}

/// Sends encoded elements.
pub(super) fn send(
    machine: &mut Machine<Task>,
    stream: StreamId,
    (frame, large, len): (Vec<u8>, Option<Large>, usize),
    now: Instant,
) -> Option<Transmit> {
    match large {
        Some(large) => {
            machine.send_large_element(stream, large, len);
            None
        }
        None => machine.send_elements(stream, frame, len, now),
    }
}

/// Encodes a frame that stands for an element.
pub(super) fn skipped(stream: StreamId, number: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    with_error(FrameWriter::skipped(&mut frame, stream), &number.to_le_bytes());
    frame
}

/// Encodes the end of a stream.
pub(super) fn end(stream: StreamId, error: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    with_error(FrameWriter::end(&mut frame, stream), error);
    frame
}

fn with_error(writer: FrameWriter<'_>, error: &[u8]) {
    let written = writer.message(|sink| {
        write(sink, error);
        Ok::<_, TooLarge>(())
    });
    written.expect("the error is within the limit");
}

fn message(writer: MessageWriter<'_>, number: u32, size: usize) -> MessageWriter<'_> {
    let written = writer.message(|sink| {
        write(sink, &number.to_le_bytes());
        write(sink, &PATTERN[..size]);
        Ok::<_, TooLarge>(())
    });
    written.expect("the message is within the limit")
}

fn write(sink: &mut Sink<'_>, bytes: &[u8]) {
    sink.write_all(bytes).expect("writing to a sink cannot fail");
}

/// Checks a message, and returns its number.
pub(super) fn number_of(message: &[u8]) -> u32 {
    let (number, rest) = message.split_first_chunk::<NUMBER_LEN>().expect("a message has a number");
    assert!(rest == &PATTERN[..rest.len()], "the message was changed");
    u32::from_le_bytes(*number)
}

/// Checks the elements of a frame, and returns their numbers.
pub(super) fn numbers_of(count: u32, mut bytes: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some((number, rest)) = bytes.split_first_chunk::<NUMBER_LEN>() {
        let (size, rest) = rest.split_first_chunk::<SIZE_LEN>().expect("an element has a size");
        let (element, rest) = rest.split_at(u32::from_le_bytes(*size) as usize);
        assert!(element == &PATTERN[..element.len()], "the element was changed");
        numbers.push(u32::from_le_bytes(*number));
        bytes = rest;
    }
    assert_eq!(numbers.len(), count as usize);
    numbers
}
