//! The end of a pipe that is written.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::channel::{Channel, Sent};
use super::error::{PipeError, PipeErrorKind};
use super::pump;
use super::remote::{BATCH, Incoming, Outgoing};
use super::travel::{self, Opening, Start, WriterNumber, claim_writing};
use crate::connection::inflow::ReadEnd;
use crate::connection::panics::cut_short;
use crate::wire::{Message, codec};

/// The end of a [`Pipe`](super::Pipe) that is written.
///
/// As an argument of a function it makes a direct pipe: what the function writes goes to the wire
/// at once, with no queue and no task between. What is written before the function returns is not
/// lost, and it can go on writing after that, from a task that keeps the writer.
///
/// Dropping it ends the pipe. Dropped by a panic, or because its call was cancelled, it ends the
/// pipe with an error instead; [`fail`](Self::fail) does so on purpose. An early return by `?` does
/// not: for the reader it is the end of the pipe, though not for the caller of the function.
///
/// It is written to by a shared reference, also by several tasks at once. It is not cloned: put it
/// into an `Arc`, and the pipe ends with the last of them.
///
/// ```
/// # use rpc_parallel::PipeWriter;
/// # struct Painter;
/// # impl Painter {
/// // as a function of a worker:
/// async fn paint(&self, tiles: PipeWriter<Vec<u8>>) {
///     for tile in 0..64 {
///         if tiles.send(vec![tile; 256]).await.is_err() {
///             return; // nobody looks any more
///         }
///     }
/// }
/// # }
/// ```
pub struct PipeWriter<T> {
    target: Target<T>,
    /// It is in another process.
    sent: AtomicBool,
    window: Option<u32>,
}

enum Target<T> {
    Channel(Arc<Channel<T>>),
    Remote(Outgoing<T>),
    /// It has ended.
    Nothing,
}

/// An element was not written at once.
#[derive(Clone, PartialEq, Debug)]
pub enum TrySendError<T> {
    /// The reader has no room for it now.
    Full(T),
    /// It never will be. The element is lost.
    Failed(PipeError),
}

impl<T: Send + 'static> PipeWriter<T> {
    /// Sets how much may be on its way before it has been read, in bytes, when this writer is sent:
    /// see [`Pipe::with_window`](super::Pipe::with_window). It is the sender of the message who
    /// chooses, here the one who reads.
    #[must_use]
    pub fn with_window(mut self, bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.window = Some(bytes.clamp(1, crate::wire::LARGEST_WINDOW));
        self
    }

    /// Writes an element as soon as the reader has room for it.
    ///
    /// It is on its way then; whether the reader will take it nobody knows.
    ///
    /// # Errors
    ///
    /// Nobody reads any more, because the [reader](PipeErrorKind::ReaderGone) or its process or
    /// connection is gone. Or the element is too large or cannot be encoded: then the pipe goes on
    /// without it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has not written the element.
    pub async fn send(&self, element: T) -> Result<(), PipeError> {
        let mut element = Some(element);
        let outgoing = match self.check()? {
            Target::Channel(channel) => {
                let sent = poll_fn(|cx| channel.poll_send(&mut element, Some(cx))).await?;
                let Sent::Elsewhere(outgoing) = sent else { return Ok(()) };
                outgoing
            }
            Target::Remote(outgoing) => outgoing.clone(),
            Target::Nothing => return Err(gone()),
        };
        let Some(element) = element else { return Ok(()) };
        outgoing.send(outgoing.encode(&element)?).await
    }

    /// Writes elements, many in a frame, as far as the reader has room for them.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send). Of the elements before the one that failed none is missing;
    /// those after it are not written.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has written some of the elements, and may have taken more of
    /// them out of the iterator, which are lost.
    pub async fn send_all(&self, elements: impl IntoIterator<Item = T>) -> Result<(), PipeError> {
        let mut elements = elements.into_iter().peekable();
        let mut left = None;
        while left.is_some() || elements.peek().is_some() {
            let outgoing = match self.check()? {
                Target::Channel(channel) => {
                    let mut next = None;
                    let sent = poll_fn(|cx| {
                        next = next.take().or_else(|| left.take()).or_else(|| elements.next());
                        channel.poll_send(&mut next, Some(cx))
                    });
                    let Sent::Elsewhere(outgoing) = sent.await? else { continue };
                    if let Some(element) = next {
                        outgoing.send(outgoing.encode(&element)?).await?;
                    }
                    outgoing
                }
                Target::Remote(outgoing) => outgoing.clone(),
                Target::Nothing => return Err(gone()),
            };
            poll_fn(|cx| outgoing.end.0.poll_room(cx)).await;
            // No more than the reader has room for, if only for one element.
            let full = outgoing.end.0.room().clamp(1, BATCH);
            let (frame, failed) = outgoing.encode_all(full, &mut left, || elements.next());
            if let Some(frame) = frame {
                outgoing.send(frame).await?;
            }
            if let Some(kind) = failed {
                return Err(outgoing.error(kind));
            }
        }
        Ok(())
    }

    /// Writes an element if the reader has room for it now. It needs no runtime: any thread may
    /// call it.
    ///
    /// # Errors
    ///
    /// The reader has no room: then the element is given back. Or those of [`send`](Self::send).
    pub fn try_send(&self, element: T) -> Result<(), TrySendError<T>> {
        let mut element = Some(element);
        let outgoing = match self.check().map_err(TrySendError::Failed)? {
            Target::Channel(channel) => match channel.poll_send(&mut element, None) {
                Poll::Ready(Ok(Sent::Here)) => return Ok(()),
                Poll::Ready(Ok(Sent::Elsewhere(outgoing))) => outgoing,
                Poll::Ready(Err(error)) => return Err(TrySendError::Failed(error)),
                Poll::Pending => return full(element),
            },
            Target::Remote(outgoing) => outgoing.clone(),
            Target::Nothing => return Err(TrySendError::Failed(gone())),
        };
        if !outgoing.end.0.is_closed() && outgoing.end.0.room() == 0 {
            return full(element);
        }
        let Some(given) = &element else { return Ok(()) };
        let mut elements = Some(outgoing.encode(given).map_err(TrySendError::Failed)?);
        match outgoing.end.0.try_send(&mut elements) {
            Ok(true) => Ok(()),
            Ok(false) => full(element),
            Err(error) => Err(TrySendError::Failed(error)),
        }
    }

    /// Waits until nobody reads any more: the pipe was dropped or aborted, or the process or the
    /// connection of its reader is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn closed(&self) {
        poll_fn(|cx| match &self.target {
            Target::Channel(channel) => channel.poll_closed(Some(cx)),
            Target::Remote(outgoing) => outgoing.end.0.poll_closed(cx),
            Target::Nothing => Poll::Ready(()),
        })
        .await;
    }

    /// Says whether nobody reads any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.target {
            Target::Channel(channel) => channel.poll_closed(None).is_ready(),
            Target::Remote(outgoing) => outgoing.end.0.is_closed(),
            Target::Nothing => true,
        }
    }

    /// Ends the pipe with an error: the reader gets it after what has been written.
    pub fn fail(mut self, why: impl fmt::Display) {
        self.end(Err(PipeErrorKind::WriterFailed { why: why.to_string() }));
    }
}

impl<T> PipeWriter<T> {
    pub(super) fn to_channel(channel: Arc<Channel<T>>) -> Self {
        Self::to(Target::Channel(channel))
    }

    fn to(target: Target<T>) -> Self {
        Self { target, sent: AtomicBool::new(false), window: None }
    }

    fn end(&mut self, end: Result<(), PipeErrorKind>) {
        match std::mem::replace(&mut self.target, Target::Nothing) {
            Target::Channel(channel) => channel.end(end),
            Target::Remote(outgoing) => {
                if let Err(kind) = end {
                    outgoing.end.0.end(Some(&PipeError::new(None, kind)));
                }
                outgoing.leave();
            }
            Target::Nothing => {}
        }
    }

    fn check(&self) -> Result<&Target<T>, PipeError> {
        if self.sent.load(Ordering::Acquire) {
            return Err(PipeError::new(None, PipeErrorKind::Sent));
        }
        Ok(&self.target)
    }

    /// Makes the writer that goes with a message.
    fn travelling(&self) -> Self {
        Self::to(match &self.target {
            Target::Channel(channel) => Target::Channel(channel.clone()),
            Target::Remote(outgoing) => Target::Remote(outgoing.clone()),
            Target::Nothing => Target::Nothing,
        })
    }
}

fn gone() -> PipeError {
    PipeError::new(None, PipeErrorKind::ReaderGone)
}

fn full<T>(element: Option<T>) -> Result<(), TrySendError<T>> {
    element.map_or(Ok(()), |it| Err(TrySendError::Full(it)))
}

impl<T: Message> PipeWriter<T> {
    /// Has what is written in another process go where this writer writes.
    fn send_away(mut self, end: ReadEnd) {
        let incoming = Incoming::new(end, codec::<T>());
        match std::mem::replace(&mut self.target, Target::Nothing) {
            Target::Channel(channel) => channel.send_writer(incoming),
            Target::Remote(outgoing) => pump::forward(incoming, outgoing),
            Target::Nothing => {}
        }
    }
}

impl<T> Drop for PipeWriter<T> {
    fn drop(&mut self) {
        if !self.sent.load(Ordering::Acquire) {
            self.end(cut_short().map_or(Ok(()), Err));
        }
    }
}

impl<T: Message> Serialize for PipeWriter<T> {
    /// Notes that the message it is part of opens a stream: a writer can be sent once.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.sent.load(Ordering::Acquire) {
            return Err(ser::Error::custom("this end of the pipe has been sent already"));
        }
        let opening = || {
            self.sent.store(true, Ordering::Release);
            let writer = Leaving(Some(self.travelling()));
            let start = Start::Read(Box::new(move |end| writer.leave(end)));
            Opening { window: self.window, start }
        };
        travel::serialize(serializer, travel::WRITER, opening)
    }
}

/// A writer whose message has not been sent. If it never is, nobody will write.
struct Leaving<T>(Option<PipeWriter<T>>);

impl<T: Message> Leaving<T> {
    fn leave(mut self, end: ReadEnd) {
        if let Some(writer) = self.0.take() {
            writer.send_away(end);
        }
    }
}

impl<T> Drop for Leaving<T> {
    fn drop(&mut self) {
        if let Some(writer) = &mut self.0 {
            writer.end(Err(PipeErrorKind::Cancelled));
        }
    }
}

impl<'de, T: Message> Deserialize<'de> for PipeWriter<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WriterNumber { number } = WriterNumber::deserialize(deserializer)?;
        let end = claim_writing(number).map_err(de::Error::custom)?;
        Ok(Self::to(Target::Remote(Outgoing::new(end, codec::<T>()))))
    }
}

impl<T> fmt::Debug for PipeWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("pipe: its reader has no room now"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for TrySendError<T> {}
