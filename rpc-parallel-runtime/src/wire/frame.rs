//! Frames: how messages follow each other on a connection.
//!
//! A frame is its length (`u32`), its kind (`u8`) and its fields, numbers in little endian:
//!
//! ```text
//! connect  length 1  greeting worker:16 init..          first frame of who connects
//! welcome  length 2                                     first frame of who was connected to
//! refuse   length 3  refusal..                          instead of `welcome`, and the last frame
//! call     length 4  call:8 function:8 extras:1 arguments.. trailer
//! answer   length 5  call:8 outcome:1 extras:1 value.. trailer
//! cancel   length 6  call:8                             the caller wants no answer any more
//! one_way  length 7  function:8 extras:1 arguments.. trailer
//! items    length 8  stream:8 count:4 elements..        from who writes the stream
//! end      length 9  stream:8 error..                   the last of it; no error if it is complete
//! stop     length 10 stream:8                           from who reads: wants no more
//! credit   length 11 stream:8 bytes:4                   from who reads: has read so much
//! begin    length 12 transfer:4 total:4 bytes..         a large frame, without its length, begins
//! part     length 13 transfer:4 bytes..                 and goes on
//! abandon  length 14 transfer:4                         or does not
//! skipped  length 15 stream:8 error..                   instead of an element that cannot be sent
//! introduce length 16 functions..                       before `connect`, from another program
//! heard    length 17                                    before `welcome`, where that takes time
//! attend   length 18 greeting worker:16                 `connect`, for what all workers can be asked
//!
//! trailer  [spans.. count:1] [streams.. count:2] [deadline:8]   each where `extras` says so
//! span     process:8 span:8                             innermost first, of `call` and `one_way`
//! stream   id:8 writer:1 window:4
//! ```
//!
//! The trailer stands behind the message because it is known later: which streams a message opens
//! turns out while it is encoded, how much is left of a deadline, and in which spans the caller is,
//! when it leaves.

use std::time::Duration;

use super::body::Body;
use super::greeting::{GREETING_LEN, Greeting, GreetingError};
use super::id::{FunctionId, WorkerId};
use super::span_key::{KEY_LEN, MOST_KEYS, SpanKeys};
use super::stream::{ONE_LEN, StreamId, Streams};

pub(super) const LENGTH_LEN: usize = size_of::<u32>();

/// What a frame may hold beside the message it carries: its kind and the largest of its fields.
const FIELDS_LEN: usize = 1 + GREETING_LEN + 16 + SPANS_LEN;

/// How long the spans of a call can be.
pub(super) const SPANS_LEN: usize = MOST_KEYS * KEY_LEN + 1;

/// The smallest frame that must always pass: refusals are written by us and name our own things.
pub(super) const SMALLEST_LIMIT: usize = 64 * 1024;

/// A call opens streams.
pub(super) const WITH_STREAMS: u8 = 1;

/// A call has a deadline.
pub(super) const WITH_DEADLINE: u8 = 2;

/// A call is made in spans of its caller.
pub(super) const WITH_SPANS: u8 = 4;

/// Numbers a call on its connection. A number is used again only after its answer has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CallId(pub(crate) u64);

/// Numbers a large frame that travels in parts, on its connection and in its direction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TransferId(pub(crate) u32);

/// How a call ended, and so how to read the value of its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// The function's result, or what is in its `Ok`.
    Value = 0,
    /// What is in the `Err` of the function's result.
    Error = 1,
    /// A [`Refusal`](super::Refusal): the function gave no result.
    Refused = 2,
}

/// What can stand on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Frame<'a> {
    Connect {
        greeting: Greeting,
        worker: WorkerId,
        init: &'a [u8],
    },
    Introduce {
        functions: &'a [u8],
    },
    Heard,
    Attend {
        greeting: Greeting,
        worker: WorkerId,
    },
    Welcome,
    Refuse {
        refusal: &'a [u8],
    },
    Call {
        call: CallId,
        function: FunctionId,
        arguments: Body<'a>,
        streams: Streams<'a>,
        deadline: Option<Duration>,
        spans: SpanKeys<'a>,
    },
    Answer {
        call: CallId,
        outcome: Outcome,
        value: Body<'a>,
        streams: Streams<'a>,
    },
    Cancel {
        call: CallId,
    },
    OneWay {
        function: FunctionId,
        arguments: Body<'a>,
        streams: Streams<'a>,
        spans: SpanKeys<'a>,
    },
    Items {
        stream: StreamId,
        count: u32,
        elements: Body<'a>,
    },
    End {
        stream: StreamId,
        error: &'a [u8],
    },
    Skipped {
        stream: StreamId,
        error: &'a [u8],
    },
    Stop {
        stream: StreamId,
    },
    Credit {
        stream: StreamId,
        bytes: u32,
    },
    Begin {
        transfer: TransferId,
        total: u32,
        bytes: &'a [u8],
    },
    Part {
        transfer: TransferId,
        bytes: &'a [u8],
    },
    Abandon {
        transfer: TransferId,
    },
}

impl Frame<'_> {
    /// Names its kind, for people.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Connect { .. } | Self::Attend { .. } => "a greeting",
            Self::Introduce { .. } => "an introduction",
            Self::Heard => "word of being heard",
            Self::Welcome => "a welcome",
            Self::Refuse { .. } => "a refusal",
            Self::Call { .. } => "a call",
            Self::Answer { .. } => "an answer",
            Self::Cancel { .. } => "a cancel",
            Self::OneWay { .. } => "a one-way call",
            Self::Items { .. } | Self::Skipped { .. } => "an element of a stream",
            Self::End { .. } => "the end of a stream",
            Self::Stop { .. } => "a stop of a stream",
            Self::Credit { .. } => "credit for a stream",
            Self::Begin { .. } | Self::Part { .. } | Self::Abandon { .. } => {
                "a part of a large frame inside of one"
            }
        }
    }
}

/// The peer sent what is no frame, or has no place where it stands.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Its length is beyond the limit of this connection.
    #[error("frame of {size} bytes, of which {max} are allowed")]
    TooLarge {
        /// The length announced, in bytes.
        size: usize,
        /// The largest length allowed, in bytes.
        max: usize,
    },
    /// Its kind, or the outcome in it, is none that we know.
    #[error("unknown {what} {value}")]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// Its number.
        value: u8,
    },
    /// It ends before its fields do.
    #[error("frame of kind {kind} cut short after {len} bytes")]
    Short {
        /// The kind of the frame.
        kind: u8,
        /// Its length, in bytes.
        len: usize,
    },
    /// It has no kind.
    #[error("empty frame")]
    Empty,
    /// Its greeting is not one.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// It has no place at this point of the conversation.
    #[error("{0} out of place")]
    OutOfPlace(&'static str),
    /// It breaks the rules of a stream.
    #[error("stream {stream}: {violation}")]
    Stream {
        /// The number of the stream.
        stream: u64,
        /// What is wrong.
        violation: &'static str,
    },
    /// It breaks the rules of large frames.
    #[error("transfer {transfer}: {violation}")]
    Transfer {
        /// The number of the transfer.
        transfer: u32,
        /// What is wrong.
        violation: &'static str,
    },
}

/// Returns how large a frame may be on a connection with this `max_message_size`.
pub(crate) fn largest_frame(max_message_size: usize) -> usize {
    max_message_size.max(SMALLEST_LIMIT).saturating_add(FIELDS_LEN)
}

/// Returns the length of the first frame received, and where it begins; none if that has not come.
///
/// A frame that is too long is an error as soon as its length is there, before anything is
/// allocated for it.
pub(crate) fn frame_length(
    received: &[u8],
    max_message_size: usize,
) -> Result<Option<usize>, FrameError> {
    let Some(length) = received.first_chunk() else { return Ok(None) };
    let size = u32::from_le_bytes(*length) as usize;
    let max = largest_frame(max_message_size);
    if size > max { Err(FrameError::TooLarge { size, max }) } else { Ok(Some(size)) }
}

/// Returns the kind of the first frame received and where it ends; none if it is not complete, or
/// not right.
fn peek(received: &[u8]) -> Option<(u8, usize)> {
    let (length, rest) = received.split_first_chunk()?;
    let end = LENGTH_LEN + u32::from_le_bytes(*length) as usize;
    (end <= received.len()).then_some((*rest.first()?, end))
}

/// Says whether the first frame received is complete and a part of a large one.
pub(crate) fn is_of_transfer(received: &[u8]) -> bool {
    peek(received).is_some_and(|(kind, _)| (12..=14).contains(&kind))
}

/// Returns the calls that are cancelled by frames which have been received, and how far it looked.
pub(crate) fn find_cancels(received: &[u8], mut found: impl FnMut(CallId)) -> usize {
    let mut looked = 0;
    while let Some((kind, end)) = peek(&received[looked..]) {
        // What is wrong with a frame is found when it is handled.
        if kind == 6
            && let Some(call) = received[looked + LENGTH_LEN + 1..].first_chunk()
        {
            found(CallId(u64::from_le_bytes(*call)));
        }
        looked += end;
    }
    looked
}

/// Splits the first frame off what has been received; none if it is not complete yet.
///
/// The second number is how many bytes the frame took.
pub(crate) fn split(
    received: &[u8],
    max_message_size: usize,
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some(length) = frame_length(received, max_message_size)? else { return Ok(None) };
    match received.get(LENGTH_LEN..LENGTH_LEN + length) {
        Some(frame) => Ok(Some((parse(Body::of(frame))?, LENGTH_LEN + length))),
        None => Ok(None),
    }
}

/// Returns the transfer and the first bytes of a part of which not all has come.
///
/// The last number is how many bytes of it are still to come.
pub(crate) fn split_partial(received: &[u8]) -> Option<(TransferId, &[u8], usize)> {
    let (length, rest) = received.split_first_chunk()?;
    let (&[13], rest) = rest.split_first_chunk()? else { return None };
    let (transfer, bytes) = rest.split_first_chunk()?;
    let left = (u32::from_le_bytes(*length) as usize).checked_sub(5 + bytes.len())?;
    Some((TransferId(u32::from_le_bytes(*transfer)), bytes, left))
}

/// Reads a frame without its length.
pub(crate) fn parse(frame: Body<'_>) -> Result<Frame<'_>, FrameError> {
    let (&kind, rest) = frame.bytes().split_first().ok_or(FrameError::Empty)?;
    let mut fields = Fields { kind, len: frame.bytes().len(), rest };
    match kind {
        1 => Ok(Frame::Connect {
            greeting: Greeting::from_bytes(fields.take()?)?,
            worker: WorkerId::from_bytes(*fields.take()?),
            init: fields.rest,
        }),
        2 => Ok(Frame::Welcome),
        3 => Ok(Frame::Refuse { refusal: fields.rest }),
        4 => {
            let call = CallId(fields.u64()?);
            let function = FunctionId(fields.u64()?);
            let Trailer { streams, deadline, spans } = fields.trailer()?;
            let arguments = frame.part(fields.rest);
            Ok(Frame::Call { call, function, arguments, streams, deadline, spans })
        }
        5 => {
            let call = CallId(fields.u64()?);
            let outcome = outcome(fields.u8()?)?;
            let Trailer { streams, .. } = fields.trailer()?;
            Ok(Frame::Answer { call, outcome, value: frame.part(fields.rest), streams })
        }
        6 => Ok(Frame::Cancel { call: CallId(fields.u64()?) }),
        7 => {
            let function = FunctionId(fields.u64()?);
            let Trailer { streams, spans, .. } = fields.trailer()?;
            Ok(Frame::OneWay { function, arguments: frame.part(fields.rest), streams, spans })
        }
        8 => {
            let (stream, count) = (fields.stream()?, fields.u32()?);
            Ok(Frame::Items { stream, count, elements: frame.part(fields.rest) })
        }
        9 => Ok(Frame::End { stream: fields.stream()?, error: fields.rest }),
        10 => Ok(Frame::Stop { stream: fields.stream()? }),
        11 => Ok(Frame::Credit { stream: fields.stream()?, bytes: fields.u32()? }),
        12 => Ok(Frame::Begin {
            transfer: TransferId(fields.u32()?),
            total: fields.u32()?,
            bytes: fields.rest,
        }),
        13 => Ok(Frame::Part { transfer: TransferId(fields.u32()?), bytes: fields.rest }),
        14 => Ok(Frame::Abandon { transfer: TransferId(fields.u32()?) }),
        15 => Ok(Frame::Skipped { stream: fields.stream()?, error: fields.rest }),
        16 => Ok(Frame::Introduce { functions: fields.rest }),
        17 => Ok(Frame::Heard),
        18 => Ok(Frame::Attend {
            greeting: Greeting::from_bytes(fields.take()?)?,
            worker: WorkerId::from_bytes(*fields.take()?),
        }),
        value => Err(FrameError::Unknown { what: "kind of frame", value }),
    }
}

fn outcome(value: u8) -> Result<Outcome, FrameError> {
    [Outcome::Value, Outcome::Error, Outcome::Refused]
        .into_iter()
        .find(|it| *it as u8 == value)
        .ok_or(FrameError::Unknown { what: "outcome", value })
}

/// The fields of a frame that are still to be read.
struct Fields<'a> {
    kind: u8,
    len: usize,
    rest: &'a [u8],
}

struct Trailer<'a> {
    streams: Streams<'a>,
    deadline: Option<Duration>,
    spans: SpanKeys<'a>,
}

impl<'a> Fields<'a> {
    fn short(&self) -> FrameError {
        FrameError::Short { kind: self.kind, len: self.len }
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], FrameError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(self.short())?;
        self.rest = rest;
        Ok(field)
    }

    fn take_last(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let at = self.rest.len().checked_sub(len).ok_or(self.short())?;
        let (rest, last) = self.rest.split_at(at);
        self.rest = rest;
        Ok(last)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(u8::from_le_bytes(*self.take()?))
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_le_bytes(*self.take()?))
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(*self.take()?))
    }

    fn stream(&mut self) -> Result<StreamId, FrameError> {
        Ok(StreamId(self.u64()?))
    }

    /// Reads which extras there are, and takes them off the end.
    fn trailer(&mut self) -> Result<Trailer<'a>, FrameError> {
        let (streams, spans) = (Streams::default(), SpanKeys::default());
        let mut trailer = Trailer { streams, deadline: None, spans };
        let extras = self.u8()?;
        if extras & !(WITH_STREAMS | WITH_DEADLINE | WITH_SPANS) != 0 {
            return Err(FrameError::Unknown { what: "extras", value: extras });
        }
        if extras & WITH_DEADLINE != 0 {
            let micros = *self.take_last(8)?.first_chunk().ok_or(self.short())?;
            trailer.deadline = Some(Duration::from_micros(u64::from_le_bytes(micros)));
        }
        if extras & WITH_STREAMS != 0 {
            let count = *self.take_last(2)?.first_chunk().ok_or(self.short())?;
            let list = self.take_last(usize::from(u16::from_le_bytes(count)) * ONE_LEN)?;
            trailer.streams = Streams::parse(list)?;
        }
        if extras & WITH_SPANS != 0 {
            let [count] = *self.take_last(1)?.first_chunk().ok_or(self.short())?;
            trailer.spans = SpanKeys::of(self.take_last(usize::from(count) * KEY_LEN)?);
        }
        Ok(trailer)
    }
}

#[cfg(test)]
mod tests;
