//! The writing end of a stream, with its flow control.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::client::Hold;
use super::failure::Loss;
use super::outbox::Ticket;
use super::panics;
use super::pipe::{PipeError, PipeErrorKind};
use super::sending::SendOrder;
use super::shared::{Chunk, Connection};
use crate::wire::{FrameWriter, MessageWriter, Sink, StreamId, TooLarge};

/// The writing end of one stream.
pub(super) struct Outflow {
    id: StreamId,
    window: u32,
    connection: Arc<Connection>,
    state: Mutex<State>,
}

struct State {
    /// The number of bytes that may be written before the reader has read more. One frame may
    /// overdraw it.
    credit: i64,
    /// The reason why the stream can no longer be written.
    closed: Option<PipeErrorKind>,
    /// Whether the last frame of the stream was sent.
    ended: bool,
    waiting: Vec<Waker>,
    /// The last frame that was sent at once.
    last: Ticket,
    /// Keeps the connection open while the stream is open.
    keep: Option<Arc<Hold>>,
}

/// An encoded frame of elements.
pub(super) struct Elements {
    frame: Vec<u8>,
    large: Option<crate::wire::Large>,
    cost: usize,
}

impl Outflow {
    pub(super) fn new(id: StreamId, window: u32, connection: Arc<Connection>) -> Self {
        let state = State {
            credit: window.into(),
            closed: None,
            ended: false,
            waiting: Vec::new(),
            last: Ticket::Written,
            keep: None,
        };
        Self { id, window, connection, state: Mutex::new(state) }
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(super) fn keep(&self, keep: Option<Arc<Hold>>) {
        let mut state = self.state();
        if state.closed.is_none() && !state.ended {
            state.keep = keep;
        }
    }

    /// Encodes a frame of elements. `write` returns the number of elements that it has written.
    pub(super) fn encode<E: From<TooLarge>>(
        &self,
        max: usize,
        write: impl FnOnce(&mut Sink<'_>) -> Result<u32, E>,
    ) -> Result<Elements, E> {
        let (mut frame, mut count, mut len) = (Vec::new(), 0, 0);
        let writer = MessageWriter::items(&mut frame, self.id, max).message(|sink| {
            count = write(sink)?;
            len = sink.len();
            Ok::<_, E>(())
        })?;
        let large = writer.count(count).finish();
        Ok(Elements { frame, large, cost: Chunk::cost_of(len) })
    }

    /// Encodes a frame that stands for an element which cannot be sent.
    pub(super) fn skip(&self, error: &PipeError) -> Elements {
        let mut frame = Vec::new();
        error.write(|it, id| FrameWriter::skipped(it, id), self.id, &mut frame);
        Elements { frame, large: None, cost: Chunk::cost_of(0) }
    }

    /// Sends elements if the reader has room for them. Otherwise returns `false` and leaves the
    /// elements in place.
    pub(super) fn try_send(&self, elements: &mut Option<Elements>) -> Result<bool, PipeError> {
        let mut state = self.state();
        self.check_open(&state)?;
        if state.credit <= 0 {
            return Ok(false);
        }
        let Some(Elements { frame, large, cost }) = elements.take() else { return Ok(true) };
        state.credit -= i64::try_from(cost).unwrap_or(i64::MAX);
        let (outbox, order) = (&self.connection.outbox, SendOrder::Stream(self.id));
        state.last = match large {
            Some(large) => outbox.add_large(large, order, Vec::new()),
            None => outbox.write_now(&frame, order),
        };
        Ok(true)
    }

    /// Waits until all elements are written to the socket, so that the reader gets them even if this
    /// process dies.
    #[cfg(feature = "pool")]
    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let last = self.state().last;
        self.connection.outbox.poll_written(last, cx)
    }

    /// Sends elements as soon as the reader has room for them.
    pub(super) fn poll_send(
        &self,
        elements: &mut Option<Elements>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        loop {
            if self.try_send(elements)? {
                return Poll::Ready(Ok(()));
            }
            if self.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits until the reader has room, or is gone.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.credit > 0 || state.closed.is_some() || state.ended {
            return Poll::Ready(());
        }
        state.wait(cx);
        Poll::Pending
    }

    /// Waits until the stream is closed or ended.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.closed.is_some() || state.ended {
            return Poll::Ready(());
        }
        state.wait(cx);
        Poll::Pending
    }

    pub(super) fn is_closed(&self) -> bool {
        let state = self.state();
        state.closed.is_some() || state.ended
    }

    /// Returns the number of bytes for which the reader has room.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.state().credit).unwrap_or(0)
    }

    fn check_open(&self, state: &State) -> Result<(), PipeError> {
        match &state.closed {
            Some(kind) => Err(PipeError::new(self.connection.worker(), kind.clone())),
            None => Ok(()),
        }
    }

    /// Sends the end of the stream.
    pub(super) fn end(&self, error: Option<&PipeError>) {
        let mut state = self.state();
        if mem::replace(&mut state.ended, true) || state.closed.is_some() {
            return;
        }
        let (waiting, keep) = (mem::take(&mut state.waiting), state.keep.take());
        drop(state);
        self.send_end(error);
        waiting.into_iter().for_each(Waker::wake);
        drop(keep);
    }

    fn send_end(&self, error: Option<&PipeError>) {
        let mut frame = Vec::new();
        match error {
            None => FrameWriter::end(&mut frame, self.id).finish(),
            Some(error) => error.write(|it, id| FrameWriter::end(it, id), self.id, &mut frame),
        }
        self.connection.remove(self.id);
        self.connection.outbox.write_at_end(&frame, SendOrder::Stream(self.id));
    }

    /// Handles a `stop`: the peer reads no more.
    pub(super) fn stop(&self, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        let ended = state.ended || state.closed.is_some();
        let keep = state.close(PipeErrorKind::ReaderGone, wakers);
        drop(state);
        // If another thread has ended the stream, it has sent the end.
        if !ended {
            self.send_end(None);
        }
        drop(keep);
    }

    pub(super) fn lose(&self, loss: &Arc<Loss>, wakers: &mut Vec<Waker>) {
        drop(self.close((&**loss).into(), wakers));
    }

    pub(super) fn close(&self, why: PipeErrorKind, wakers: &mut Vec<Waker>) -> Option<Arc<Hold>> {
        self.state().close(why, wakers)
    }

    pub(super) fn credit(&self, bytes: u32, wakers: &mut Vec<Waker>) -> Result<(), &'static str> {
        let mut state = self.state();
        state.credit += i64::from(bytes);
        if state.credit > i64::from(self.window) {
            return Err("credit for more than was written");
        }
        wakers.append(&mut state.waiting);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

impl State {
    fn close(&mut self, why: PipeErrorKind, wakers: &mut Vec<Waker>) -> Option<Arc<Hold>> {
        self.closed.get_or_insert(why);
        wakers.append(&mut self.waiting);
        self.keep.take()
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|it| it.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }
}

impl fmt::Debug for Outflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outflow").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The owned writing end. Dropping it ends the stream.
#[derive(Debug)]
pub(super) struct WriteEnd(pub(super) Arc<Outflow>);

impl Drop for WriteEnd {
    fn drop(&mut self) {
        let cut_short = panics::cut_short();
        self.0.end(cut_short.map(|kind| PipeError::new(None, kind)).as_ref());
    }
}
