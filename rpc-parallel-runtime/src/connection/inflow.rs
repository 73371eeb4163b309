//! The reading end of a stream, with its flow control.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::client::Hold;
use super::failure::Loss;
use super::pipe::PipeError;
use super::sending::SendOrder;
use super::shared::{Chunk, Connection};
use crate::wire::{Body, FrameWriter, StreamId};

/// The reading end of one stream. It buffers chunks that are not read yet.
pub(super) struct Inflow {
    id: StreamId,
    window: u32,
    connection: Arc<Connection>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    /// The number of received bytes for which no credit was returned to the writer.
    outstanding: usize,
    /// How many of them have been read.
    read: usize,
    reader: Reader,
    end: Option<Result<(), PipeError>>,
    /// Keeps the connection open while the stream is open.
    keep: Option<Arc<Hold>>,
}

#[derive(Default)]
enum Reader {
    /// The reader exists and does not wait.
    #[default]
    Idle,
    Waiting(Waker),
    /// A callback, which the driver calls with everything that it receives.
    Callback(Deliver),
    /// The callback is running.
    Busy,
    /// The reader was dropped.
    Gone,
}

/// A callback for received pieces of a stream. The last call has the end, exactly once.
pub(super) type Deliver = Box<dyn FnMut(Delivery<'_>) -> Flow + Send>;

/// A received piece of a stream.
pub(super) enum Delivery<'a> {
    Elements {
        count: u32,
        elements: Body<'a>,
    },
    /// The error of an element that the peer failed to send.
    Skipped(PipeError),
    End(Result<(), PipeError>),
}

/// Whether a callback wants more elements.
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

    /// Stops keeping the connection open, and returns the hold on it.
    #[cfg(feature = "tracing")]
    pub(super) fn release_hold(&self) -> Option<Arc<Hold>> {
        self.state().keep.take()
    }

    /// Handles elements that the peer has written.
    pub(super) fn receive(
        &self,
        count: u32,
        elements: Body<'_>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), &'static str> {
        let len = elements.bytes().len();
        if count == 0 || count as usize > len {
            return Err("items frame without elements or with fewer bytes than elements");
        }
        let mut state = self.state();
        if state.outstanding >= self.window as usize {
            return Err("elements exceed the credit");
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

    /// Handles the error of an element that the peer failed to send.
    pub(super) fn skip(
        &self,
        error: PipeError,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), &'static str> {
        let mut state = self.state();
        if state.outstanding >= self.window as usize {
            return Err("elements exceed the credit");
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

    /// Calls the callback with a received piece of the stream.
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

    /// Calls the callback with all buffered chunks, and lets the driver call it from then on.
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
            // While the callback runs, the driver appends received chunks.
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

    /// Returns the next chunk, or `None` at the end.
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

    /// Records that a chunk was read, and returns credit to the writer when half of the window was
    /// read.
    pub(super) fn note_read(&self, cost: usize) {
        let mut state = self.state();
        state.read += cost;
        if state.end.is_some() || state.read < (self.window as usize).div_ceil(2) {
            return;
        }
        let mut bytes = mem::take(&mut state.read);
        state.outstanding -= bytes;
        drop(state);
        let mut frames = Vec::new();
        // An element of 4 GiB that overdraws a large window costs more than one frame can return.
        while bytes > 0 {
            let returned = u32::try_from(bytes).unwrap_or(u32::MAX);
            FrameWriter::credit(&mut frames, self.id, returned).finish();
            bytes -= returned as usize;
        }
        self.connection.outbox.add(&frames, SendOrder::Stream(self.id));
    }

    /// Handles the end of the stream.
    pub(super) fn finish(&self, end: Result<(), PipeError>, wakers: &mut Vec<Waker>) {
        let mut state = self.state();
        let keep = state.keep.take();
        match mem::replace(&mut state.reader, Reader::Idle) {
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
        // Dropped after the lock is released, because it may close the connection.
        drop(keep);
    }

    pub(super) fn lose(&self, loss: &Arc<Loss>, wakers: &mut Vec<Waker>) {
        self.finish(Err(PipeError::lost(loss, self.connection.worker())), wakers);
    }

    /// Sends a `stop` to the writer. The writer answers with the end of the stream.
    pub(super) fn send_stop(&self) {
        let mut frame = Vec::new();
        FrameWriter::stop(&mut frame, self.id).finish();
        self.connection.outbox.add(&frame, SendOrder::Stream(self.id));
    }

    /// Returns the number of buffered bytes, and the size of the window.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> (usize, usize) {
        let kept = self.state().chunks.iter().map(Chunk::cost).sum();
        (kept, self.window as usize)
    }

    /// Drops the buffered chunks and sends a `stop`, because the reader was dropped. Does nothing
    /// if a callback reads the stream.
    fn close(&self) {
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
    /// Buffers a chunk, unless the reader was dropped.
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

/// The owned reading end. Dropping it stops the writer, unless a callback reads the stream.
#[derive(Debug)]
pub(super) struct ReadEnd(pub(super) Arc<Inflow>);

impl Drop for ReadEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::connection::inbox::Inbox;
    use crate::connection::outbox::{Outbox, Writing};
    use crate::connection::shared::Peer;
    use crate::connection::traffic::Traffic;
    use crate::transport::memory::pair;
    use crate::wire::{Frame, LARGEST_WINDOW, Settings};

    #[tokio::test(start_paused = true)]
    async fn credit_beyond_u32_is_returned_completely() {
        let ((_, writer), (mut reader, _)) = pair(1024);
        let outbox = Outbox::new(Box::new(writer), Traffic::here());
        let connection = Arc::new(Connection::new(Peer::Caller, Settings::default(), outbox));
        let inflow = Inflow::new(StreamId(1), LARGEST_WINDOW, connection.clone());
        // The largest number of bytes without credit, and the largest element, which overdraws the
        // window.
        let (before, element) = (LARGEST_WINDOW as usize / 2 - 1, 4095 * 1024 * 1024);
        inflow.state().outstanding = before + element;

        inflow.note_read(before);
        inflow.note_read(element);

        let mut writing = Writing::default();
        let written = poll_fn(|cx| writing.poll_write(&connection.outbox, cx)).await;
        written.expect("a transport in memory does not fail");
        let mut inbox = Inbox::new(1024, Traffic::here());
        let received = poll_fn(|cx| inbox.poll_receive(&mut reader, cx)).await;
        assert!(received.expect("a transport in memory does not fail"));
        let mut credit = 0;
        while let Some(frame) = inbox.next_frame().expect("the frames are valid") {
            let Frame::Credit { bytes, .. } = frame else { panic!("{frame:?}") };
            credit += bytes as usize;
        }
        assert_eq!(credit, before + element);
    }
}
