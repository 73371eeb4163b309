//! A transport over any stream of bytes: the standard input and output of a process, TCP, TLS.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::halves::{Halves, Reader, Writer};
use super::origin::{Origin, Registered};

/// The number of bytes that are kept while the stream has no free space.
const BUFFER: usize = 64 * 1024;

/// The number of bytes that are still read after the transport was closed. It bounds how long a
/// peer that keeps sending delays the end.
const READ_AFTER_CLOSE: usize = 1024 * 1024;

const LOCK: &str = "no thread panics while it holds this lock";

/// Makes a transport of a stream to read from and a stream to write to.
///
/// Closing it shuts down and drops the stream to write to. The stream to read from is dropped with
/// its half.
pub(crate) fn byte_stream(
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> Halves {
    let closing = Arc::new(Mutex::new(Closing::default()));
    let outgoing = Outgoing {
        stream: Some(Registered::new(writer)),
        kept: Vec::new(),
        task: Waker::noop().clone(),
    };
    let reader = ByteReader {
        stream: Registered::new(reader),
        closing: closing.clone(),
        left: READ_AFTER_CLOSE,
    };
    let writer = ByteWriter { outgoing: Mutex::new(outgoing), closing, origin: Origin::here() };
    (Box::new(reader), Box::new(writer))
}

/// How the writing half tells the reading half that the transport is closed.
#[derive(Default)]
struct Closing {
    closed: bool,
    reader: Option<Waker>,
}

struct ByteReader<R> {
    stream: Registered<R>,
    closing: Arc<Mutex<Closing>>,
    /// The number of bytes that may still be read after the transport is closed.
    left: usize,
}

impl<R: AsyncRead + Send + Unpin + 'static> Reader for ByteReader<R> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let closed = {
            let mut closing = self.closing.lock().expect(LOCK);
            if !closing.closed
                && !closing.reader.as_ref().is_some_and(|it| it.will_wake(cx.waker()))
            {
                closing.reader = Some(cx.waker().clone());
            }
            closing.closed
        };
        let Some(buffer) = buffers.iter_mut().find(|it| !it.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        if !closed {
            return poll_read(&mut *self.stream, cx, buffer);
        }
        let room = buffer.len().min(self.left);
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        match poll_read(&mut *self.stream, cx, &mut buffer[..room]) {
            Poll::Ready(Ok(len)) => {
                self.left -= len;
                Poll::Ready(Ok(len))
            }
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(Ok(0)),
        }
    }
}

fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

struct ByteWriter<W> {
    /// The lock is held while the stream is polled, because `AsyncWrite` requires exclusive access.
    outgoing: Mutex<Outgoing<W>>,
    closing: Arc<Mutex<Closing>>,
    origin: Origin,
}

struct Outgoing<W> {
    /// `None` after the transport was closed.
    stream: Option<Registered<W>>,
    /// Written bytes, which the stream has not taken yet.
    kept: Vec<u8>,
    /// The waker of the task that has last polled this half. The stream wakes it when it has free
    /// space for kept bytes.
    task: Waker,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    fn set_task(&mut self, cx: &Context<'_>) {
        if !self.task.will_wake(cx.waker()) {
            self.task = cx.waker().clone();
        }
    }

    /// Writes to the stream without waiting. `None` means that it has no free space.
    fn write(&mut self, segments: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Some(Err(closed())) };
        let stream = Pin::new(&mut **stream);
        let mut cx = Context::from_waker(&self.task);
        let written = if stream.is_write_vectored() {
            stream.poll_write_vectored(&mut cx, segments)
        } else {
            let segment = segments.iter().find(|it| !it.is_empty());
            stream.poll_write(&mut cx, segment.map_or(&[], |it| it))
        };
        match written {
            Poll::Ready(written) => Some(written),
            Poll::Pending => None,
        }
    }

    /// Passes kept bytes to the stream. It is ready when none are left.
    fn poll_pass(&mut self) -> Poll<io::Result<()>> {
        let kept = mem::take(&mut self.kept);
        let mut passed = 0;
        let result = loop {
            if passed == kept.len() {
                break Poll::Ready(Ok(()));
            }
            match self.write(&[IoSlice::new(&kept[passed..])]) {
                None => break Poll::Pending,
                Some(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Some(Ok(written)) => passed += written,
                Some(Err(error)) => break Poll::Ready(Err(error)),
            }
        };
        self.kept = kept;
        self.kept.drain(..passed);
        result
    }

    fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        ready!(self.poll_pass())?;
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(closed())) };
        Pin::new(&mut **stream).poll_flush(&mut Context::from_waker(&self.task))
    }
}

fn closed() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl<W> ByteWriter<W> {
    fn outgoing(&self) -> MutexGuard<'_, Outgoing<W>> {
        self.outgoing.lock().expect(LOCK)
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> Writer for ByteWriter<W> {
    fn try_write(&self, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut outgoing = self.outgoing();
        let passed = outgoing.poll_pass()?;
        if passed.is_ready()
            && let Some(written) = outgoing.write(segments)
        {
            // Usually this passes the bytes on. If it does not, the task is woken, and flushes.
            let _ = outgoing.poll_flush();
            return written;
        }
        let before = outgoing.kept.len();
        for segment in segments {
            let room = BUFFER - outgoing.kept.len();
            outgoing.kept.extend_from_slice(&segment[..segment.len().min(room)]);
        }
        match outgoing.kept.len() - before {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            kept => Ok(kept),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing();
        outgoing.set_task(cx);
        match outgoing.poll_pass() {
            Poll::Pending if outgoing.kept.len() == BUFFER => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(())),
            passed => passed,
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing();
        outgoing.set_task(cx);
        outgoing.poll_flush()
    }

    fn prefer_latency(&self, _: bool) {}

    fn is_inherited(&self) -> bool {
        self.origin.is_other_process()
    }

    fn close(&self) {
        if self.is_inherited() {
            return;
        }
        let mut outgoing = self.outgoing();
        let _ = outgoing.poll_flush();
        let stream = outgoing.stream.take();
        outgoing.kept = Vec::new();
        drop(outgoing);
        if let Some(mut stream) = stream {
            let _ = Pin::new(&mut *stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
        let mut closing = self.closing.lock().expect(LOCK);
        closing.closed = true;
        let reader = closing.reader.take();
        drop(closing);
        reader.into_iter().for_each(Waker::wake);
    }
}
