//! Frames: how messages follow each other on a connection.
//!
//! A frame is its length (`u32`), its kind (`u8`) and its fields, numbers in little endian:
//!
//! ```text
//! connect  length 1 greeting worker:16 init..           first frame of who connects
//! welcome  length 2                                     first frame of who was connected to
//! refuse   length 3 refusal..                           instead of `welcome`, and the last frame
//! call     length 4 call:8 function:8 arguments..
//! answer   length 5 call:8 outcome:1 value..
//! ```

use super::greeting::{GREETING_LEN, Greeting, GreetingError};
use super::id::{FunctionId, WorkerId};
use super::sink::{Sink, TooLarge};

const LENGTH_LEN: usize = size_of::<u32>();

/// What a frame may hold beside the message it carries: its kind and the largest of its fields.
const FIELDS_LEN: usize = 1 + GREETING_LEN + 16;

/// The smallest frame that must always pass: refusals are written by us and name our own things.
const SMALLEST_LIMIT: usize = 64 * 1024;

/// Numbers a call on its connection. A number is used again only after its answer has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CallId(pub(crate) u64);

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
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Frame<'a> {
    Connect { greeting: Greeting, worker: WorkerId, init: &'a [u8] },
    Welcome,
    Refuse { refusal: &'a [u8] },
    Call { call: CallId, function: FunctionId, arguments: &'a [u8] },
    Answer { call: CallId, outcome: Outcome, value: &'a [u8] },
}

/// The peer sent what is no frame.
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
}

/// Splits the first frame off what has been received; none if it is not complete yet.
///
/// The second number is how many bytes the frame took. A frame that is too long is an error as
/// soon as its length is there, before anything is allocated for it.
pub(crate) fn split(
    received: &[u8],
    max_message_size: usize,
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((length, rest)) = received.split_first_chunk() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    let max = max_message_size.max(SMALLEST_LIMIT).saturating_add(FIELDS_LEN);
    if length > max {
        return Err(FrameError::TooLarge { size: length, max });
    }
    match rest.get(..length) {
        Some(frame) => Ok(Some((parse(frame)?, LENGTH_LEN + length))),
        None => Ok(None),
    }
}

fn parse(frame: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (&kind, fields) = frame.split_first().ok_or(FrameError::Empty)?;
    let mut fields = Fields { kind, len: frame.len(), rest: fields };
    match kind {
        1 => Ok(Frame::Connect {
            greeting: Greeting::from_bytes(fields.take()?)?,
            worker: WorkerId::from_bytes(*fields.take()?),
            init: fields.rest,
        }),
        2 => Ok(Frame::Welcome),
        3 => Ok(Frame::Refuse { refusal: fields.rest }),
        4 => Ok(Frame::Call {
            call: CallId(u64::from_le_bytes(*fields.take()?)),
            function: FunctionId(u64::from_le_bytes(*fields.take()?)),
            arguments: fields.rest,
        }),
        5 => Ok(Frame::Answer {
            call: CallId(u64::from_le_bytes(*fields.take()?)),
            outcome: outcome(u8::from_le_bytes(*fields.take()?))?,
            value: fields.rest,
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

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], FrameError> {
        let short = FrameError::Short { kind: self.kind, len: self.len };
        let (field, rest) = self.rest.split_first_chunk().ok_or(short)?;
        self.rest = rest;
        Ok(field)
    }
}

/// Writes one frame at the end of a buffer: first its fields, then its message.
///
/// Dropped before it is [finished](Self::finish), it takes back what it has written.
pub(crate) struct FrameWriter<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    max_message_size: usize,
}

impl<'a> FrameWriter<'a> {
    /// Begins a `call`; [`set_call`](Self::set_call) gives it its number later.
    pub(crate) fn call(buffer: &'a mut Vec<u8>, function: FunctionId, max: usize) -> Self {
        let mut fields = [0; 16];
        fields[8..].copy_from_slice(&function.0.to_le_bytes());
        Self::begin(buffer, 4, &fields, max)
    }

    pub(crate) fn answer(
        buffer: &'a mut Vec<u8>,
        call: CallId,
        outcome: Outcome,
        max: usize,
    ) -> Self {
        let mut fields = [0; 9];
        fields[..8].copy_from_slice(&call.0.to_le_bytes());
        fields[8] = outcome as u8;
        Self::begin(buffer, 5, &fields, max)
    }

    /// Begins an answer that carries a refusal, for which there is always room.
    pub(crate) fn refused_answer(buffer: &'a mut Vec<u8>, call: CallId) -> Self {
        Self::answer(buffer, call, Outcome::Refused, SMALLEST_LIMIT)
    }

    pub(crate) fn connect(
        buffer: &'a mut Vec<u8>,
        greeting: Greeting,
        worker: WorkerId,
        max: usize,
    ) -> Self {
        let mut fields = [0; GREETING_LEN + 16];
        let (before, after) = fields.split_at_mut(GREETING_LEN);
        before.copy_from_slice(&greeting.to_bytes());
        after.copy_from_slice(&worker.to_bytes());
        Self::begin(buffer, 1, &fields, max)
    }

    pub(crate) fn welcome(buffer: &'a mut Vec<u8>) -> Self {
        Self::begin(buffer, 2, &[], 0)
    }

    pub(crate) fn refuse(buffer: &'a mut Vec<u8>) -> Self {
        Self::begin(buffer, 3, &[], SMALLEST_LIMIT)
    }

    fn begin(buffer: &'a mut Vec<u8>, kind: u8, fields: &[u8], max_message_size: usize) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; LENGTH_LEN]);
        buffer.push(kind);
        buffer.extend_from_slice(fields);
        Self { buffer, start, max_message_size }
    }

    /// Writes the message that the frame carries.
    ///
    /// # Errors
    ///
    /// Those of `write`, and that the message is too large. Then nothing has been written.
    pub(crate) fn message<E: From<TooLarge>>(
        self,
        write: impl FnOnce(&mut Sink<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sink = Sink::new(self.buffer, self.max_message_size);
        write(&mut sink)?;
        sink.finish()?;
        self.finish();
        Ok(())
    }

    /// Ends the frame with what has been written so far.
    pub(crate) fn finish(mut self) {
        let length = self.buffer.len() - self.start - LENGTH_LEN;
        let length = u32::try_from(length).expect("settings keep messages below 4 GiB");
        self.buffer[self.start..][..LENGTH_LEN].copy_from_slice(&length.to_le_bytes());
        self.start = self.buffer.len();
    }

    /// Gives the number of the call to a finished `call` frame.
    pub(crate) fn set_call(frame: &mut [u8], call: CallId) {
        frame[LENGTH_LEN + 1..][..8].copy_from_slice(&call.0.to_le_bytes());
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    }

    fn put(bytes: &[u8]) -> impl FnOnce(&mut Sink<'_>) -> Result<(), TooLarge> {
        move |sink| {
            std::io::Write::write_all(sink, bytes).expect("a sink takes everything");
            Ok(())
        }
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let message = proptest::collection::vec(any::<u8>(), 0..MAX);
        (0..5, any::<(u64, u64)>(), any::<[u8; 16]>(), message).prop_map(
            |(kind, (call, number), worker, message)| {
                let call = CallId(call);
                let put = put(&message);
                let greeting = Greeting { fingerprint: number };
                let worker = WorkerId::from_bytes(worker);
                written(|out| {
                    let writer = match kind {
                        0 => FrameWriter::call(out, FunctionId(number), MAX),
                        1 => FrameWriter::answer(out, call, Outcome::Error, MAX),
                        2 => FrameWriter::refuse(out),
                        3 => return FrameWriter::welcome(out).finish(),
                        _ => FrameWriter::connect(out, greeting, worker, MAX),
                    };
                    writer.message(put).expect("it fits");
                })
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, len))) = split(&bytes, MAX) {
                prop_assert!(len <= bytes.len());
            }
        }

        #[test]
        fn frames_come_apart_as_they_were_put_together(frames in proptest::collection::vec(any_frame(), 1..5)) {
            let stream = frames.concat();
            let mut rest = &stream[..];

            for frame in &frames {
                let (_, len) = split(rest, MAX).expect("it was written by us").expect("it is whole");
                prop_assert_eq!(len, frame.len());
                rest = &rest[len..];
            }

            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_frame_that_is_cut_is_waited_for(frame in any_frame(), cut in any::<prop::sample::Index>()) {
            let received = &frame[..cut.index(frame.len())];

            prop_assert_eq!(split(received, MAX), Ok(None));
        }
    }

    #[test]
    fn a_call_keeps_its_number_its_function_and_its_arguments() {
        let mut bytes = written(|out| {
            FrameWriter::call(out, FunctionId(7), MAX).message(put(b"arguments")).expect("it fits");
        });
        FrameWriter::set_call(&mut bytes, CallId(5));

        let (frame, _) = split(&bytes, MAX).expect("it is a frame").expect("it is whole");

        let (call, function) = (CallId(5), FunctionId(7));
        assert_eq!(frame, Frame::Call { call, function, arguments: b"arguments" });
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_of_it_has_come() {
        let announced = u32::MAX.to_le_bytes();

        let refused = split(&announced, MAX);

        assert!(
            matches!(refused, Err(FrameError::TooLarge { size: 0xffff_ffff, .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_message_that_is_too_large_leaves_the_buffer_as_it_was() {
        let mut bytes = b"before".to_vec();

        let refused = FrameWriter::call(&mut bytes, FunctionId(7), MAX).message(put(&[0; 101]));

        assert_eq!(refused, Err(TooLarge { size: 101, max: 100 }));
        assert_eq!(bytes, b"before");
    }
}
