//! The interface between a connection and its transport: a half to read from, a half to write to.

use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

/// Both halves of a transport.
pub(crate) type Halves = (Box<dyn Reader>, Box<dyn Writer>);

/// The half that the driver of a connection reads from.
///
/// [`Fault::of`](super::Fault::of) classifies the errors of its functions. After a transient fault
/// no bytes are lost, and the same function can be called again.
pub(crate) trait Reader: Send + 'static {
    /// Reads the available bytes. Reading no bytes means that the peer has ended the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>)
    -> Poll<io::Result<()>>;

    /// Reads the available bytes into two buffers, the second after the first is full. Reading no
    /// bytes means that the peer has ended the stream.
    fn poll_read_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        second: &mut [u8],
    ) -> Poll<io::Result<usize>>;
}

/// The half that the driver of a connection and its callers write to.
///
/// [`Fault::of`](super::Fault::of) classifies the errors of its functions. After an error nothing
/// was written, and the same function can be called again.
pub(crate) trait Writer: Send + Sync + 'static {
    /// Writes as many bytes as possible without waiting, or fails with `WouldBlock`.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes as many bytes of two buffers as possible without waiting, or fails with `WouldBlock`.
    fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize>;

    /// Selects the size of the transport's send buffer: the usual one, or a small one. A small
    /// buffer reduces the latency of the bytes that are written next.
    fn use_large_buffer(&self, large: bool);

    /// Waits until the transport has free space. Only one task at a time may wait.
    ///
    /// # Errors
    ///
    /// The transport cannot report when it has free space.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Returns whether the transport was created by the process from which this one was forked.
    fn is_inherited(&self) -> bool {
        false
    }

    /// Ends both directions of the transport, even if other halves of it exist. Has no effect on an
    /// [inherited](Self::is_inherited) transport.
    fn end(&self);
}

/// Two connected in-memory transports, for the tests and fuzz targets of the layers above.
#[cfg(any(test, fuzzing))]
pub(crate) mod memory {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::task::Waker;

    use super::*;

    /// One direction, which buffers up to `capacity` bytes.
    #[derive(Default)]
    struct Stream {
        bytes: VecDeque<u8>,
        capacity: usize,
        ended: bool,
        reader: Option<Waker>,
        writer: Option<Waker>,
    }

    pub(crate) struct MemoryReader(Arc<Mutex<Stream>>);
    pub(crate) struct MemoryWriter(Arc<Mutex<Stream>>);

    fn stream(capacity: usize) -> (MemoryReader, MemoryWriter) {
        let stream = Arc::new(Mutex::new(Stream { capacity, ..Stream::default() }));
        (MemoryReader(stream.clone()), MemoryWriter(stream))
    }

    type End = (MemoryReader, MemoryWriter);

    pub(crate) fn pair(capacity: usize) -> (End, End) {
        let (here_in, there_out) = stream(capacity);
        let (there_in, here_out) = stream(capacity);
        ((here_in, here_out), (there_in, there_out))
    }

    impl Reader for MemoryReader {
        fn poll_read(
            &mut self,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let mut stream = self.0.lock().expect("no code panics while it holds this lock");
            if stream.bytes.is_empty() && !stream.ended {
                stream.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            while buffer.remaining() > 0
                && let Some(byte) = stream.bytes.pop_front()
            {
                buffer.put_slice(&[byte]);
            }
            if let Some(writer) = stream.writer.take() {
                writer.wake();
            }
            Poll::Ready(Ok(()))
        }

        fn poll_read_both(
            &mut self,
            cx: &mut Context<'_>,
            first: &mut [u8],
            second: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let mut first = ReadBuf::new(first);
            std::task::ready!(self.poll_read(cx, &mut first))?;
            let mut second = ReadBuf::new(second);
            if first.remaining() == 0 && first.capacity() > 0 {
                let _ = self.poll_read(cx, &mut second)?;
            }
            Poll::Ready(Ok(first.filled().len() + second.filled().len()))
        }
    }

    impl Drop for MemoryReader {
        fn drop(&mut self) {
            let mut stream = self.0.lock().expect("no code panics while it holds this lock");
            stream.ended = true;
            if let Some(writer) = stream.writer.take() {
                writer.wake();
            }
        }
    }

    impl Writer for MemoryWriter {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let mut stream = self.0.lock().expect("no code panics while it holds this lock");
            if stream.ended {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = stream.capacity - stream.bytes.len();
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = bytes.len().min(room);
            stream.bytes.extend(&bytes[..taken]);
            if let Some(reader) = stream.reader.take() {
                reader.wake();
            }
            Ok(taken)
        }

        fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
            let written = self.try_write(first)?;
            if written < first.len() {
                return Ok(written);
            }
            Ok(written + self.try_write(second).unwrap_or(0))
        }

        fn use_large_buffer(&self, _: bool) {}

        fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut stream = self.0.lock().expect("no code panics while it holds this lock");
            if stream.bytes.len() == stream.capacity && !stream.ended {
                stream.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn end(&self) {
            let mut stream = self.0.lock().expect("no code panics while it holds this lock");
            stream.ended = true;
            if let Some(reader) = stream.reader.take() {
                reader.wake();
            }
        }
    }

    impl Drop for MemoryWriter {
        fn drop(&mut self) {
            self.end();
        }
    }
}
