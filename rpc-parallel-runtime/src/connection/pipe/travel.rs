//! Pipes inside of serialised values.
//!
//! serde passes no context to a value. So the streams of a message are kept in thread-local lists
//! while the thread encodes or decodes the message. The value itself holds an index into the list
//! of its message.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread::LocalKey;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serializer, ser};

use super::error::PipeErrorKind;
use crate::connection::ends::{OwnedEnd, ReadEnd, WriteEnd};
use crate::connection::panics::drop_unfinished;
use crate::connection::shared::{Connection, Keeper, Locked};
use crate::wire::{Opened, StreamId, WrittenBy};

/// The name of a pipe in a message.
pub(super) const PIPE: &str = "rpc_parallel::Pipe";

/// The name of a pipe writer in a message.
pub(super) const WRITER: &str = "rpc_parallel::PipeWriter";

/// A pipe in a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PipeNumber {
    #[serde(rename = "rpc_parallel::Pipe")]
    pub(super) number: usize,
}

/// A pipe writer in a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriterNumber {
    #[serde(rename = "rpc_parallel::PipeWriter")]
    pub(super) number: usize,
}

/// Serialises an end of a pipe, under its name, as the index of a stream that the message opens.
pub(super) fn serialize<S: Serializer>(
    serializer: S,
    name: &'static str,
    opening: impl FnOnce() -> Opening,
) -> Result<S::Ok, S::Error> {
    // A serialiser that only inspects the kind of a value fails here, before the pipe is taken.
    let mut value = serializer.serialize_struct(name, 1)?;
    let number = opens(opening).map_err(ser::Error::custom)?;
    value.serialize_field(name, &number)?;
    value.end()
}

/// A stream that a message will open when it is sent.
pub(in crate::connection) struct Opening {
    pub(super) window: Option<u32>,
    pub(super) start: Start,
}

/// The action for this side's end of a stream after its message was sent.
pub(in crate::connection) enum Start {
    Read(Box<dyn FnOnce(ReadEnd) + Send>),
    Write(Box<dyn FnOnce(WriteEnd) + Send>),
}

const OUTSIDE_OF_CALL: &str = "a pipe can be sent only in an argument or a result of a function";

/// A closure that starts a stream after its message was sent.
pub(in crate::connection) type StreamStart = Box<dyn FnOnce() + Send>;

/// The maximum number of streams that one message opens.
const MAX_STREAMS: usize = u16::MAX as usize;

thread_local! {
    /// The message that is being encoded. A message without streams accesses only this variable.
    static ENCODING: Cell<Option<Encoding>> = const { Cell::new(None) };
    /// The streams of all messages that are being encoded. Messages nest if a `Serialize` of the
    /// user makes a call.
    static OPENINGS: RefCell<Vec<Opening>> = const { RefCell::new(Vec::new()) };
    /// Whether a message is being decoded, and whether it opens streams.
    static DECODING: Cell<Streams> = const { Cell::new(Streams::NoMessage) };
    static ENDS: RefCell<Option<Decoding>> = const { RefCell::new(None) };
}

/// The range of the [`OPENINGS`] that belong to the message that is being encoded.
#[derive(Clone, Copy)]
struct Encoding {
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Streams {
    NoMessage,
    None,
    Some,
}

/// The streams of the message that is being decoded.
struct Decoding {
    ends: Vec<(StreamId, Option<OwnedEnd>)>,
    keep: Option<Keeper>,
}

/// Encodes a message, and returns the streams that it opens.
pub(in crate::connection) fn encoding<R>(encode: impl FnOnce() -> R) -> (R, Vec<Opening>) {
    let outer = ENCODING.get();
    let start = outer.map_or(0, |it| it.end);
    ENCODING.set(Some(Encoding { start, end: start }));
    let _outer = OuterEncoding(outer, start);
    let result = encode();
    let end = ENCODING.get().map_or(start, |it| it.end);
    if end == start {
        return (result, Vec::new());
    }
    (result, OPENINGS.with_borrow_mut(|it| it.split_off(start)))
}

/// Restores the outer message when it is dropped. After a panic, it also drops the streams of the
/// message that was not encoded.
struct OuterEncoding(Option<Encoding>, usize);

impl Drop for OuterEncoding {
    fn drop(&mut self) {
        let Self(outer, start) = *self;
        if ENCODING.replace(outer).is_some_and(|it| it.end > start) {
            let left = OPENINGS.with_borrow_mut(|it| it.split_off(start.min(it.len())));
            drop(left);
        }
    }
}

/// Makes this side's ends of the streams that a message opens, in the lock in which their number was
/// checked. The returned closures start the streams after the message was sent.
pub(in crate::connection) fn open(
    opening: Vec<Opening>,
    connection: &Arc<Connection>,
    locked: &mut Locked<'_>,
    keep: Option<&Keeper>,
) -> (Vec<Opened>, Vec<StreamStart>) {
    let open = |Opening { window, start }: Opening| {
        let writer = match &start {
            Start::Read(_) => WrittenBy::Receiver,
            Start::Write(_) => WrittenBy::Sender,
        };
        let (opened, end) = OwnedEnd::open(connection, locked, writer, window, keep);
        let start: StreamStart = match (start, end) {
            (Start::Read(start), OwnedEnd::Reading(end)) => Box::new(move || start(end)),
            (Start::Write(start), OwnedEnd::Writing(end)) => Box::new(move || start(end)),
            _ => unreachable!("`OwnedEnd::open` returns the requested kind of end"),
        };
        (opened, start)
    };
    if opening.is_empty() {
        return (Vec::new(), Vec::new());
    }
    opening.into_iter().map(open).unzip()
}

/// Adds a stream to the message that is being encoded, and returns its index.
fn opens(opening: impl FnOnce() -> Opening) -> Result<usize, &'static str> {
    let Encoding { start, end } = ENCODING.get().ok_or(OUTSIDE_OF_CALL)?;
    let number = end - start;
    if number == MAX_STREAMS {
        return Err("a message can hold at most 65535 pipes");
    }
    let opening = opening();
    OPENINGS.with_borrow_mut(|it| it.push(opening));
    ENCODING.set(Some(Encoding { start, end: end + 1 }));
    Ok(number)
}

/// Decodes a message whose frame has opened these streams. Streams that the message does not claim
/// end.
pub(in crate::connection) fn decoding<R>(
    ends: Vec<OwnedEnd>,
    keep: Option<Keeper>,
    decode: impl FnOnce() -> R,
) -> R {
    if ends.is_empty() {
        let _outer = OuterDecoding(DECODING.replace(Streams::None));
        return decode();
    }
    let ends: Vec<_> = ends.into_iter().map(|it| (it.id(), Some(it))).collect();
    let message = Decoding { ends, keep };
    let _outer = OuterDecoding(DECODING.replace(Streams::Some));
    let _outer = Outer(&ENDS, ENDS.replace(Some(message)));
    let result = decode();
    // Unclaimed ends are dropped after the message was taken away, so that they are not given back.
    let unclaimed = ENDS.with_borrow_mut(Option::take);
    let why = "the decoded message does not contain the writer".to_owned();
    drop_unfinished(unclaimed, PipeErrorKind::WriterFailed { why });
    result
}

/// Restores the outer value when it is dropped.
struct OuterDecoding(Streams);

impl Drop for OuterDecoding {
    fn drop(&mut self) {
        DECODING.set(self.0);
    }
}

/// Takes the reading end of a stream of the message that is being decoded.
pub(super) fn claim_reading(number: usize) -> Result<ReadEnd, &'static str> {
    claim(number, |end| match end {
        OwnedEnd::Reading(end) => Ok(end),
        end @ OwnedEnd::Writing(_) => Err(end),
    })
}

/// Takes the writing end of a stream of the message that is being decoded.
pub(super) fn claim_writing(number: usize) -> Result<WriteEnd, &'static str> {
    claim(number, |end| match end {
        OwnedEnd::Writing(end) => Ok(end),
        end @ OwnedEnd::Reading(_) => Err(end),
    })
}

fn claim<E>(
    number: usize,
    take: impl FnOnce(OwnedEnd) -> Result<E, OwnedEnd>,
) -> Result<E, &'static str> {
    const NOT_OPENED: &str = "the message does not open this pipe";

    match DECODING.get() {
        Streams::NoMessage => return Err(OUTSIDE_OF_CALL),
        Streams::None => return Err(NOT_OPENED),
        Streams::Some => {}
    }
    ENDS.with_borrow_mut(|message| {
        let Decoding { ends, keep } = message.as_mut().ok_or(OUTSIDE_OF_CALL)?;
        let (_, slot) = ends.get_mut(number).ok_or(NOT_OPENED)?;
        let end = slot.take().ok_or("the message holds this pipe twice")?;
        end.keep(keep.clone());
        take(end).map_err(|end| {
            *slot = Some(end);
            "expected the other end of the pipe"
        })
    })
}

/// Gives an end back to its message, if its value is dropped while the message is being decoded.
/// serde's `untagged` does that: it tries one variant after the other.
pub(super) fn give_back(end: OwnedEnd) {
    // A value that is dropped at the end of its thread may outlive the variable.
    let unwanted = ENDS.try_with(|message| {
        // The message is borrowed while it is dropped together with its ends.
        let Ok(mut message) = message.try_borrow_mut() else { return Some(end) };
        let slots = message.iter_mut().flat_map(|it| &mut it.ends);
        match slots.into_iter().find(|(id, _)| *id == end.id()) {
            Some((_, slot @ None)) => {
                end.keep(None);
                *slot = Some(end);
                None
            }
            _ => Some(end),
        }
    });
    // Dropped after the message is borrowed no more.
    drop(unwanted);
}

/// Restores the ends of the outer message when it is dropped.
struct Outer<T: 'static>(&'static LocalKey<RefCell<Option<T>>>, Option<T>);

impl<T> Drop for Outer<T> {
    fn drop(&mut self) {
        self.0.set(self.1.take());
    }
}
