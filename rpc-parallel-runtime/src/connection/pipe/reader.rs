//! The reading end of a pipe.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::callback::{AbortHandle, Callback, CloseReason, PipeEvent};
use super::channel::{Channel, end_outgoing};
use super::error::{PipeError, PipeErrorKind};
use super::pump;
use super::reading::Reading;
use super::remote::{Incoming, Outgoing};
use super::travel::{self, Opening, PipeNumber, Start, claim_reading};
use super::writer::PipeWriter;
#[cfg(feature = "tracing")]
use crate::connection::shared::Keeper;
use crate::wire::{LARGEST_WINDOW, Message, codec};

/// A stream between two processes, with backpressure.
///
/// A pipe is an ordinary argument or result of a worker's function, or a part of one. It is made
/// from [a stream](Self::from_stream), from [an iterator](Self::from_items), or together with
/// [a writer](Self::pair).
///
/// # Reading
///
/// A pipe is a [`Stream`] of `Result<T, PipeError>`, which distinguishes a regular end from a
/// failure:
///
/// - After the writer has ended the pipe, the stream ends (`None`).
/// - If the worker died, the connection broke or the writer panicked, the stream returns one `Err`
///   with the reason, and then ends.
/// - An element that is too large or cannot be encoded is an `Err` in its place. The stream
///   continues after it.
///
/// # Backpressure
///
/// The writer sends elements only while the reader has room for them. If the reader stops reading,
/// the memory of each end is bounded by the flow-control [window](Self::with_window) of the pipe
/// and one element. Other pipes and calls on the connection are not delayed.
///
/// # Lifetime
///
/// Dropping the pipe stops the writer: the stream that feeds the pipe is dropped, and
/// [`PipeWriter::closed`] resolves. Until it has ended, a received pipe keeps its connection open,
/// and thereby a worker that lives as long as this connection.
///
/// A pipe can be sent once. The receiver may send it on, and then forwards its elements for as long
/// as the receiving process lives. A pipe can be part of an argument or a result of a function. It
/// cannot be part of an element of another pipe, or of the argument of an `init`.
///
/// ```
/// # async fn example() -> Result<(), rpc_parallel::PipeError> {
/// use rpc_parallel::Pipe;
///
/// let mut numbers = Pipe::from_items(0..3);
/// while let Some(number) = numbers.next().await {
///     println!("{}", number?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Pipe<T> {
    // Only `serialize` needs the lock: it takes the source out of a shared reference.
    source: Mutex<Source<T>>,
    window: Option<u32>,
}

/// The source of the elements of a pipe.
pub(super) enum Source<T> {
    Stream(Pin<Box<dyn Stream<Item = T> + Send>>),
    Channel(Reading<T>),
    Remote(Box<Incoming<T>>),
    Ended,
    /// The pipe was sent to another process.
    Sent,
}

impl<T> Pipe<T> {
    pub(super) fn new(source: Source<T>) -> Self {
        Self { source: Mutex::new(source), window: None }
    }

    /// Returns the pipe that reads a channel.
    pub(super) fn of(channel: Arc<Channel<T>>) -> Self {
        Self::new(Source::Channel(Reading::of(channel)))
    }

    fn into_source(self) -> Source<T> {
        self.source.into_inner().expect("no thread panics while it holds this lock")
    }
}

impl<T: Send + 'static> Pipe<T> {
    /// Makes a pipe of a stream.
    ///
    /// While the pipe is in this process, reading the pipe polls the stream. After the pipe was
    /// sent, a task of this process polls the stream while the reader has room for elements. A
    /// panic of the stream is then an error at the reader.
    ///
    /// Errors of the stream are ordinary elements: a stream of `Result<T, E>` becomes a
    /// `Pipe<Result<T, E>>`.
    pub fn from_stream(stream: impl Stream<Item = T> + Send + 'static) -> Self {
        Self::new(Source::Stream(Box::pin(stream)))
    }

    /// Makes a pipe of the items of an iterator.
    ///
    /// The iterator is lazy: it advances as fast as the pipe is read, and may be infinite. An
    /// iterator that blocks or computes long for an item blocks the thread of its task. In that
    /// case use [`pair`](Self::pair), and write from a separate thread.
    pub fn from_items(items: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self {
        struct Items<I>(I);

        // No code pins the iterator: `poll_next` only calls `next`.
        impl<I> Unpin for Items<I> {}

        impl<I: Iterator> Stream for Items<I> {
            type Item = I::Item;

            fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
                Poll::Ready(self.0.next())
            }
        }

        Self::from_stream(Items(items.into_iter()))
    }

    /// Makes a pipe and its writer. Each of them may be sent to another process.
    ///
    /// While both are in this process, the pipe buffers up to 64 elements of any size. After one of
    /// them was sent, the [window](Self::with_window) of the pipe is the limit.
    ///
    /// ```
    /// # async fn example() -> Result<(), rpc_parallel::PipeError> {
    /// use rpc_parallel::Pipe;
    ///
    /// let (writer, mut pipe) = Pipe::pair();
    /// writer.send("one").await?;
    /// drop(writer);
    ///
    /// assert_eq!(pipe.next().await, Some(Ok("one")));
    /// assert_eq!(pipe.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pair() -> (PipeWriter<T>, Self) {
        let channel = Arc::new(Channel::new());
        (PipeWriter::to_channel(channel.clone()), Self::of(channel))
    }

    /// Sets the flow-control window of the pipe, in bytes: the limit of what is sent but not yet
    /// read.
    ///
    /// Default: the [`stream_window`](crate::Settings::stream_window) of the process that reads the
    /// pipe.
    ///
    /// The encoded elements count, and 64 bytes for each frame. An element larger than the window
    /// is sent alone. The value is clamped to the range from 1 byte to 1 GiB.
    ///
    /// The window takes effect when the pipe is sent. For a pipe that this process has received, it
    /// has no effect: its sender has chosen the window. The process that reads the pipe grants at most
    /// its [`connection_window`](crate::Settings::connection_window), and the writer begins with
    /// `stream_window` until it has received the grant.
    #[must_use]
    pub fn with_window(self, bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, LARGEST_WINDOW);
        Self { window: Some(bytes), ..self }
    }

    /// Returns the next element, or `None` at the end of the pipe.
    ///
    /// It makes loops with `?` shorter than [`next`](Self::next):
    ///
    /// ```
    /// # async fn total(mut numbers: rpc_parallel::Pipe<u64>) -> Result<u64, rpc_parallel::PipeError> {
    /// let mut total = 0;
    /// while let Some(number) = numbers.try_next().await? {
    ///     total += number;
    /// }
    /// # Ok(total)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The pipe broke, or the writer failed to send one element. See [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. Dropping the future loses no element.
    pub async fn try_next(&mut self) -> Result<Option<T>, PipeError> {
        self.next().await.transpose()
    }

    /// Returns the next element or an error, or `None` at the end of the pipe.
    ///
    /// # Errors
    ///
    /// An error is the last item of the pipe, with two exceptions: with
    /// [`TooLarge`](PipeErrorKind::TooLarge) and [`Unencodable`](PipeErrorKind::Unencodable) the
    /// writer failed to send one element, and the pipe continues after it.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. Dropping the future loses no element.
    pub async fn next(&mut self) -> Option<Result<T, PipeError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Reads the pipe with a callback, which runs synchronously where an element arrives.
    ///
    /// The callback runs:
    ///
    /// - for elements from another process, before the connection handles the next frame: in its
    ///   driver task, or in a thread that waits in [`Call::wait`](crate::Call::wait);
    /// - for elements of a [writer](Self::pair) in this process, inside of the write call;
    /// - for elements of a stream of this process, in a separate task.
    ///
    /// The callback must not block: all traffic of the connection waits for it. The last event is
    /// [`PipeEvent::Closed`], which it gets exactly once. A callback that panics gets no further
    /// events, not even `Closed`, and its pipe is dropped.
    ///
    /// This is the direct pipe of OCaml's `rpc_parallel`. In contrast to that library, dropping the
    /// handle has no effect, and a handle cannot end another pipe.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, if the pipe was made of a stream or of an iterator in
    /// this process.
    ///
    /// ```
    /// # async fn example() -> Result<(), rpc_parallel::PipeError> {
    /// use rpc_parallel::Pipe;
    /// use rpc_parallel::pipe::{CloseReason, PipeEvent};
    ///
    /// let (writer, pipe) = Pipe::pair();
    /// let abort = pipe.for_each_direct(|next| match next {
    ///     PipeEvent::Element(number) => println!("{number}"),
    ///     PipeEvent::Closed(CloseReason::Error(error)) => println!("broken: {error}"),
    ///     PipeEvent::Closed(why) => println!("the end: {why:?}"),
    /// });
    /// writer.send(1).await?; // or pass the writer to a function of a worker
    ///
    /// abort.abort();
    /// assert!(writer.is_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_each_direct(
        self,
        callback: impl FnMut(PipeEvent<T>) + Send + 'static,
    ) -> AbortHandle {
        let (callback, handle) = Callback::new(callback);
        match self.into_source() {
            Source::Channel(reading) => reading.read_direct(callback, &handle),
            Source::Remote(incoming) => callback.read(*incoming),
            Source::Stream(stream) => callback.read_source(Box::new(stream)),
            Source::Ended => callback.end(CloseReason::ByWriter),
            Source::Sent => {
                callback.end(CloseReason::Error(PipeError::new(None, PipeErrorKind::Sent)));
            }
        }
        handle
    }

    /// Stops keeping the connection open, and returns what has kept it.
    #[cfg(feature = "tracing")]
    pub(in crate::connection) fn release_keeper(&mut self) -> Option<Keeper> {
        let source = self.source.get_mut().expect("no thread panics while it holds this lock");
        match source {
            Source::Remote(incoming) => incoming.release_keeper(),
            Source::Channel(reading) => reading.remote()?.release_keeper(),
            Source::Stream(_) | Source::Ended | Source::Sent => None,
        }
    }

    /// Sends all elements of the pipe to another process.
    fn send(self, outgoing: Outgoing<T>) {
        match self.into_source() {
            Source::Channel(reading) => reading.send(outgoing),
            Source::Ended => end_outgoing(&outgoing, Ok(())),
            Source::Sent => end_outgoing(&outgoing, Err(PipeErrorKind::Sent)),
            Source::Stream(stream) => pump::start(Box::new(stream), outgoing),
            Source::Remote(incoming) => pump::start(incoming, outgoing),
        }
    }
}

impl<T> Stream for Pipe<T> {
    type Item = Result<T, PipeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let source = self.source.get_mut().expect("no thread panics while it holds this lock");
        let polled = match source {
            Source::Stream(stream) => stream.as_mut().poll_next(cx).map(|it| it.map(Ok)),
            Source::Remote(incoming) => incoming.poll_next(cx),
            Source::Channel(reading) => reading.poll_next(cx),
            Source::Ended => Poll::Ready(None),
            Source::Sent => {
                *source = Source::Ended;
                Poll::Ready(Some(Err(PipeError::new(None, PipeErrorKind::Sent))))
            }
        };
        match &polled {
            Poll::Ready(Some(Err(error))) if error.is_of_an_element() => {}
            Poll::Ready(None | Some(Err(_))) => *source = Source::Ended,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}

// Streams are boxed, and elements are never pinned.
impl<T> Unpin for Pipe<T> {}

impl<T: Message> Serialize for Pipe<T> {
    /// Takes the source of the pipe, and registers a stream that the message opens.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut source = self.source.lock().expect("no thread panics while it holds this lock");
        if let Source::Sent = *source {
            return Err(ser::Error::custom("the pipe was already sent"));
        }
        let opening = || {
            let pipe = Self::new(mem::replace(&mut *source, Source::Sent));
            let start = move |end| pipe.send(Outgoing::new(end, codec::<T>()));
            Opening { window: self.window, start: Start::Write(Box::new(start)) }
        };
        travel::serialize(serializer, travel::PIPE, opening)
    }
}

impl<'de, T: Message> Deserialize<'de> for Pipe<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PipeNumber { number } = PipeNumber::deserialize(deserializer)?;
        let end = claim_reading(number).map_err(de::Error::custom)?;
        Ok(Self::new(Source::Remote(Box::new(Incoming::new(end, codec::<T>())))))
    }
}

impl<T> fmt::Debug for Pipe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}
