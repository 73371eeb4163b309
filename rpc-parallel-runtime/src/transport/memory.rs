//! Two connected transports in memory: for workers in the process of their master, and for the tests
//! and fuzz targets of the layers above.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::halves::{Halves, Reader, Writer};

/// One direction, which buffers up to `capacity` bytes.
#[derive(Clone)]
struct Stream(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

pub(crate) struct MemoryReader(Stream);

pub(crate) struct MemoryWriter {
    outgoing: Stream,
    /// The stream of the reader at this end, which [`close`](Writer::close) ends.
    incoming: Stream,
}

/// One end of a transport in memory.
type End = (MemoryReader, MemoryWriter);

/// Makes two connected transports. Each direction buffers up to `capacity` bytes.
pub(crate) fn memory_pair(capacity: usize) -> (Halves, Halves) {
    let ((first_reader, first_writer), (second_reader, second_writer)) = pair(capacity);
    let boxed = |reader, writer| -> Halves { (Box::new(reader), Box::new(writer)) };
    (boxed(first_reader, first_writer), boxed(second_reader, second_writer))
}

/// Makes two connected ends. Each direction buffers up to `capacity` bytes.
pub(crate) fn pair(capacity: usize) -> (End, End) {
    let (first, second) = (Stream::new(capacity), Stream::new(capacity));
    (end(&first, &second), end(&second, &first))
}

fn end(incoming: &Stream, outgoing: &Stream) -> End {
    let writer = MemoryWriter { outgoing: outgoing.clone(), incoming: incoming.clone() };
    (MemoryReader(incoming.clone()), writer)
}

impl Stream {
    fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(State { capacity, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds this lock")
    }

    /// Ends the stream. Bytes that were written before can still be read.
    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Reader for MemoryReader {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state();
        if state.bytes.is_empty() && !state.ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(take(state, buffers))
    }

    fn try_read(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let state = self.0.state();
        if state.bytes.is_empty() && !state.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        take(state, buffers)
    }
}

/// Takes bytes out of a stream, and wakes its writer.
fn take(mut state: MutexGuard<'_, State>, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let mut len = 0;
    for buffer in buffers {
        let mut filled = 0;
        while filled < buffer.len() && !state.bytes.is_empty() {
            filled += state.bytes.read(&mut buffer[filled..])?;
        }
        len += filled;
    }
    let writer = state.writer.take();
    drop(state);
    writer.into_iter().for_each(Waker::wake);
    Ok(len)
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer for MemoryWriter {
    fn try_write(&self, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.outgoing.state();
        if state.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.bytes.len() == state.capacity {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut len = 0;
        for segment in segments {
            let taken = segment.len().min(state.capacity - state.bytes.len());
            state.bytes.extend(&segment[..taken]);
            len += taken;
        }
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(len)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.outgoing.state();
        if state.bytes.len() == state.capacity && !state.ended {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn prefer_latency(&self, _: bool) {}

    fn is_inherited(&self) -> bool {
        false
    }

    fn close(&self) {
        self.outgoing.end();
        self.incoming.end();
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.outgoing.end();
    }
}
