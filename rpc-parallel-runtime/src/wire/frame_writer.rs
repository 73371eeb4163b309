//! Writes frames, and sets the fields of calls that are known only when they are sent.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::field::{Field, write_message};
use super::fragment::{MAX_FRAGMENT_LEN, TransferId};
#[cfg(any(feature = "tracing", test))]
use super::frame::WITH_SPANS;
use super::frame::{
    CallId, LENGTH_LEN, Outcome, SMALLEST_LIMIT, SPANS_LEN, WITH_DEADLINE, WITH_STREAMS,
    largest_frame,
};
use super::greeting::Greeting;
use super::id::{FunctionId, WorkerId};
use super::receive_limits::ReceiveLimits;
use super::sink::{Sink, Splice, TooLarge};
#[cfg(any(feature = "tracing", test))]
use super::span_key::SpanKey;
use super::stream::{OPENED_LEN, Opened, StreamId};

/// The largest length of a trailer without its streams, in bytes: their count, a deadline and
/// spans.
const TRAILER_LEN: usize = 2 + 8 + SPANS_LEN;

/// The positions of the `extras` field in the frames that have it.
const EXTRAS_OF_CALL: usize = LENGTH_LEN + 1 + 16;
const EXTRAS_OF_ANSWER: usize = LENGTH_LEN + 1 + 9;
const EXTRAS_OF_ONE_WAY: usize = LENGTH_LEN + 1 + 8;

/// Appends one frame to a buffer: first its fields, then its message.
///
/// If it is dropped before it is [finished](Self::finish), it removes the incomplete frame.
pub(crate) struct FrameWriter<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    max_message_size: usize,
}

impl<'a> FrameWriter<'a> {
    pub(crate) fn connect(
        buffer: &'a mut Vec<u8>,
        greeting: Greeting,
        worker: WorkerId,
        limits: ReceiveLimits,
    ) -> Self {
        let fields = connect_fields(greeting, worker, limits);
        Self::begin(buffer, 1, &fields, limits.max_message_size)
    }

    pub(crate) fn connect_control(
        buffer: &'a mut Vec<u8>,
        greeting: Greeting,
        worker: WorkerId,
        limits: ReceiveLimits,
    ) -> Self {
        Self::begin(buffer, 18, &connect_fields(greeting, worker, limits), 0)
    }

    pub(crate) fn introduce(buffer: &'a mut Vec<u8>) -> Self {
        Self::begin(buffer, 16, &[], SMALLEST_LIMIT)
    }

    pub(crate) fn acknowledge(buffer: &'a mut Vec<u8>) -> Self {
        Self::begin(buffer, 17, &[], 0)
    }

    pub(crate) fn welcome(buffer: &'a mut Vec<u8>, limits: ReceiveLimits) -> Self {
        Self::begin(buffer, 2, &limits.to_bytes(), 0)
    }

    pub(crate) fn refuse(buffer: &'a mut Vec<u8>) -> Self {
        Self::begin(buffer, 3, &[], SMALLEST_LIMIT)
    }

    pub(crate) fn cancel(buffer: &'a mut Vec<u8>, call: CallId) -> Self {
        Self::begin(buffer, 6, &call.0.to_le_bytes(), 0)
    }

    /// Begins the `end` frame of a stream. Its limit is large enough for any shortened error.
    pub(crate) fn end(buffer: &'a mut Vec<u8>, stream: StreamId) -> Self {
        Self::begin(buffer, 9, &stream.0.to_le_bytes(), SMALLEST_LIMIT)
    }

    /// Begins a `skipped` frame. Its limit is large enough for any shortened error.
    pub(crate) fn skipped(buffer: &'a mut Vec<u8>, stream: StreamId) -> Self {
        Self::begin(buffer, 15, &stream.0.to_le_bytes(), SMALLEST_LIMIT)
    }

    pub(crate) fn stop(buffer: &'a mut Vec<u8>, stream: StreamId) -> Self {
        Self::begin(buffer, 10, &stream.0.to_le_bytes(), 0)
    }

    pub(crate) fn credit(buffer: &'a mut Vec<u8>, stream: StreamId, bytes: u32) -> Self {
        let mut fields = [0; 12];
        fields[..8].copy_from_slice(&stream.0.to_le_bytes());
        fields[8..].copy_from_slice(&bytes.to_le_bytes());
        Self::begin(buffer, 11, &fields, 0)
    }

    pub(crate) fn one_way_credit(buffer: &'a mut Vec<u8>, count: u32) -> Self {
        Self::begin(buffer, 19, &count.to_le_bytes(), 0)
    }

    pub(crate) fn abandon(buffer: &'a mut Vec<u8>, transfer: TransferId) -> Self {
        Self::begin(buffer, 14, &transfer.0.to_le_bytes(), 0)
    }

    fn begin(buffer: &'a mut Vec<u8>, kind: u8, fields: &[u8], max_message_size: usize) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; LENGTH_LEN]);
        buffer.push(kind);
        buffer.extend_from_slice(fields);
        Self { buffer, start, max_message_size }
    }

    /// Writes the message of the frame, and finishes it.
    ///
    /// # Errors
    ///
    /// The errors of `write`, or the message is too large. Then the frame is removed.
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

    /// Writes one of the runtime's own messages as the message of the frame, and finishes it.
    ///
    /// # Errors
    ///
    /// The message is too large. Then the frame is removed.
    pub(crate) fn own_message<T: Field>(self, message: &T) -> Result<(), TooLarge> {
        self.message(|sink| {
            write_message(message, sink);
            Ok(())
        })
    }

    /// Finishes the frame: sets its length.
    pub(crate) fn finish(mut self) {
        set_length(&mut self.buffer[self.start..], 0);
        self.start = self.buffer.len();
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.start);
    }
}

/// Sets the length of a frame, of which `spliced_len` bytes are not in this buffer.
fn set_length(frame: &mut [u8], spliced_len: usize) {
    let length = frame.len() - LENGTH_LEN + spliced_len;
    let length = u32::try_from(length).expect("`max_message_size` is below 4 GiB");
    frame[..LENGTH_LEN].copy_from_slice(&length.to_le_bytes());
}

/// Appends a frame whose message may be large and may open streams: a call, an answer or elements.
///
/// If it is dropped before it is [finished](Self::finish), it removes the incomplete frame.
pub(crate) struct MessageWriter<'a> {
    frame: FrameWriter<'a>,
    spliced: Vec<Splice>,
}

impl<'a> MessageWriter<'a> {
    /// Begins a `call` frame. [`Unsent::set_call`] sets its call id later.
    pub(crate) fn call(buffer: &'a mut Vec<u8>, function: FunctionId, max: usize) -> Self {
        let mut fields = [0; 17];
        fields[8..16].copy_from_slice(&function.0.to_le_bytes());
        Self::begin(FrameWriter::begin(buffer, 4, &fields, max))
    }

    pub(crate) fn answer(
        buffer: &'a mut Vec<u8>,
        call: CallId,
        outcome: Outcome,
        max: usize,
    ) -> Self {
        let mut fields = [0; 10];
        fields[..8].copy_from_slice(&call.0.to_le_bytes());
        fields[8] = outcome as u8;
        Self::begin(FrameWriter::begin(buffer, 5, &fields, max))
    }

    /// Begins an `answer` frame for a refusal. Its limit is large enough for any shortened refusal.
    pub(crate) fn refused_answer(buffer: &'a mut Vec<u8>, call: CallId) -> Self {
        Self::answer(buffer, call, Outcome::Refused, SMALLEST_LIMIT)
    }

    pub(crate) fn one_way(buffer: &'a mut Vec<u8>, function: FunctionId, max: usize) -> Self {
        let mut fields = [0; 9];
        fields[..8].copy_from_slice(&function.0.to_le_bytes());
        Self::begin(FrameWriter::begin(buffer, 7, &fields, max))
    }

    pub(crate) fn items(buffer: &'a mut Vec<u8>, stream: StreamId, max: usize) -> Self {
        let mut fields = [0; 12];
        fields[..8].copy_from_slice(&stream.0.to_le_bytes());
        Self::begin(FrameWriter::begin(buffer, 8, &fields, max))
    }

    fn begin(frame: FrameWriter<'a>) -> Self {
        Self { frame, spliced: Vec::new() }
    }

    /// Writes the message of the frame.
    ///
    /// # Errors
    ///
    /// The errors of `write`, or the message is too large. Then the frame is removed.
    pub(crate) fn message<E: From<TooLarge>>(
        mut self,
        write: impl FnOnce(&mut Sink<'_>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let FrameWriter { buffer, start, max_message_size } = &mut self.frame;
        let mut sink = Sink::splicing(buffer, *start, *max_message_size);
        write(&mut sink)?;
        self.spliced = sink.finish()?;
        Ok(self)
    }

    /// Checks that the frame stays within its limit with this number of streams.
    ///
    /// # Errors
    ///
    /// The message and the streams together are too large. Then the frame is removed.
    pub(crate) fn room_for(self, streams: usize) -> Result<Self, TooLarge> {
        let max = self.frame.max_message_size;
        let spliced = self.spliced.iter().map(|it| it.bytes.len()).sum::<usize>();
        let frame = self.frame.buffer.len() - self.frame.start - LENGTH_LEN + spliced;
        let beyond =
            (frame + TRAILER_LEN + streams * OPENED_LEN).saturating_sub(largest_frame(max));
        if streams > 0 && beyond > 0 {
            return Err(TooLarge { size: max + beyond, max });
        }
        Ok(self)
    }

    /// Sets the streams that an answer opens.
    pub(crate) fn streams(self, streams: &[Opened]) -> Self {
        let extras = write_streams(self.frame.buffer, streams);
        self.frame.buffer[self.frame.start + EXTRAS_OF_ANSWER] |= extras;
        self
    }

    /// Sets the number of elements of an `items` frame.
    pub(crate) fn count(self, count: u32) -> Self {
        let at = self.frame.start + LENGTH_LEN + 1 + 8;
        self.frame.buffer[at..][..4].copy_from_slice(&count.to_le_bytes());
        self
    }

    /// Finishes the frame. A frame larger than [`MAX_FRAGMENT_LEN`] is removed from the buffer and
    /// returned.
    pub(crate) fn finish(self) -> Option<Large> {
        let Self { mut frame, spliced, .. } = self;
        let written = &mut frame.buffer[frame.start..];
        let spliced_len = spliced.iter().map(|it| it.bytes.len()).sum::<usize>();
        set_length(written, spliced_len);
        if written.len() + spliced_len <= MAX_FRAGMENT_LEN {
            frame.start = frame.buffer.len();
            return None;
        }
        let start = frame.start;
        // Usually the buffer holds only this frame, and nothing is copied.
        let written = match start {
            0 => std::mem::take(frame.buffer),
            _ => frame.buffer.split_off(start),
        };
        Some(Large { written, spliced })
    }
}

/// A frame that is larger than [`MAX_FRAGMENT_LEN`], and so is written in fragments.
#[derive(Clone, Debug)]
pub(crate) struct Large {
    written: Vec<u8>,
    spliced: Vec<Splice>,
}

impl Large {
    /// Returns the length of the frame, and its bytes without the length field, in pieces. The
    /// first piece holds at least the fields.
    pub(crate) fn into_pieces(self) -> (u32, VecDeque<Bytes>) {
        let Self { written, spliced } = self;
        let mut written = Bytes::from(written);
        let total = written.split_to(LENGTH_LEN);
        let total = total.first_chunk().map_or(0, |it| u32::from_le_bytes(*it));
        let mut pieces = VecDeque::with_capacity(2 * spliced.len() + 1);
        let mut taken = LENGTH_LEN;
        for Splice { at, bytes } in spliced {
            pieces.push_back(written.split_to(at - taken));
            pieces.push_back(bytes);
            taken = at;
        }
        pieces.push_back(written);
        pieces.retain(|it| !it.is_empty());
        (total, pieces)
    }

    /// Splices everything behind the fields of a call, so that clones share it.
    #[cfg(feature = "pool")]
    fn share(self) -> Self {
        let Self { written, spliced } = self;
        let fields_len = fields_len(&written);
        let fields = written[..fields_len].to_vec();
        let mut written = Bytes::from(written).split_off(fields_len);
        let mut pieces = Vec::with_capacity(2 * spliced.len() + 1);
        let mut taken = fields_len;
        for Splice { at, bytes } in spliced {
            pieces.push(written.split_to(at - taken));
            pieces.push(bytes);
            taken = at;
        }
        pieces.push(written);
        let pieces = pieces.into_iter().filter(|it| !it.is_empty());
        let spliced = pieces.map(|bytes| Splice { at: fields_len, bytes }).collect();
        Self { written: fields, spliced }
    }
}

/// An encoded `call` or `one_way` frame that has not been sent. The fields that are known only when
/// it is sent are not set.
#[derive(Clone, Debug)]
pub(crate) enum Unsent {
    Small(Vec<u8>),
    Large(Box<Large>),
}

impl Unsent {
    /// Checks that the message of a call, and the streams that it opens, stay within a limit.
    ///
    /// # Errors
    ///
    /// They are too large.
    #[cfg(feature = "pool")]
    pub(crate) fn check(&self, max: usize, streams: usize) -> Result<(), TooLarge> {
        let frame = match self {
            Self::Small(frame) => frame.len(),
            Self::Large(large) => {
                let spliced = large.spliced.iter().map(|it| it.bytes.len()).sum::<usize>();
                large.written.len() + spliced
            }
        };
        let message = frame.saturating_sub(EXTRAS_OF_CALL + 1);
        let size = match streams {
            0 => message,
            streams => message + TRAILER_LEN + streams * OPENED_LEN,
        };
        if size > max { Err(TooLarge { size, max }) } else { Ok(()) }
    }

    /// Sets the id, the streams and the remaining time of a call.
    pub(crate) fn set_call(
        &mut self,
        streams: &[Opened],
        call: CallId,
        deadline: Option<Duration>,
    ) {
        let (frame, spliced_len) = self.parts();
        frame[LENGTH_LEN + 1..][..8].copy_from_slice(&call.0.to_le_bytes());
        let extras = write_streams(frame, streams);
        frame[EXTRAS_OF_CALL] |= extras;
        if let Some(deadline) = deadline {
            let micros = u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX);
            frame.extend_from_slice(&micros.to_le_bytes());
            frame[EXTRAS_OF_CALL] |= WITH_DEADLINE;
        }
        set_length(frame, spliced_len);
    }

    /// Sets the streams of a one-way call.
    pub(crate) fn set_one_way(&mut self, streams: &[Opened]) {
        let (frame, spliced_len) = self.parts();
        let extras = write_streams(frame, streams);
        frame[EXTRAS_OF_ONE_WAY] |= extras;
        set_length(frame, spliced_len);
    }

    /// Sets the spans in which a call is made, innermost first. Must be called before
    /// [`set_call`](Self::set_call) and [`set_one_way`](Self::set_one_way).
    #[cfg(any(feature = "tracing", test))]
    pub(crate) fn set_spans(&mut self, keys: &[SpanKey]) {
        let (frame, spliced_len) = self.parts();
        keys.iter().for_each(|it| frame.extend_from_slice(&it.to_bytes()));
        frame.push(u8::try_from(keys.len()).expect("a call carries at most `MAX_SPAN_KEYS` spans"));
        let extras = fields_len(frame) - 1;
        frame[extras] |= WITH_SPANS;
        set_length(frame, spliced_len);
    }

    /// Makes clones of the frame share its message, unless the message is small.
    #[cfg(feature = "pool")]
    pub(crate) fn share(self) -> Self {
        match self {
            Self::Small(_) => self,
            Self::Large(large) => Self::Large(Box::new(large.share())),
        }
    }

    /// Returns the length of the message, in bytes.
    #[cfg(feature = "pool")]
    pub(crate) fn message_len(&self) -> usize {
        let (frame, spliced) = match self {
            Self::Small(frame) => (frame, &[][..]),
            Self::Large(large) => (&large.written, &large.spliced[..]),
        };
        frame.len() - fields_len(frame) + spliced.iter().map(|it| it.bytes.len()).sum::<usize>()
    }

    /// Returns the buffer of the frame, and the number of spliced bytes that are not in it.
    fn parts(&mut self) -> (&mut Vec<u8>, usize) {
        match self {
            Self::Small(frame) => (frame, 0),
            Self::Large(large) => {
                let spliced_len = large.spliced.iter().map(|it| it.bytes.len()).sum();
                (&mut large.written, spliced_len)
            }
        }
    }
}

/// Returns the length of the fields of a `call` or `one_way` frame, the last of which are the
/// `extras`.
#[cfg(any(feature = "pool", feature = "tracing", test))]
fn fields_len(frame: &[u8]) -> usize {
    let one_way = frame[LENGTH_LEN] == 7;
    1 + if one_way { EXTRAS_OF_ONE_WAY } else { EXTRAS_OF_CALL }
}

/// Appends the streams that a message opens. Returns the flags to set in its `extras`.
fn write_streams(frame: &mut Vec<u8>, streams: &[Opened]) -> u8 {
    if streams.is_empty() {
        return 0;
    }
    streams.iter().for_each(|it| frame.extend_from_slice(&it.to_bytes()));
    let count = u16::try_from(streams.len()).expect("a message opens at most 65535 streams");
    frame.extend_from_slice(&count.to_le_bytes());
    WITH_STREAMS
}

/// Appends the elements of one `items` frame to another one of the same stream. Returns whether both
/// are such frames.
pub(crate) fn append_items(frame: &mut Vec<u8>, appended: &[u8]) -> bool {
    const ITEMS: u8 = 8;
    const FIELDS_LEN: usize = LENGTH_LEN + 1 + 8;
    const HEADER_LEN: usize = FIELDS_LEN + size_of::<u32>();

    let Some((fields, elements)) = appended.split_at_checked(HEADER_LEN) else { return false };
    let is_same = frame.get(LENGTH_LEN..FIELDS_LEN) == Some(&fields[LENGTH_LEN..FIELDS_LEN]);
    if !is_same || fields[LENGTH_LEN] != ITEMS {
        return false;
    }
    let count =
        |frame: &[u8]| frame[FIELDS_LEN..].first_chunk().map_or(0, |it| u32::from_le_bytes(*it));
    let sum = count(frame) + count(fields);
    frame[FIELDS_LEN..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
    frame.extend_from_slice(elements);
    set_length(frame, 0);
    true
}

/// Writes the header of a fragment of `len` bytes. The first fragment of a transfer has the `total`
/// length of the large frame, in bytes.
pub(crate) fn write_fragment_header(
    header: &mut Vec<u8>,
    transfer: TransferId,
    total: Option<u32>,
    len: usize,
) {
    let fields = 1 + 4 + if total.is_some() { 4 } else { 0 };
    let length = u32::try_from(fields + len).expect("a fragment has at most 64 KiB");
    header.extend_from_slice(&length.to_le_bytes());
    header.push(if total.is_some() { 12 } else { 13 });
    header.extend_from_slice(&transfer.0.to_le_bytes());
    if let Some(total) = total {
        header.extend_from_slice(&total.to_le_bytes());
    }
}

/// Returns the fields of a `connect` or `connect_control` frame.
fn connect_fields(greeting: Greeting, worker: WorkerId, limits: ReceiveLimits) -> Vec<u8> {
    [&greeting.to_bytes()[..], &worker.to_bytes(), &limits.to_bytes()].concat()
}
