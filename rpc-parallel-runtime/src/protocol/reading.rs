//! A stream that this end reads, with its flow control.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::waiter::Waiter;
use crate::wire::{Body, Frame};

/// A received piece of a stream.
pub(crate) enum Chunk {
    /// The number of elements, and their encoded bytes.
    Elements { count: u32, bytes: Bytes },
    /// The encoded error of an element that the peer failed to send.
    Skipped(Bytes),
}

impl Chunk {
    /// Returns how many bytes of the window a chunk of `len` bytes takes.
    pub(crate) fn cost_of(len: usize) -> usize {
        /// The approximate memory of a chunk beside its bytes.
        const OVERHEAD: usize = 64;
        len + OVERHEAD
    }

    /// Returns the cost of the chunk that a frame contains: 0 for a frame without one.
    pub(crate) fn cost_in(frame: &Frame<'_>) -> usize {
        match frame {
            Frame::Items { elements, .. } => Self::cost_of(elements.bytes().len()),
            Frame::Skipped { error, .. } => Self::cost_of(error.len()),
            _ => 0,
        }
    }

    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Elements { bytes, .. } | Self::Skipped(bytes) => Self::cost_of(bytes.len()),
        }
    }
}

/// How a stream has ended for its reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ReadEnded {
    /// The writer has ended it. The bytes are its encoded error, or none.
    ByWriter(Bytes),
    /// The message that opens the stream was abandoned.
    Abandoned,
    /// The connection was lost.
    Lost,
}

/// The next step of a callback that reads a stream.
pub(crate) enum DirectStep {
    Chunk(Chunk),
    Ended(ReadEnded),
    /// Nothing is buffered. The callback gets what is received next.
    Idle,
}

/// The reading end of a stream. It buffers chunks that are not read yet.
pub(super) struct Reading<W> {
    window: usize,
    chunks: VecDeque<Chunk>,
    /// The number of received bytes for which no credit was returned to the writer.
    outstanding: usize,
    /// How many of them have been read.
    read: usize,
    /// The cost of the chunks that the reader has got, and that are not noted as read.
    taken: usize,
    reader: Reader<W>,
    /// In a box, because most streams of a table have not ended.
    ended: Option<Box<ReadEnded>>,
}

enum Reader<W> {
    /// The reader exists and does not wait.
    Idle,
    Waiting(W),
    /// A callback, which gets everything that is received.
    Callback,
    /// The callback is running.
    Busy,
    /// The reader was dropped.
    Gone,
}

/// Whether a received piece was buffered.
#[derive(PartialEq, Eq)]
pub(super) enum Put {
    Buffered,
    /// A callback must be called with it.
    Deliver,
    /// The reader is gone. The piece costs this number of bytes.
    Dropped(usize),
}

impl<W: Waiter> Reading<W> {
    pub(super) fn new(window: u32) -> Self {
        Self {
            window: window as usize,
            chunks: VecDeque::new(),
            outstanding: 0,
            read: 0,
            taken: 0,
            reader: Reader::Idle,
            ended: None,
        }
    }

    /// Handles elements that the peer has written.
    pub(super) fn receive(
        &mut self,
        count: u32,
        elements: Body<'_>,
        woken: &mut Vec<W>,
    ) -> Result<Put, &'static str> {
        let len = elements.bytes().len();
        if count == 0 || count as usize > len {
            return Err("items frame without elements or with fewer bytes than elements");
        }
        self.put(Chunk::cost_of(len), || Chunk::Elements { count, bytes: elements.keep() }, woken)
    }

    /// Handles the error of an element that the peer failed to send.
    pub(super) fn skip(&mut self, error: &[u8], woken: &mut Vec<W>) -> Result<Put, &'static str> {
        if error.is_empty() {
            return Err("skipped element without an error");
        }
        self.put(
            Chunk::cost_of(error.len()),
            || Chunk::Skipped(Bytes::copy_from_slice(error)),
            woken,
        )
    }

    fn put(
        &mut self,
        cost: usize,
        chunk: impl FnOnce() -> Chunk,
        woken: &mut Vec<W>,
    ) -> Result<Put, &'static str> {
        if self.outstanding >= self.window {
            return Err("elements exceed the credit");
        }
        self.outstanding += cost;
        match mem::replace(&mut self.reader, Reader::Idle) {
            Reader::Gone => {
                self.reader = Reader::Gone;
                return Ok(Put::Dropped(cost));
            }
            Reader::Callback => {
                self.reader = Reader::Busy;
                self.taken += cost;
                return Ok(Put::Deliver);
            }
            Reader::Waiting(waiter) => woken.push(waiter),
            reader => self.reader = reader,
        }
        self.chunks.push_back(chunk());
        Ok(Put::Buffered)
    }

    /// Ends the stream, unless it has ended. Returns whether a callback must be called.
    pub(super) fn end(&mut self, ended: ReadEnded, woken: &mut Vec<W>) -> Put {
        self.ended.get_or_insert_with(|| Box::new(ended));
        match mem::replace(&mut self.reader, Reader::Idle) {
            Reader::Callback => {
                self.reader = Reader::Busy;
                return Put::Deliver;
            }
            Reader::Waiting(waiter) => woken.push(waiter),
            reader => self.reader = reader,
        }
        Put::Buffered
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns whether nothing reads the stream any more.
    pub(super) fn is_abandoned_by_reader(&self) -> bool {
        matches!(self.reader, Reader::Gone)
    }

    /// Returns whether a callback reads the stream.
    pub(super) fn has_callback(&self) -> bool {
        matches!(self.reader, Reader::Callback | Reader::Busy)
    }

    /// Returns the next chunk, or the end. Registers the waiter if there is neither, and adds the one
    /// before it to `dropped`.
    pub(super) fn poll_chunk(
        &mut self,
        waiter: &W,
        dropped: &mut Vec<W>,
    ) -> Option<Result<Chunk, ReadEnded>> {
        if let Some(chunk) = self.chunks.pop_front() {
            self.taken += chunk.cost();
            return Some(Ok(chunk));
        }
        if let Some(ended) = &self.ended {
            return Some(Err((**ended).clone()));
        }
        match &mut self.reader {
            Reader::Waiting(known) if known.is_same(waiter) => {}
            _ => self.set_reader(Reader::Waiting(waiter.clone()), dropped),
        }
        None
    }

    /// Returns the next step of a callback. Until it is [`DirectStep::Idle`], the callback is
    /// running, and what is received is buffered.
    pub(super) fn next_step(&mut self, dropped: &mut Vec<W>) -> DirectStep {
        if let Some(chunk) = self.chunks.pop_front() {
            self.set_reader(Reader::Busy, dropped);
            self.taken += chunk.cost();
            return DirectStep::Chunk(chunk);
        }
        match &self.ended {
            Some(ended) => DirectStep::Ended((**ended).clone()),
            None => {
                self.set_reader(Reader::Callback, dropped);
                DirectStep::Idle
            }
        }
    }

    /// Records that a chunk was read. Returns the credit for the writer when half of the window was
    /// read.
    pub(super) fn note_read(&mut self, cost: usize) -> usize {
        self.taken = self.taken.saturating_sub(cost);
        self.read += cost;
        if self.ended.is_some() || self.read < self.window.div_ceil(2) {
            return 0;
        }
        let bytes = mem::take(&mut self.read);
        self.outstanding -= bytes;
        bytes
    }

    /// Drops the reader. Returns the buffered chunks, and the cost of all chunks that were not noted
    /// as read.
    pub(super) fn drop_reader(&mut self, dropped: &mut Vec<W>) -> (VecDeque<Chunk>, usize) {
        self.set_reader(Reader::Gone, dropped);
        let chunks = mem::take(&mut self.chunks);
        let cost = mem::take(&mut self.taken) + chunks.iter().map(Chunk::cost).sum::<usize>();
        (chunks, cost)
    }

    fn set_reader(&mut self, reader: Reader<W>, dropped: &mut Vec<W>) {
        if let Reader::Waiting(waiter) = mem::replace(&mut self.reader, reader) {
            dropped.push(waiter);
        }
    }

    /// Records bytes as received, without a chunk.
    #[cfg(test)]
    pub(super) fn note_received(&mut self, cost: usize) {
        self.outstanding += cost;
    }

    /// Returns the number of buffered bytes, and the size of the window.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.chunks.iter().map(Chunk::cost).sum(), self.window)
    }
}
