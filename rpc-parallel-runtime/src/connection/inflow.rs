//! The end of a stream that is read.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::client::Hold;
use super::failure::Loss;
use super::pipe::PipeError;
use super::sending::Lane;
use super::shared::{Chunk, Connection};
use crate::wire::{Body, FrameWriter, StreamId};

/// What the peer has written to one stream and nobody has read yet.
pub(super) struct Inflow {
    id: StreamId,
    window: u32,
    connection: Arc<Connection>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    /// How much has come that the writer was not told to have been read.
    outstanding: usize,
    /// How much of that has been read.
    read: usize,
    reader: Reader,
    end: Option<Result<(), PipeError>>,
    keep: Option<Arc<Hold>>,
}

#[derive(Default)]
enum Reader {
    #[default]
    Away,
    Waiting(Waker),
    /// Is told of everything at once, in the driver's own turn.
    Callback(Deliver),
    /// Is being told.
    Busy,
    Gone,
}

/// Takes what comes. It is called with the end exactly once, last.
pub(super) type Deliver = Box<dyn FnMut(Delivery<'_>) -> Flow + Send>;

/// What comes over a stream.
pub(super) enum Delivery<'a> {
    Elements {
        count: u32,
        elements: Body<'a>,
    },
    /// An element that could not be sent.
    Skipped(PipeError),
    End(Result<(), PipeError>),
}

/// Whether more is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    Continue,
    Stop,
}

impl Inflow {
    pub(super) fn new(id: StreamId, window: u32, connection: Arc<Connection>) -> Self {
        Self { id, window, connection, state: Mutex::default() }
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(super) fn keep(&self, keep: Option<Arc<Hold>>) {
        let mut state = self.state();
        if state.end.is_none() {
            state.keep = keep;
        }
    }

    /// Lets the connection end, and returns what has kept it open.
    #[cfg(feature = "tracing")]
    pub(super) fn let_go(&self) -> Option<Arc<Hold>> {
        self.state().keep.take()
    }

    /// Takes what the peer has written.
    pub(super) fn receive(
        &self,
        count: u32,
        elements: Body<'_>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), &'static str> {
        let len = elements.bytes().len();
        if count == 0 || count as usize > len {
            return Err("elements that are none");
        }
        let mut state = self.state();
        if state.outstanding >= self.window as usize {
            return Err("elements beyond its credit");
        }
        state.outstanding += Chunk::cost_of(len);
        match mem::replace(&mut state.reader, Reader::Busy) {
            Reader::Callback(deliver) => {
                drop(state);
                let delivery = Delivery::Elements { count, elements };
                self.deliver(deliver, delivery, Chunk::cost_of(len));
            }
            reader => {
                state.reader = reader;
                state.put(|| Chunk::Elements { count, bytes: elements.keep() }, wakers);
            }
        }
        Ok(())
    }

    /// Takes word of an element that the peer could not send.
    pub(super) fn skip(
        &self,
        error: PipeError,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), &'static str> {
        let mut state = self.state();
        if state.outstanding >= self.window as usize {
            return Err("elements beyond its credit");
        }
        state.outstanding += Chunk::cost_of(0);
        match mem::replace(&mut state.reader, Reader::Busy) {
            Reader::Callback(deliver) => {
                drop(state);
                self.deliver(deliver, Delivery::Skipped(error), Chunk::cost_of(0));
            }
            reader => {
                state.reader = reader;
                state.put(|| Chunk::Skipped(error), wakers);
            }
        }
        Ok(())
    }

    /// Gives something to a reader that takes everything at once.
    fn deliver(&self, mut deliver: Deliver, delivery: Delivery<'_>, cost: usize) {
        let last = matches!(delivery, Delivery::End(_));
        let flow = deliver(delivery);
        if last {
            return;
        }
        let mut state = self.state();
        if let Reader::Busy = state.reader {
            state.reader = Reader::Callback(deliver);
        }
        drop(state);
        if flow == Flow::Stop {
            self.send_stop();
        }
        self.note_read(cost);
    }

    /// Has everything delivered at once from now on, what has come already first.
    pub(super) fn read_direct(&self, mut deliver: Deliver) {
        loop {
            let mut state = self.state();
            let Some(chunk) = state.chunks.pop_front() else {
                let Some(end) = &mut state.end else {
                    state.reader = Reader::Callback(deliver);
                    return;
                };
                let end = mem::replace(end, Ok(()));
                drop(state);
                deliver(Delivery::End(end));
                return;
            };
            // Meanwhile the driver puts what comes behind the other chunks.
            state.reader = Reader::Busy;
            drop(state);
            let cost = chunk.cost();
            let flow = match chunk {
                Chunk::Elements { count, bytes } => {
                    deliver(Delivery::Elements { count, elements: Body::shared(&bytes) })
                }
                Chunk::Skipped(error) => deliver(Delivery::Skipped(error)),
            };
            if flow == Flow::Stop {
                self.send_stop();
            }
            self.note_read(cost);
        }
    }

    /// Returns the next elements; none at the end.
    pub(super) fn poll_chunk(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Chunk, PipeError>>> {
        let mut state = self.state();
        if let Some(chunk) = state.chunks.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &mut state.end {
            Some(end) => Poll::Ready(mem::replace(end, Ok(())).err().map(Err)),
            None => {
                state.reader = Reader::Waiting(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Notes that so much has been read, and tells the writer now and then.
    pub(super) fn note_read(&self, cost: usize) {
        let mut state = self.state();
        state.read += cost;
        if state.end.is_some() || state.read < (self.window as usize).div_ceil(2) {
            return;
        }
        let bytes = mem::take(&mut state.read);
        state.outstanding -= bytes;
        drop(state);
        let mut frame = Vec::new();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        FrameWriter::credit(&mut frame, self.id, bytes).finish();
        self.connection.outbox.add(&frame, Lane::Stream(self.id));
    }

    /// Takes the end of the stream, which comes once.
    pub(super) fn finish(&self, end: Result<(), PipeError>, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        let keep = state.keep.take();
        match mem::replace(&mut state.reader, Reader::Away) {
            Reader::Callback(deliver) => {
                drop(state);
                self.deliver(deliver, Delivery::End(end), 0);
            }
            Reader::Waiting(waker) => {
                state.end = Some(end);
                wakers.push(waker);
                drop(state);
            }
            reader => {
                state.reader = reader;
                state.end = Some(end);
                drop(state);
            }
        }
        // It may end the connection: here, without the lock.
        drop(keep);
    }

    pub(super) fn lose(&self, loss: &Arc<Loss>, wakers: &mut Vec<Waker>) {
        self.finish(Err(PipeError::lost(loss, self.connection.worker())), wakers);
    }

    /// Tells the writer that nobody reads any more, but goes on to take its end.
    pub(super) fn send_stop(&self) {
        let mut frame = Vec::new();
        FrameWriter::stop(&mut frame, self.id).finish();
        self.connection.outbox.add(&frame, Lane::Stream(self.id));
    }

    /// Returns how many bytes are kept that nobody has read, and how large the window is.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> (usize, usize) {
        let kept = self.state().chunks.iter().map(Chunk::cost).sum();
        (kept, self.window as usize)
    }

    fn leave(&self) {
        let mut state = self.state();
        if let Reader::Callback(_) | Reader::Busy = state.reader {
            return;
        }
        state.reader = Reader::Gone;
        let ended = state.end.is_some();
        let (chunks, keep) = (mem::take(&mut state.chunks), state.keep.take());
        drop(state);
        drop(chunks);
        if !ended {
            self.send_stop();
        }
        drop(keep);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

impl State {
    /// Puts a chunk where the reader finds it, unless there is none any more.
    fn put(&mut self, chunk: impl FnOnce() -> Chunk, wakers: &mut Vec<Waker>) {
        match mem::take(&mut self.reader) {
            Reader::Gone => {
                self.reader = Reader::Gone;
                return;
            }
            Reader::Waiting(waker) => wakers.push(waker),
            reader => self.reader = reader,
        }
        self.chunks.push_back(chunk());
    }
}

impl fmt::Debug for Inflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflow").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The reading end, owned. Dropped, it tells the writer, unless a callback reads on.
#[derive(Debug)]
pub(super) struct ReadEnd(pub(super) Arc<Inflow>);

impl Drop for ReadEnd {
    fn drop(&mut self) {
        self.0.leave();
    }
}
