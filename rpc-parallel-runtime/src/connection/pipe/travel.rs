//! How pipes travel inside of values.
//!
//! serde sees a value and nothing of the connection, so that what belongs to a message is kept
//! beside it, for the thread that encodes or decodes it. In the value stands a number: which of the
//! streams of its message it is.

use std::cell::RefCell;
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
    static ENCODING: RefCell<Option<Vec<Opening>>> = const { RefCell::new(None) };
    static DECODING: RefCell<Option<Decoding>> = const { RefCell::new(None) };
}

/// The streams of the message that is decoded.
struct Decoding {
    ends: Vec<(StreamId, Option<OwnedEnd>)>,
    keep: Option<Arc<Hold>>,
}

/// Encodes a message, and returns beside it which streams it opens.
pub(in crate::connection) fn encoding<R>(encode: impl FnOnce() -> R) -> (R, Vec<Opening>) {
    // Of two messages, one may be encoded while the other is: by what users write.
    let _outer = Outer(&ENCODING, ENCODING.replace(Some(Vec::new())));
    let result = encode();
    let opening = ENCODING.with_borrow_mut(Option::take);
    (result, opening.unwrap_or_default())
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
    opening.into_iter().map(open).unzip()
}

/// Notes that the message that is encoded opens a stream, and returns its number.
fn opens(opening: impl FnOnce() -> Opening) -> Result<usize, &'static str> {
    ENCODING.with_borrow_mut(|message| {
        let Some(message) = message else {
            return Err(NO_CALL);
        };
        if message.len() == MOST_STREAMS {
            return Err("a message opens no more than 65535 pipes");
        }
        message.push(opening());
        Ok(message.len() - 1)
    })
}

/// Decodes a message whose frame has opened these streams. Those that it does not mention end.
pub(in crate::connection) fn decoding<R>(
    ends: Vec<OwnedEnd>,
    keep: Option<&Arc<Hold>>,
    decode: impl FnOnce() -> R,
) -> R {
    let ends: Vec<_> = ends.into_iter().map(|it| (it.id(), Some(it))).collect();
    // Most messages open no stream.
    let keep = keep.filter(|_| !ends.is_empty()).cloned();
    let message = Decoding { ends, keep };
    let _outer = Outer(&DECODING, DECODING.replace(Some(message)));
    let result = decode();
    // Ends that nobody claimed are dropped, when there is no message any more that they could
    // go back to.
    let unclaimed = DECODING.with_borrow_mut(Option::take);
    if unclaimed.as_ref().is_some_and(|it| !it.ends.is_empty()) {
        let why = "nobody has taken it out of its message".to_owned();
        drop_unfinished(unclaimed, PipeErrorKind::WriterFailed { why });
    }
    result
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
    DECODING.with_borrow_mut(|message| {
        let Some(Decoding { ends, keep }) = message else {
            return Err(NO_CALL);
        };
        let (_, slot) = ends.get_mut(number).ok_or("its message has not opened this pipe")?;
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
    let unwanted = DECODING.with(|message| {
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

/// What a thread was encoding or decoding before; put back when this is dropped.
struct Outer<T: 'static>(&'static LocalKey<RefCell<Option<T>>>, Option<T>);

impl<T> Drop for Outer<T> {
    fn drop(&mut self) {
        self.0.set(self.1.take());
    }
}
