//! The end of a pipe that is read.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::callback::{AbortHandle, Callback, PipeEvent};
use super::channel::{Channel, Next, end_outgoing};
use super::error::{PipeError, PipeErrorKind};
use super::pump;
use super::remote::{Incoming, Outgoing};
use super::travel::{self, Opening, PipeNumber, Start, claim_reading};
use super::writer::PipeWriter;
#[cfg(feature = "tracing")]
use crate::connection::client::{Client, Link};
use crate::wire::{LARGEST_WINDOW, Message, codec};

/// A stream between two processes.
///
/// It is an ordinary argument or result of a worker's function, or a part of one, and a
/// [`Stream`] of `Result<T, PipeError>`: an end is never confused with a death. A pipe whose writer
/// has finished ends; one whose worker died, whose connection broke or whose writer panicked gives
/// one `Err` that says so, and then ends. An element of a stream that is too large, or cannot be
/// encoded, is an `Err` in its place, after which the pipe goes on.
///
/// It is made from [any stream](Self::from_stream), or together with a
/// [writer](Self::pair). Elements are sent as far as the reader has room for them: a reader that
/// stops reading bounds the memory of both ends at the pipe's [window](Self::with_window), beside
/// one element, and delays nothing else.
///
/// Dropping it tells the writer, which stops: the stream that feeds the pipe is dropped, and
/// [`PipeWriter::closed`] resolves. Until its end has come a pipe keeps the connection open that it
/// came over, and so a worker that lives as long as that.
///
/// A pipe can be sent once, and sent on by whoever receives it: the process that sends it on
/// forwards its elements for as long as it lives. It travels in an argument or a result of a
/// function, and not in an element of another pipe, nor in the argument of an `init`.
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
    // Only `serialize` needs the lock: it takes the pipe out from behind a reference.
    source: Mutex<Source<T>>,
    window: Option<u32>,
}

/// Where the elements of a pipe come from.
pub(super) enum Source<T> {
    Stream(Pin<Box<dyn Stream<Item = T> + Send>>),
    Channel(Reading<T>),
    Remote(Box<Incoming<T>>),
    /// It has ended.
    Ended,
    /// It is in another process.
    Sent,
}

/// The reading end of a [`Channel`], owned.
pub(super) struct Reading<T>(Option<Arc<Channel<T>>>);

impl<T> Reading<T> {
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next<T>> {
        self.0.as_ref().map_or(Poll::Ready(Next::Item(None)), |it| it.poll_next(cx))
    }

    /// Returns the channel for somebody else to read.
    fn release(mut self) -> Option<Arc<Channel<T>>> {
        self.0.take()
    }
}

impl<T> Drop for Reading<T> {
    fn drop(&mut self) {
        if let Some(channel) = &self.0 {
            channel.leave();
        }
    }
}

impl<T> Pipe<T> {
    pub(super) fn new(source: Source<T>) -> Self {
        Self { source: Mutex::new(source), window: None }
    }

    /// Makes the pipe that reads a channel.
    pub(super) fn of(channel: Arc<Channel<T>>) -> Self {
        Self::new(Source::Channel(Reading(Some(channel))))
    }

    fn into_source(self) -> Source<T> {
        self.source.into_inner().expect("nobody panics while holding this lock")
    }
}

impl<T: Send + 'static> Pipe<T> {
    /// Makes a pipe of a stream.
    ///
    /// It is polled where the pipe is read. Once the pipe has been sent, a task of this process
    /// polls it as far as the reader has room; if it panics then, the reader gets the panic as an
    /// error. Errors of the stream itself are elements like others: of `Result<T, E>` it makes a
    /// `Pipe<Result<T, E>>`.
    pub fn from_stream(stream: impl Stream<Item = T> + Send + 'static) -> Self {
        Self::new(Source::Stream(Box::pin(stream)))
    }

    /// Makes a pipe of what an iterator gives, which is asked as fast as the pipe is read.
    ///
    /// It may be endless. An iterator that takes long for an item keeps its thread busy meanwhile:
    /// use a [channel](Self::pair) then.
    pub fn from_items(items: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self {
        struct Items<I>(I);

        // The iterator is never pinned: it is only asked.
        impl<I> Unpin for Items<I> {}

        impl<I: Iterator> Stream for Items<I> {
            type Item = I::Item;

            fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
                Poll::Ready(self.0.next())
            }
        }

        Self::from_stream(Items(items.into_iter()))
    }

    /// Makes a pipe and its writer. Either may be sent to another process, or both.
    ///
    /// While both are in this process, up to 64 elements wait for the reader, whatever their size;
    /// once one of them has been sent, the pipe's [window](Self::with_window) is the limit.
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

    /// Sets how much may be on its way before it has been read, in bytes, when this pipe is sent;
    /// [`stream_window`](crate::Settings::stream_window) if not said.
    ///
    /// What counts are the elements as they travel, and some bytes for each frame of them. An
    /// element larger than the window still passes, alone. A window is at least one byte and at
    /// most 1 GiB; values beyond are taken for these.
    ///
    /// It changes nothing for a pipe that is read here: its window was chosen when it was sent.
    #[must_use]
    pub fn with_window(self, bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, LARGEST_WINDOW);
        Self { window: Some(bytes), ..self }
    }

    /// Returns the next element, or `None` at the end of the pipe.
    ///
    /// A loop over elements is shorter with it than with [`next`](Self::next):
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
    /// As for [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no element.
    pub async fn try_next(&mut self) -> Result<Option<T>, PipeError> {
        self.next().await.transpose()
    }

    /// Returns the next element, or an error; `None` at the end of the pipe.
    ///
    /// An error is the last item, unless it concerns a single element that could not be sent
    /// ([`TooLarge`](PipeErrorKind::TooLarge), [`Unencodable`](PipeErrorKind::Unencodable)).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no element.
    pub async fn next(&mut self) -> Option<Result<T, PipeError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Reads the pipe by a callback, which runs where elements arrive: for those from another
    /// process, in the task that reads the connection, before anything else is read from it; for
    /// those of a [writer](Self::pair) in this process, where they are written; for those of a
    /// stream of this process, in a task of its own.
    ///
    /// It is called with [`PipeEvent::Closed`] exactly once, last. A callback that panics is called no
    /// more, not even for that, and its pipe is dropped. It must not block: everything on the
    /// connection waits for it.
    ///
    /// This is the original's direct pipe. Unlike there, dropping the handle changes nothing, and
    /// the handle of one pipe cannot end another one.
    ///
    /// # Panics
    ///
    /// For a pipe that is made of a stream or of items, and was not sent: outside of a tokio
    /// runtime.
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
    /// writer.send(1).await?; // or give it to a function, and that writes
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
            Source::Channel(reading) => {
                if let Some(channel) = reading.release() {
                    handle.aborts_channel(&channel);
                    channel.read_direct(callback);
                }
            }
            Source::Remote(incoming) => callback.read(*incoming),
            source => callback.read_stream(Self::new(source)),
        }
        handle
    }

    /// Lets the connection end although the pipe comes over it; returns the client that the pipe
    /// has held.
    #[cfg(feature = "tracing")]
    pub(crate) fn let_go(&mut self) -> Option<Client> {
        let source = self.source.get_mut().expect("nobody panics while holding this lock");
        let Source::Remote(incoming) = source else { return None };
        incoming.let_go().map(|it| Client(Link::Fixed(it)))
    }

    /// Has what is still to come out of a channel go straight to another process, if nothing waits
    /// here any more.
    pub(super) fn send_idle(&mut self, outgoing: &Outgoing<T>) -> bool {
        let source = self.source.get_mut().expect("nobody panics while holding this lock");
        let Source::Channel(Reading(channel)) = source else { return false };
        if !channel.as_ref().is_some_and(|it| it.send_idle_reader(outgoing)) {
            return false;
        }
        // The other process is the reader now.
        *channel = None;
        true
    }

    /// Has all that comes out of the pipe go to another process.
    fn send(self, outgoing: Outgoing<T>) {
        match self.into_source() {
            Source::Channel(reading) => {
                if let Some(channel) = reading.release() {
                    channel.send_reader(outgoing);
                }
            }
            Source::Ended => end_outgoing(&outgoing, Ok(())),
            Source::Sent => end_outgoing(&outgoing, Err(PipeErrorKind::Sent)),
            source @ Source::Stream(_) => pump::start(Self::new(source), outgoing),
            Source::Remote(incoming) => pump::forward(*incoming, outgoing),
        }
    }
}

impl<T> Stream for Pipe<T> {
    type Item = Result<T, PipeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let source = self.source.get_mut().expect("nobody panics while holding this lock");
        let polled = loop {
            break match source {
                Source::Stream(stream) => stream.as_mut().poll_next(cx).map(|it| it.map(Ok)),
                Source::Remote(incoming) => incoming.poll_next(cx),
                Source::Channel(reading) => match reading.poll_next(cx) {
                    Poll::Ready(Next::Item(item)) => Poll::Ready(item),
                    Poll::Ready(Next::Elsewhere(incoming)) => {
                        *source = Source::Remote(Box::new(incoming));
                        continue;
                    }
                    Poll::Pending => Poll::Pending,
                },
                Source::Ended => Poll::Ready(None),
                Source::Sent => {
                    *source = Source::Ended;
                    Poll::Ready(Some(Err(PipeError::new(None, PipeErrorKind::Sent))))
                }
            };
        };
        match &polled {
            Poll::Ready(Some(Err(error))) if error.is_of_an_element() => {}
            Poll::Ready(None | Some(Err(_))) => *source = Source::Ended,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }
}

// Streams in it are boxed, and elements are only moved.
impl<T> Unpin for Pipe<T> {}

impl<T: Message> Serialize for Pipe<T> {
    /// Notes that the message it is part of opens a stream, and takes the pipe: it can be sent
    /// once.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut source = self.source.lock().expect("nobody panics while holding this lock");
        if let Source::Sent = *source {
            return Err(ser::Error::custom("this pipe has been sent already"));
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
