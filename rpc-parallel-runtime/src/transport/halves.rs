//! The two halves of a transport, as a connection uses them.

use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

/// Both halves of a transport.
pub(crate) type Halves = (Box<dyn Reader>, Box<dyn Writer>);

/// The half that the driver of a connection reads from.
///
/// [`Fault::of`](super::Fault::of) says what an error of its functions means. After a transient
/// fault nothing is lost, and the same function can be called again.
pub(crate) trait Reader: Send + 'static {
    /// Reads what is there; nothing read means that the peer has ended the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>)
    -> Poll<io::Result<()>>;

    /// Reads into one buffer and what is beyond into another; nothing read means that the peer has
    /// ended the stream.
    fn poll_read_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        second: &mut [u8],
    ) -> Poll<io::Result<usize>>;
}

/// The half that is written to, by the driver of a connection and by its callers.
///
/// [`Fault::of`](super::Fault::of) says what an error of its functions means. After any error
/// nothing was written, and the same function can be called again.
pub(crate) trait Writer: Send + Sync + 'static {
    /// Writes as much as goes without waiting, or fails with `WouldBlock`.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes as much of two buffers as goes without waiting, or fails with `WouldBlock`.
    fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize>;

    /// Sets how much waits in the transport at most before it is read: a lot, or little, so that
    /// what is written next is not far behind.
    fn hold(&self, much: bool);

    /// Waits until there is room. One task at a time may wait.
    ///
    /// An error says that the transport cannot tell when there is room.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says whether the transport belongs to the process that forked this one.
    fn is_inherited(&self) -> bool {
        false
    }

    /// Ends the transport, whoever else still holds a half of it. A transport that is
    /// [inherited](Self::is_inherited) goes on.
    fn end(&self);
}

/// Two connected transports in memory, for the tests and fuzz targets of the layers above.
#[cfg(any(test, fuzzing))]
pub(crate) mod memory {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::task::Waker;

    use super::*;

    /// One direction, with room for `capacity` bytes.
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
            let mut stream = self.0.lock().expect("no test panics in here");
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
            let mut stream = self.0.lock().expect("no test panics in here");
            stream.ended = true;
            if let Some(writer) = stream.writer.take() {
                writer.wake();
            }
        }
    }

    impl Writer for MemoryWriter {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let mut stream = self.0.lock().expect("no test panics in here");
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

        fn hold(&self, _: bool) {}

        fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut stream = self.0.lock().expect("no test panics in here");
            if stream.bytes.len() == stream.capacity && !stream.ended {
                stream.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn end(&self) {
            let mut stream = self.0.lock().expect("no test panics in here");
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
