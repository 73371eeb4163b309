//! Feeds a stream of a connection from a pipe of this process.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::error::{PipeError, PipeErrorKind};
use super::reader::{Pipe, Source};
use super::remote::{BATCH, Incoming, Outgoing};
use crate::connection::outflow::Elements;
use crate::connection::panics::catch;

/// How many frames are sent before other tasks have their turn.
const TURNS: usize = 8;

/// Has what comes over one connection go out over another.
pub(super) fn forward<T: Send + 'static>(incoming: Incoming<T>, outgoing: Outgoing<T>) {
    start(Pipe::new(Source::Remote(Box::new(incoming))), outgoing);
}

/// Starts to feed a stream. The task ends with the pipe, the reader or the connection.
pub(super) fn start<T: Send + 'static>(pipe: Pipe<T>, outgoing: Outgoing<T>) {
    let runtime = outgoing.end.0.connection().runtime.clone();
    let (elements, left, skipped, end) = (None, None, None, None);
    runtime.spawn(Pump { pipe, outgoing, elements, left, skipped, end });
}

/// A pipe, and the stream that it feeds.
struct Pump<T> {
    pipe: Pipe<T>,
    outgoing: Outgoing<T>,
    /// What is ready to be sent.
    elements: Option<Elements>,
    /// An element for which there was no more room in them.
    left: Option<T>,
    /// An element after those that cannot be sent.
    skipped: Option<PipeError>,
    /// How the pipe ended, after that.
    end: Option<Result<(), PipeError>>,
}

impl<T: Send + 'static> Pump<T> {
    /// Takes from the pipe what is ready; `false` if that is nothing.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { pipe, outgoing, elements, left, skipped, end } = self;
        // No more than the reader has room for.
        let full = outgoing.end.0.room().min(BATCH);
        let mut fail = |error: PipeError| match error.is_of_an_element() {
            true => *skipped = Some(error),
            false => *end = Some(Err(error)),
        };
        let mut ended = false;
        let (gathered, failed) = outgoing.encode_all(full, left, || {
            match catch(|| Pin::new(&mut *pipe).poll_next(cx)) {
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
        for _ in 0..TURNS {
            let outflow = &pump.outgoing.end.0;
            // The pipe is dropped with this task: so its writer learns that nobody reads.
            if outflow.poll_closed(cx).is_ready() {
                return Poll::Ready(());
            }
            if pump.elements.is_some() {
                match outflow.poll_send(&mut pump.elements, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Some(error) = pump.skipped.take() {
                pump.elements = Some(outflow.skip(&error));
                continue;
            }
            if let Some(end) = pump.end.take() {
                outflow.end(end.err().as_ref());
                return Poll::Ready(());
            }
            // Nothing is taken out of the pipe that the reader has no room for.
            if outflow.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            if !pump.gather(cx) {
                if !pump.pipe.send_idle(&pump.outgoing) {
                    return Poll::Pending;
                }
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T> Unpin for Pump<T> {}
