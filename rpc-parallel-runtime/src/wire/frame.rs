//! Frames: the units in which messages travel on a connection.
//!
//! A frame consists of its length (`u32`, without the length itself), its kind (`u8`) and its
//! fields. The table names each kind, and lists its number after the length, then its fields with
//! their sizes in bytes. Numbers are little-endian:
//!
//! ```text
//! connect         length 1  greeting worker:16 limits init..   first frame of the connecting side
//! welcome         length 2  limits                        first frame of the accepting side
//! refuse          length 3  refusal..                     last frame, instead of `welcome`
//! call            length 4  call:8 function:8 extras:1 arguments.. trailer
//! answer          length 5  call:8 outcome:1 extras:1 value.. trailer
//! cancel          length 6  call:8                        the caller does not need the answer
//! one_way         length 7  function:8 extras:1 arguments.. trailer
//! items           length 8  stream:8 count:4 elements..   from the writer
//! end             length 9  stream:8 error..              from the writer; no error if complete
//! stop            length 10 stream:8                      from the reader: it was dropped
//! credit          length 11 stream:8 bytes:4              from the reader: bytes that it has read
//! begin           length 12 transfer:4 total:4 bytes..    first fragment of a large frame
//! fragment        length 13 transfer:4 bytes..            next fragment of it
//! abandon         length 14 transfer:4                    the rest of it will not be sent
//! skipped         length 15 stream:8 error..              instead of an unsendable element
//! introduce       length 16 functions..                   before `connect`, from another program
//! acknowledge     length 17                               before `welcome`, if `init` takes time
//! connect_control length 18 greeting worker:16 limits     `connect`, for built-in functions only
//! one_way_credit  length 19 count:4                       so many one-way calls have completed
//!
//! trailer         [spans.. count:1] [streams.. count:2] [deadline:8]   selected by `extras`
//! span            process:8 span:8                        innermost first; of `call` and `one_way`
//! stream          id:8 writer:1 window:4
//! limits          message_size:4 stream_window:4 connection_window:8 calls:4 one_way_calls:4 pipes:4
//! ```
//!
//! The limits are those of what the sender of the frame receives. `credit` for the stream 0 is credit
//! for the connection. The deadline is the remaining time in microseconds. A large frame travels
//! without its length; its `total` is that length. A fragment has at most 64 KiB of it.
//!
//! The trailer follows the message because its content is known later: the streams of a message
//! after it has been encoded, the remaining time and the caller's spans when it is sent.

use std::time::Duration;

use super::body::Body;
use super::fragment::{MAX_FRAGMENT_LEN, TransferId};
use super::frame_error::FrameError;
use super::greeting::{GREETING_LEN, Greeting};
use super::id::{FunctionId, WorkerId};
use super::receive_limits::ReceiveLimits;
use super::span_key::{KEY_LEN, MAX_SPAN_KEYS, SpanKeys};
use super::stream::{OPENED_LEN, StreamId, Streams};

/// The length of a frame's length field, in bytes.
pub(super) const LENGTH_LEN: usize = size_of::<u32>();

/// The largest number of bytes that a frame holds in addition to its message: its kind and fields.
const FIELDS_LEN: usize = 1 + GREETING_LEN + 16 + SPANS_LEN;

/// The largest length of a call's spans in its trailer, in bytes.
pub(super) const SPANS_LEN: usize = MAX_SPAN_KEYS * KEY_LEN + 1;

/// The lower bound of the limit for a frame's message, in bytes. Refusals and errors must pass even
/// where `max_message_size` is smaller.
pub(super) const SMALLEST_LIMIT: usize = 64 * 1024;

/// The flag in `extras` of a message that opens streams.
pub(super) const WITH_STREAMS: u8 = 1;

/// The flag in `extras` of a call that has a deadline.
pub(super) const WITH_DEADLINE: u8 = 2;

/// The flag in `extras` of a call that is made in spans.
pub(super) const WITH_SPANS: u8 = 4;

/// Identifies a call on its connection. An id is reused only after the answer has been received.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CallId(pub(crate) u64);

/// The outcome of a call, which determines how the value of its answer is decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[doc(hidden)]
pub enum Outcome {
    /// The function's result, or the content of its `Ok`.
    Value = 0,
    /// The content of the `Err` of the function's result.
    Error = 1,
    /// A [`Refusal`](super::Refusal): the function returned no result.
    Refused = 2,
}

/// A frame of any kind. The table at the top of this file describes the kinds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Frame<'a> {
    Connect {
        greeting: Greeting,
        worker: WorkerId,
        limits: ReceiveLimits,
        init: &'a [u8],
    },
    Introduce {
        functions: &'a [u8],
    },
    Acknowledge,
    ConnectControl {
        greeting: Greeting,
        worker: WorkerId,
        limits: ReceiveLimits,
    },
    Welcome {
        limits: ReceiveLimits,
    },
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
    Fragment {
        transfer: TransferId,
        bytes: &'a [u8],
    },
    Abandon {
        transfer: TransferId,
    },
    OneWayCredit {
        count: u32,
    },
}

impl Frame<'_> {
    /// Returns the name of the frame's kind, for [`FrameError::OutOfPlace`].
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Connect { .. } | Self::ConnectControl { .. } => "greeting",
            Self::Introduce { .. } => "introduction",
            Self::Acknowledge => "acknowledgement of a greeting",
            Self::Welcome { .. } => "welcome",
            Self::Refuse { .. } => "refusal",
            Self::Call { .. } => "call",
            Self::Answer { .. } => "answer",
            Self::Cancel { .. } => "cancel",
            Self::OneWay { .. } => "one-way call",
            Self::Items { .. } | Self::Skipped { .. } => "element of a stream",
            Self::End { .. } => "end of a stream",
            Self::Stop { .. } => "stop of a stream",
            Self::Credit { .. } => "credit for a stream",
            Self::OneWayCredit { .. } => "credit for one-way calls",
            Self::Begin { .. } | Self::Fragment { .. } | Self::Abandon { .. } => {
                "fragment inside a fragmented frame"
            }
        }
    }
}

/// Returns the largest length of a frame, in bytes, on a connection with this `max_message_size`.
pub(crate) fn largest_frame(max_message_size: usize) -> usize {
    max_message_size.max(SMALLEST_LIMIT).saturating_add(FIELDS_LEN)
}

/// Returns the length of the first received frame in bytes; `None` if it has not been received.
///
/// # Errors
///
/// The frame is too large. This is known from its length and kind, before memory is allocated for
/// it.
pub(crate) fn frame_length(
    received: &[u8],
    max_message_size: usize,
) -> Result<Option<usize>, FrameError> {
    let Some((length, rest)) = received.split_first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    let max = largest_frame(max_message_size);
    if length > max {
        return Err(FrameError::TooLarge { size: length, max });
    }
    if let Some(size) = rest.first().and_then(|kind| fragment_len(*kind, length))
        && size > MAX_FRAGMENT_LEN
    {
        return Err(FrameError::FragmentTooLarge { size, max: MAX_FRAGMENT_LEN });
    }
    Ok(Some(length))
}

/// Returns the length of a fragment without its fields, in bytes; `None` if a frame of this kind is
/// not a fragment. A frame that is too short for its fields has no bytes.
fn fragment_len(kind: u8, length: usize) -> Option<usize> {
    let fields_len = match kind {
        12 => 1 + 4 + 4,
        13 => 1 + 4,
        _ => return None,
    };
    Some(length.saturating_sub(fields_len))
}

/// Returns the kind of the first received frame and the position of its end; `None` if it is empty
/// or incomplete.
fn peek(received: &[u8]) -> Option<(u8, usize)> {
    let (length, rest) = received.split_first_chunk()?;
    let end = LENGTH_LEN + u32::from_le_bytes(*length) as usize;
    (end <= received.len()).then_some((*rest.first()?, end))
}

/// Returns whether the first received frame is complete and belongs to a fragmented frame.
pub(crate) fn is_of_transfer(received: &[u8]) -> bool {
    peek(received).is_some_and(|(kind, _)| (12..=14).contains(&kind))
}

/// Passes the id of each cancelled call among the received frames to `found`. Returns the number of
/// bytes that it has scanned: all complete frames.
pub(crate) fn find_cancels(received: &[u8], mut found: impl FnMut(CallId)) -> usize {
    let mut scanned = 0;
    while let Some((kind, end)) = peek(&received[scanned..]) {
        // An invalid frame is reported when it is handled.
        if kind == 6
            && let Some(call) = received[scanned + LENGTH_LEN + 1..].first_chunk()
        {
            found(CallId(u64::from_le_bytes(*call)));
        }
        scanned += end;
    }
    scanned
}

/// Parses the first received frame; `None` if it is incomplete.
///
/// Returns the frame and its length in bytes, including its length field.
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

/// Parses a `fragment` frame that is not completely received.
///
/// Returns its transfer, its received bytes and the number of bytes that are missing.
pub(crate) fn split_partial(received: &[u8]) -> Option<(TransferId, &[u8], usize)> {
    let (length, rest) = received.split_first_chunk()?;
    let (&[13], rest) = rest.split_first_chunk()? else { return None };
    let (transfer, bytes) = rest.split_first_chunk()?;
    let left = (u32::from_le_bytes(*length) as usize).checked_sub(5 + bytes.len())?;
    Some((TransferId(u32::from_le_bytes(*transfer)), bytes, left))
}

/// Parses a frame without its length field.
pub(crate) fn parse(frame: Body<'_>) -> Result<Frame<'_>, FrameError> {
    let (&kind, rest) = frame.bytes().split_first().ok_or(FrameError::Empty)?;
    let mut fields = Fields { kind, len: frame.bytes().len(), rest };
    match kind {
        1 => Ok(Frame::Connect {
            greeting: Greeting::from_bytes(fields.take()?)?,
            worker: WorkerId::from_bytes(*fields.take()?),
            limits: fields.limits()?,
            init: fields.rest,
        }),
        2 => Ok(Frame::Welcome { limits: fields.limits()? }),
        3 => Ok(Frame::Refuse { refusal: fields.rest }),
        4 => {
            let call = CallId(fields.u64()?);
            let function = FunctionId(fields.u64()?);
            let Trailer { streams, deadline, spans } = fields.trailer()?;
            let arguments = frame.slice(fields.rest);
            Ok(Frame::Call { call, function, arguments, streams, deadline, spans })
        }
        5 => {
            let call = CallId(fields.u64()?);
            let outcome = outcome(fields.u8()?)?;
            let Trailer { streams, .. } = fields.trailer()?;
            Ok(Frame::Answer { call, outcome, value: frame.slice(fields.rest), streams })
        }
        6 => Ok(Frame::Cancel { call: CallId(fields.u64()?) }),
        7 => {
            let function = FunctionId(fields.u64()?);
            let Trailer { streams, spans, .. } = fields.trailer()?;
            Ok(Frame::OneWay { function, arguments: frame.slice(fields.rest), streams, spans })
        }
        8 => {
            let (stream, count) = (fields.stream()?, fields.u32()?);
            Ok(Frame::Items { stream, count, elements: frame.slice(fields.rest) })
        }
        9 => Ok(Frame::End { stream: fields.stream()?, error: fields.rest }),
        10 => Ok(Frame::Stop { stream: fields.stream()? }),
        11 => Ok(Frame::Credit { stream: fields.stream()?, bytes: fields.u32()? }),
        12 => Ok(Frame::Begin {
            transfer: TransferId(fields.u32()?),
            total: fields.u32()?,
            bytes: fields.rest,
        }),
        13 => Ok(Frame::Fragment { transfer: TransferId(fields.u32()?), bytes: fields.rest }),
        14 => Ok(Frame::Abandon { transfer: TransferId(fields.u32()?) }),
        15 => Ok(Frame::Skipped { stream: fields.stream()?, error: fields.rest }),
        16 => Ok(Frame::Introduce { functions: fields.rest }),
        17 => Ok(Frame::Acknowledge),
        18 => Ok(Frame::ConnectControl {
            greeting: Greeting::from_bytes(fields.take()?)?,
            worker: WorkerId::from_bytes(*fields.take()?),
            limits: fields.limits()?,
        }),
        19 => Ok(Frame::OneWayCredit { count: fields.u32()? }),
        value => Err(FrameError::Unknown { what: "kind of frame", value }),
    }
}

fn outcome(value: u8) -> Result<Outcome, FrameError> {
    [Outcome::Value, Outcome::Error, Outcome::Refused]
        .into_iter()
        .find(|it| *it as u8 == value)
        .ok_or(FrameError::Unknown { what: "outcome", value })
}

/// The fields of a frame that have not been parsed.
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

    fn limits(&mut self) -> Result<ReceiveLimits, FrameError> {
        ReceiveLimits::from_bytes(self.take()?)
    }

    /// Parses the `extras` flags, and takes the trailer off the end.
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
            let list = self.take_last(usize::from(u16::from_le_bytes(count)) * OPENED_LEN)?;
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
