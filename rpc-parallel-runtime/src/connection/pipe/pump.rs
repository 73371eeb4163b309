//! The task that feeds a stream of a connection from elements of this process.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::error::{PipeError, PipeErrorKind};
use super::remote::{BATCH, Incoming, Outgoing};
use crate::connection::ends::Elements;
use crate::connection::panics::{catch, cut_short};
use crate::connection::task::task;

/// The number of frames that are sent before the task yields.
const TURNS: usize = 8;

/// Where the elements that feed a stream come from.
pub(super) trait Source<T>: Send {
    /// Returns the next element, an error or the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, PipeError>>>;

    /// Lets the writer of the source send its elements to the stream directly, if none is buffered.
    /// Returns whether it does.
    fn bypass(&mut self, _outgoing: &Outgoing<T>) -> bool {
        false
    }
}

impl<T> Source<T> for Pin<Box<dyn Stream<Item = T> + Send>> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, PipeError>>> {
        self.as_mut().poll_next(cx).map(|it| it.map(Ok))
    }
}

impl<T: Send> Source<T> for Incoming<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, PipeError>>> {
        Self::poll_next(self, cx)
    }
}

/// Starts a task that feeds a stream. The task ends with the source, the reader or the connection.
pub(super) fn start<T: Send + 'static>(source: Box<dyn Source<T>>, outgoing: Outgoing<T>) {
    let runtime = outgoing.end.connection().runtime.clone();
    runtime.spawn(task(Pump::new(source, outgoing)));
}

/// Returns the task that feeds a stream, for a test that polls the task in a thread of its own.
#[cfg(all(test, shuttle))]
pub(in crate::connection) fn feed<T: crate::wire::Message>(
    source: impl Stream<Item = T> + Send + 'static,
    end: crate::connection::ends::WriteEnd,
) -> impl Future<Output = ()> {
    let source: Pin<Box<dyn Stream<Item = T> + Send>> = Box::pin(source);
    Pump::new(Box::new(source), Outgoing::new(end, crate::wire::codec()))
}

/// A source, and the stream that it feeds.
struct Pump<T> {
    source: Box<dyn Source<T>>,
    outgoing: Outgoing<T>,
    /// The frame to be sent next.
    elements: Option<Elements>,
    /// An element that did not fit into the frame.
    left: Option<T>,
    /// The error of an element after the frame that cannot be sent.
    skipped: Option<PipeError>,
    /// The end of the source, after the skipped element.
    end: Option<Result<(), PipeError>>,
    /// Whether the stream has ended, or a writer feeds it directly.
    done: bool,
}

impl<T> Drop for Pump<T> {
    fn drop(&mut self) {
        if !self.done {
            let why = "its tokio runtime was shut down".to_owned();
            let kind = cut_short().unwrap_or(PipeErrorKind::WriterFailed { why });
            self.outgoing.end.end(Some(&error(kind)));
        }
    }
}

impl<T: Send + 'static> Pump<T> {
    fn new(source: Box<dyn Source<T>>, outgoing: Outgoing<T>) -> Self {
        let (elements, left, skipped, end, done) = (None, None, None, None, false);
        Self { source, outgoing, elements, left, skipped, end, done }
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let stream = &self.outgoing.end;
            // The source is dropped with this task, which closes it for its writer.
            if stream.poll_closed(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.elements.is_some() {
                match stream.poll_send(&mut self.elements, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Some(error) = self.skipped.take() {
                self.elements = Some(stream.skip(&error));
                continue;
            }
            if let Some(end) = self.end.take() {
                stream.end(end.err().as_ref());
                return Poll::Ready(());
            }
            // No element is taken out of the source before the reader has room for it.
            let room = ready!(stream.poll_room(cx));
            if !self.gather(room, cx) {
                if !self.source.bypass(&self.outgoing) {
                    return Poll::Pending;
                }
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes available elements from the source, for a reader that has `room` bytes of room. Returns
    /// `false` if there is nothing to send.
    fn gather(&mut self, room: usize, cx: &mut Context<'_>) -> bool {
        let Self { source, outgoing, elements, left, skipped, end, .. } = self;
        // At least one element: a task that takes none is not woken by room that returns.
        let full = room.clamp(1, BATCH);
        let mut fail = |error: PipeError| match error.is_of_an_element() {
            true => *skipped = Some(error),
            false => *end = Some(Err(error)),
        };
        let mut ended = false;
        let (gathered, failed) = outgoing.encode_all(full, left, || {
            match catch(|| source.poll_next(cx)) {
                Ok(Poll::Ready(Some(Ok(element)))) => return Some(element),
                Ok(Poll::Ready(Some(Err(error)))) => fail(error),
                Ok(Poll::Ready(None)) => ended = true,
                Err(panic) => fail(error(PipeErrorKind::Panicked(panic))),
                Ok(Poll::Pending) => {}
            }
            None
        });
        if let Some(kind) = failed {
            fail(error(kind));
        }
        if ended {
            *end = Some(Ok(()));
        }
        *elements = gathered;
        elements.is_some() || skipped.is_some() || end.is_some()
    }
}

fn error(kind: PipeErrorKind) -> PipeError {
    PipeError::new(None, kind)
}

impl<T: Send + 'static> Future for Pump<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let pump = self.get_mut();
        let polled = pump.poll_feed(cx);
        pump.done = polled.is_ready();
        polled
    }
}

impl<T> Unpin for Pump<T> {}
