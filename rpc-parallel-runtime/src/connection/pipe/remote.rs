//! Typed ends of streams of a connection.

use std::any::type_name;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::error::{PipeError, PipeErrorKind};
use super::travel::give_back;
use crate::connection::any_error::AnyError;
use crate::connection::ends::{Elements, OwnedEnd, ReadEnd, WriteEnd};
use crate::connection::panics::catch;
#[cfg(feature = "tracing")]
use crate::connection::shared::Keeper;
use crate::protocol::Chunk;
use crate::wire::{Body, Codec, Decoder, EncodeError, TooLarge, values_len};

/// The size at which a frame of several elements is full, in bytes.
pub(super) const BATCH: usize = 32 * 1024;

/// The memory of the elements that are decoded at a time, in bytes. A value may be much larger than
/// its encoding. The elements of a full frame are decoded at once if none is larger than a `u64`,
/// because each takes up at least one byte of the frame.
const GROUP: usize = BATCH * size_of::<u64>();

/// The reading end of a stream.
pub(super) struct Incoming<T> {
    end: Option<ReadEnd>,
    codec: Codec<T>,
    /// The decoded elements of the current chunk that are not read yet.
    decoded: VecDeque<T>,
    /// The elements after them.
    undecoded: Option<Undecoded>,
    /// The cost of the current chunk, which is credited when all of its elements are read.
    cost: usize,
    error: Option<PipeError>,
}

impl<T> Incoming<T> {
    pub(super) fn new(end: ReadEnd, codec: Codec<T>) -> Self {
        let (decoded, undecoded) = (VecDeque::new(), None);
        Self { end: Some(end), codec, decoded, undecoded, cost: 0, error: None }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, PipeError>>> {
        loop {
            if let Some(element) = self.decoded.pop_front() {
                return Poll::Ready(Some(Ok(element)));
            }
            let Some(end) = &self.end else { return Poll::Ready(None) };
            if let Some(error) = self.error.take() {
                self.end = None;
                return Poll::Ready(Some(Err(error)));
            }
            if let Some(mut undecoded) = self.undecoded.take() {
                match undecoded.decode_group(self.codec, &mut self.decoded) {
                    Ok(()) => self.undecoded = Some(undecoded).filter(|it| it.count > 0),
                    Err(kind) => {
                        self.error = Some(PipeError::new(end.connection().worker(), kind));
                    }
                }
                continue;
            }
            if self.cost > 0 {
                end.note_read(std::mem::take(&mut self.cost));
            }
            match ready!(end.poll_chunk(cx)) {
                Some(Ok(Chunk::Skipped(error))) => {
                    self.cost = Chunk::cost_of(error.len());
                    return Poll::Ready(Some(Err(end.connection().error_of(&error))));
                }
                Some(Ok(Chunk::Elements { count, bytes })) => {
                    self.cost = Chunk::cost_of(bytes.len());
                    self.undecoded = Some(Undecoded { count, bytes, position: 0 });
                }
                Some(Err(error)) => {
                    self.end = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.end = None;
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Stops keeping the connection open, and returns what has kept it.
    #[cfg(feature = "tracing")]
    pub(super) fn release_keeper(&self) -> Option<Keeper> {
        self.end.as_ref().and_then(ReadEnd::release_keeper)
    }

    /// Returns the stream, and what is left of its current chunk, which counts as read.
    pub(super) fn into_parts(mut self) -> Parts<T> {
        if let Some(end) = &self.end {
            end.note_read(std::mem::take(&mut self.cost));
        }
        Parts {
            end: self.end.take(),
            decoded: std::mem::take(&mut self.decoded),
            undecoded: self.undecoded.take(),
            error: self.error.take(),
            codec: self.codec,
        }
    }
}

/// The parts of an [`Incoming`].
pub(super) struct Parts<T> {
    pub(super) end: Option<ReadEnd>,
    pub(super) decoded: VecDeque<T>,
    pub(super) undecoded: Option<Undecoded>,
    /// The error behind the decoded elements.
    pub(super) error: Option<PipeError>,
    pub(super) codec: Codec<T>,
}

/// The elements of a chunk that are not decoded yet.
pub(super) struct Undecoded {
    count: u32,
    /// The whole chunk.
    bytes: Bytes,
    /// The position of the next element.
    position: usize,
}

impl Undecoded {
    /// Decodes the next elements, as many as [`GROUP`] holds, but at least one.
    fn decode_group<T>(
        &mut self,
        codec: Codec<T>,
        decoded: &mut VecDeque<T>,
    ) -> Result<(), PipeErrorKind> {
        let most = (GROUP / size_of::<T>().max(1)).max(1);
        let (count, elements) = self.take(u32::try_from(most).unwrap_or(u32::MAX));
        decode(codec, count, elements, |element| decoded.push_back(element))
    }

    /// Takes at most this number of elements. Returns their number and their encoded bytes.
    pub(super) fn take(&mut self, most: u32) -> (u32, Body<'_>) {
        let rest = &self.bytes[self.position..];
        let count = self.count.min(most);
        // If an element is malformed, decoding the rest finds it.
        let before_others = if count < self.count { values_len(rest, count) } else { None };
        let elements = &rest[..before_others.unwrap_or(rest.len())];
        self.count -= count;
        self.position += elements.len();
        (count, Body::shared(&self.bytes).slice(elements))
    }
}

impl<T> Drop for Incoming<T> {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            give_back(OwnedEnd::Reading(end));
        }
    }
}

/// Decodes `count` elements, and calls `each` with them.
pub(super) fn decode<T>(
    codec: Codec<T>,
    count: u32,
    elements: Body<'_>,
    mut each: impl FnMut(T),
) -> Result<(), PipeErrorKind> {
    let mut decoder = Decoder::new(elements);
    for _ in 0..count {
        each((codec.decode)(&mut decoder).map_err(undecodable)?);
    }
    decoder.finish(type_name::<T>()).map_err(undecodable)
}

fn undecodable(error: crate::wire::DecodeError) -> PipeErrorKind {
    PipeErrorKind::Undecodable { why: AnyError::from(error).to_string() }
}

/// The writing end of a stream.
pub(super) struct Outgoing<T> {
    pub(super) end: Arc<WriteEnd>,
    codec: Codec<T>,
}

impl<T> Clone for Outgoing<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), codec: self.codec }
    }
}

impl<T> Outgoing<T> {
    pub(super) fn new(end: WriteEnd, codec: Codec<T>) -> Self {
        Self { end: Arc::new(end), codec }
    }

    /// Encodes a frame of one element.
    pub(super) fn encode(&self, element: &T) -> Result<Elements, PipeError> {
        let max = self.end.connection().max_message_size;
        let elements = self.end.encode(max, |sink| {
            (self.codec.encode)(element, sink)?;
            Ok::<_, Unsendable>(1)
        });
        elements.map_err(|Unsendable(kind)| self.error(kind))
    }

    /// Encodes a frame of the elements that `next` returns, until `next` returns `None`, the frame
    /// has `full` bytes, or an element fails. Returns the frame, unless it is empty, and the error.
    ///
    /// An element that does not fit into the frame is stored in `left`, for the next frame.
    pub(super) fn encode_all(
        &self,
        full: usize,
        left: &mut Option<T>,
        mut next: impl FnMut() -> Option<T>,
    ) -> (Option<Elements>, Option<PipeErrorKind>) {
        let max = self.end.connection().max_message_size;
        let (mut count, mut failed) = (0, None);
        let elements = self.end.encode(max, |sink| {
            while sink.len() < full
                && let Some(element) = left.take().or_else(&mut next)
            {
                let (mark, before) = (sink.position(), sink.len());
                let encoded = catch(|| (self.codec.encode)(&element, sink));
                let encoded = match encoded {
                    Ok(encoded) => encoded.map_err(Unsendable::from),
                    Err(panic) => Err(Unsendable(PipeErrorKind::Panicked(panic))),
                };
                let size = sink.len() - before;
                let fits = if size > max { Err(TooLarge { size, max }.into()) } else { Ok(()) };
                let encoded = encoded.and(fits);
                if encoded.is_ok() && sink.len() <= max {
                    count += 1;
                    continue;
                }
                sink.rewind(&mark);
                match encoded {
                    Ok(()) => *left = Some(element),
                    Err(Unsendable(kind)) => failed = Some(kind),
                }
                break;
            }
            Ok::<_, Unsendable>(count)
        });
        match elements {
            Ok(elements) => (Some(elements).filter(|_| count > 0), failed),
            Err(Unsendable(kind)) => (None, Some(kind)),
        }
    }

    pub(super) async fn send(&self, elements: Elements) -> Result<(), PipeError> {
        let mut elements = Some(elements);
        poll_fn(|cx| self.end.poll_send(&mut elements, cx)).await
    }

    pub(super) fn error(&self, kind: PipeErrorKind) -> PipeError {
        PipeError::new(self.end.connection().worker(), kind)
    }

    /// Drops the end. While its message is being decoded, the end is given back to the message.
    pub(super) fn leave(self) {
        if let Some(end) = Arc::into_inner(self.end) {
            give_back(OwnedEnd::Writing(end));
        }
    }
}

/// The reason why an element cannot be sent.
pub(super) struct Unsendable(PipeErrorKind);

impl From<EncodeError> for Unsendable {
    fn from(error: EncodeError) -> Self {
        Self(PipeErrorKind::Unencodable { why: AnyError::from(error).to_string() })
    }
}

impl From<TooLarge> for Unsendable {
    fn from(too_large: TooLarge) -> Self {
        Self(PipeErrorKind::TooLarge(too_large))
    }
}
