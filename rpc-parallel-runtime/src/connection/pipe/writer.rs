//! The writing end of a pipe.

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
use crate::connection::ends::ReadEnd;
use crate::connection::panics::cut_short;
use crate::wire::{Message, codec};

/// The writing end of a [`Pipe`](super::Pipe).
///
/// As an argument of a function it makes a direct pipe: the function writes elements directly to
/// the connection, without a queue or a task in between. Elements that are written before the
/// function returns are delivered. A task that owns the writer may write after the function has
/// returned.
///
/// # End of the pipe
///
/// Dropping the writer ends the pipe. If a panic or the cancellation of its call drops the writer,
/// the pipe ends with an error; [`fail`](Self::fail) ends it with an error explicitly. An early
/// return with `?` is a regular end for the reader, although the caller of the function gets the
/// error.
///
/// # Sharing
///
/// All methods take `&self`, and several tasks may write at the same time. To share a writer, put
/// it into an `Arc`: the pipe ends with the last reference.
///
/// ```
/// # use rpc_parallel::PipeWriter;
/// # struct Painter;
/// # impl Painter {
/// // as a function of a worker:
/// async fn paint(&self, tiles: PipeWriter<Vec<u8>>) {
///     for tile in 0..64 {
///         if tiles.send(vec![tile; 256]).await.is_err() {
///             return; // the reader was dropped
///         }
///     }
/// }
/// # }
/// ```
pub struct PipeWriter<T> {
    target: Target<T>,
    /// Whether the writer was sent to another process.
    sent: AtomicBool,
    window: Option<u32>,
}

enum Target<T> {
    Channel(Arc<Channel<T>>),
    Remote(Outgoing<T>),
    Ended,
}

/// The error of [`PipeWriter::try_send`].
#[derive(Clone, PartialEq, Debug)]
pub enum TrySendError<T> {
    /// The reader has no room for the element, which is returned.
    Full(T),
    /// The element was not written, and is dropped.
    Failed(PipeError),
}

impl<T: Send + 'static> PipeWriter<T> {
    /// Sets the flow-control window of the pipe, in bytes, for a writer that is sent.
    ///
    /// Default: [`stream_window`](crate::Settings::stream_window). See
    /// [`Pipe::with_window`](super::Pipe::with_window). The process that sends a pipe or a writer
    /// chooses the window: for a writer, this is the reading process.
    #[must_use]
    pub fn with_window(mut self, bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.window = Some(bytes.clamp(1, crate::wire::LARGEST_WINDOW));
        self
    }

    /// Writes an element as soon as the reader has room for it.
    ///
    /// The result `Ok` means that the element was handed to the connection. It does not mean that
    /// the reader has received it. An element that follows another within 20 µs shares a frame with
    /// later ones, and may wait until the task awaits something that is not ready, or sends again
    /// after these 20 µs. A panic that ends the worker still sends it; an abort does not.
    ///
    /// # Errors
    ///
    /// Returns an error if the [reader was dropped](PipeErrorKind::ReaderGone), or its process or
    /// connection has ended. Returns [`TooLarge`](PipeErrorKind::TooLarge) or
    /// [`Unencodable`](PipeErrorKind::Unencodable) if the element cannot be sent; the pipe
    /// continues without it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it resolves, the element was not written.
    pub async fn send(&self, element: T) -> Result<(), PipeError> {
        let mut element = Some(element);
        let outgoing = match self.check()? {
            Target::Channel(channel) => {
                let sent = poll_fn(|cx| channel.poll_send(&mut element, Some(cx))).await?;
                let Sent::Elsewhere(outgoing) = sent else { return Ok(()) };
                outgoing
            }
            Target::Remote(outgoing) => outgoing.clone(),
            Target::Ended => return Err(gone()),
        };
        let Some(element) = element else { return Ok(()) };
        outgoing.send(outgoing.encode(&element)?).await
    }

    /// Writes elements, as the reader has room for them. Several elements share a frame.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send). All elements before the one that failed are
    /// written, and none after it.
    ///
    /// # Cancel safety
    ///
    /// This method is not cancel safe. If the future is dropped before it resolves, some of the
    /// elements were written, and others that were already taken from the iterator may be lost.
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
                Target::Ended => return Err(gone()),
            };
            let room = poll_fn(|cx| outgoing.end.poll_room(cx)).await;
            // No more than the reader has room for, if only for one element.
            let full = room.clamp(1, BATCH);
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

    /// Writes an element, if the reader has room for it now.
    ///
    /// Any thread may call it, also outside of a tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns [`TrySendError::Full`] with the element if the reader has no room for it, and
    /// [`TrySendError::Failed`] with the errors of [`send`](Self::send).
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
            Target::Ended => return Err(TrySendError::Failed(gone())),
        };
        if !outgoing.end.is_closed() && outgoing.end.room() == 0 {
            return full(element);
        }
        let Some(given) = &element else { return Ok(()) };
        let mut elements = Some(outgoing.encode(given).map_err(TrySendError::Failed)?);
        match outgoing.end.try_send(&mut elements) {
            Ok(true) => Ok(()),
            Ok(false) => full(element),
            Err(error) => Err(TrySendError::Failed(error)),
        }
    }

    /// Waits until the reader has room for an element, or is gone.
    ///
    /// A writer whose pipe was not sent to another process always has room.
    #[cfg(feature = "pool")]
    pub(crate) async fn room(&self) {
        poll_fn(|cx| match &self.target {
            Target::Remote(outgoing) => outgoing.end.poll_room(cx).map(drop),
            Target::Channel(_) | Target::Ended => Poll::Ready(()),
        })
        .await;
    }

    /// Waits until all elements are written to the socket, so that the reader gets them even if this
    /// process dies.
    #[cfg(feature = "pool")]
    pub(crate) async fn flushed(&self) {
        poll_fn(|cx| match &self.target {
            Target::Remote(outgoing) => outgoing.end.poll_flushed(cx),
            Target::Channel(_) | Target::Ended => Poll::Ready(()),
        })
        .await;
    }

    /// Waits until the reader is gone: it was dropped or aborted, or its process or connection has
    /// ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it only waits.
    pub async fn closed(&self) {
        poll_fn(|cx| match &self.target {
            Target::Channel(channel) => channel.poll_closed(Some(cx)),
            Target::Remote(outgoing) => outgoing.end.poll_closed(cx),
            Target::Ended => Poll::Ready(()),
        })
        .await;
    }

    /// Returns whether the reader is gone, see [`closed`](Self::closed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.target {
            Target::Channel(channel) => channel.poll_closed(None).is_ready(),
            Target::Remote(outgoing) => outgoing.end.is_closed(),
            Target::Ended => true,
        }
    }

    /// Ends the pipe with an error.
    ///
    /// After the elements that were written, the reader gets
    /// [`PipeErrorKind::WriterFailed`] with this text.
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
        match std::mem::replace(&mut self.target, Target::Ended) {
            Target::Channel(channel) => channel.end(end),
            Target::Remote(outgoing) => {
                if let Err(kind) = end {
                    outgoing.end.end(Some(&PipeError::new(None, kind)));
                }
                outgoing.leave();
            }
            Target::Ended => {}
        }
    }

    fn check(&self) -> Result<&Target<T>, PipeError> {
        if self.sent.load(Ordering::Acquire) {
            return Err(PipeError::new(None, PipeErrorKind::Sent));
        }
        Ok(&self.target)
    }

    /// Returns the writer that is sent with a message.
    fn travelling(&self) -> Self {
        Self::to(match &self.target {
            Target::Channel(channel) => Target::Channel(channel.clone()),
            Target::Remote(outgoing) => Target::Remote(outgoing.clone()),
            Target::Ended => Target::Ended,
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
    /// Forwards the elements that another process writes to the target of this writer.
    fn send_away(mut self, end: ReadEnd) {
        let incoming = Incoming::new(end, codec::<T>());
        match std::mem::replace(&mut self.target, Target::Ended) {
            Target::Channel(channel) => channel.send_writer(incoming),
            Target::Remote(outgoing) => pump::start(Box::new(incoming), outgoing),
            Target::Ended => {}
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
    /// Registers a stream that the message opens. A writer can be sent once.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.sent.load(Ordering::Acquire) {
            return Err(ser::Error::custom("the pipe writer was already sent"));
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

/// A writer whose message has not been sent. If the message is dropped, the pipe ends with
/// [`PipeErrorKind::Cancelled`].
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
            Self::Full(_) => f.write_str("failed to write to the pipe: its reader has no room"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for TrySendError<T> {}
