//! How pipes travel inside of values.
//!
//! serde sees a value and nothing of the connection, so that what belongs to a message is kept
//! beside it, for the thread that encodes or decodes it. In the value stands a number: which of the
//! streams of its message it is.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread::LocalKey;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serializer, ser};

use super::error::PipeErrorKind;
use crate::connection::client::Hold;
use crate::connection::inflow::ReadEnd;
use crate::connection::outflow::WriteEnd;
use crate::connection::panics::drop_unfinished;
use crate::connection::shared::{Connection, OwnedEnd};
use crate::wire::{Opened, StreamId, WrittenBy};

/// What a pipe is called in a message.
pub(super) const PIPE: &str = "rpc_parallel::Pipe";

/// What a pipe's writer is called in a message.
pub(super) const WRITER: &str = "rpc_parallel::PipeWriter";

/// A pipe in a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PipeNumber {
    #[serde(rename = "rpc_parallel::Pipe")]
    pub(super) number: usize,
}

/// A pipe's writer in a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriterNumber {
    #[serde(rename = "rpc_parallel::PipeWriter")]
    pub(super) number: usize,
}

/// Writes an end of a pipe, under its name, as the number of a stream that the message opens.
pub(super) fn serialize<S: Serializer>(
    serializer: S,
    name: &'static str,
    opening: impl FnOnce() -> Opening,
) -> Result<S::Ok, S::Error> {
    // First the part that a serializer may refuse which only wants to know what kind of value this
    // is: a pipe is taken out of its place only for one that really writes it.
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

/// What to do with this side's end of a stream when its message is on its way.
pub(in crate::connection) enum Start {
    Read(Box<dyn FnOnce(ReadEnd) + Send>),
    Write(Box<dyn FnOnce(WriteEnd) + Send>),
}

const NO_CALL: &str = "a pipe travels only with a call: in an argument or a result of a function";

/// Begins with a stream, once its message is on its way.
pub(in crate::connection) type Begin = Box<dyn FnOnce() + Send>;

/// How many streams one message may open.
const MOST_STREAMS: usize = u16::MAX as usize;

thread_local! {
    /// The message that is encoded. Most open no stream: for those this is all that is looked at.
    static ENCODING: Cell<Option<Encoding>> = const { Cell::new(None) };
    /// The streams of all messages that are encoded: of two, one may be encoded while the other is,
    /// by what users write.
    static OPENINGS: RefCell<Vec<Opening>> = const { RefCell::new(Vec::new()) };
    /// Whether a message is decoded, and whether it opens streams.
    static DECODING: Cell<Streams> = const { Cell::new(Streams::NoMessage) };
    static ENDS: RefCell<Option<Decoding>> = const { RefCell::new(None) };
}

/// Which of the [`OPENINGS`] belong to the message that is encoded.
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

/// The streams of the message that is decoded.
struct Decoding {
    ends: Vec<(StreamId, Option<OwnedEnd>)>,
    keep: Option<Arc<Hold>>,
}

/// Encodes a message, and returns beside it which streams it opens.
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

/// What a thread was encoding before. It does again when this is dropped, also by a panic, which
/// leaves streams behind that are opened by no message.
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

/// Makes the ends of streams that a message opens, for the moment when it is sent.
pub(in crate::connection) fn open(
    opening: Vec<Opening>,
    connection: &Arc<Connection>,
    keep: Option<&Arc<Hold>>,
) -> (Vec<Opened>, Vec<Begin>) {
    let open = |Opening { window, start }: Opening| {
        let writer = match &start {
            Start::Read(_) => WrittenBy::Receiver,
            Start::Write(_) => WrittenBy::Sender,
        };
        let (opened, end) = connection.open(writer, window, keep.cloned());
        let begin: Begin = match (start, end) {
            (Start::Read(start), OwnedEnd::Reading(end)) => Box::new(move || start(end)),
            (Start::Write(start), OwnedEnd::Writing(end)) => Box::new(move || start(end)),
            _ => unreachable!("the end is what was asked for"),
        };
        (opened, begin)
    };
    if opening.is_empty() {
        return (Vec::new(), Vec::new());
    }
    opening.into_iter().map(open).unzip()
}

/// Notes that the message that is encoded opens a stream, and returns its number.
fn opens(opening: impl FnOnce() -> Opening) -> Result<usize, &'static str> {
    let Encoding { start, end } = ENCODING.get().ok_or(NO_CALL)?;
    let number = end - start;
    if number == MOST_STREAMS {
        return Err("a message opens no more than 65535 pipes");
    }
    let opening = opening();
    OPENINGS.with_borrow_mut(|it| it.push(opening));
    ENCODING.set(Some(Encoding { start, end: end + 1 }));
    Ok(number)
}

/// Decodes a message whose frame has opened these streams. Those that it does not mention end.
pub(in crate::connection) fn decoding<R>(
    ends: Vec<OwnedEnd>,
    keep: Option<&Arc<Hold>>,
    decode: impl FnOnce() -> R,
) -> R {
    if ends.is_empty() {
        let _outer = OuterDecoding(DECODING.replace(Streams::None));
        return decode();
    }
    let ends: Vec<_> = ends.into_iter().map(|it| (it.id(), Some(it))).collect();
    let message = Decoding { ends, keep: keep.cloned() };
    let _outer = OuterDecoding(DECODING.replace(Streams::Some));
    let _outer = Outer(&ENDS, ENDS.replace(Some(message)));
    let result = decode();
    // Ends that nobody claimed are dropped, when there is no message any more that they could
    // go back to.
    let unclaimed = ENDS.with_borrow_mut(Option::take);
    let why = "nobody has taken it out of its message".to_owned();
    drop_unfinished(unclaimed, PipeErrorKind::WriterFailed { why });
    result
}

/// What a thread was decoding before; put back when this is dropped.
struct OuterDecoding(Streams);

impl Drop for OuterDecoding {
    fn drop(&mut self) {
        DECODING.set(self.0);
    }
}

/// Takes the reading end of a stream of the message that is decoded.
pub(super) fn claim_reading(number: usize) -> Result<ReadEnd, &'static str> {
    claim(number, |end| match end {
        OwnedEnd::Reading(end) => Ok(end),
        end @ OwnedEnd::Writing(_) => Err(end),
    })
}

/// Takes the writing end of a stream of the message that is decoded.
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
    const NOT_OPENED: &str = "its message has not opened this pipe";

    match DECODING.get() {
        Streams::NoMessage => return Err(NO_CALL),
        Streams::None => return Err(NOT_OPENED),
        Streams::Some => {}
    }
    ENDS.with_borrow_mut(|message| {
        let Decoding { ends, keep } = message.as_mut().ok_or(NO_CALL)?;
        let (_, slot) = ends.get_mut(number).ok_or(NOT_OPENED)?;
        let end = slot.take().ok_or("this pipe stands in its message twice")?;
        end.keep(keep.clone());
        take(end).map_err(|end| {
            *slot = Some(end);
            "the other end of the pipe is expected here"
        })
    })
}

/// Gives an end back that was claimed by a value which is dropped while its message is still
/// decoded: `untagged` tries one variant after the other.
pub(super) fn give_back(end: OwnedEnd) {
    let unwanted = ENDS.with(|message| {
        // An end that is dropped together with its message finds the message borrowed.
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
    drop(unwanted);
}

/// The ends of the message that a thread was decoding before; put back when this is dropped.
struct Outer<T: 'static>(&'static LocalKey<RefCell<Option<T>>>, Option<T>);

impl<T> Drop for Outer<T> {
    fn drop(&mut self) {
        self.0.set(self.1.take());
    }
}
