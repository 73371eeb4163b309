//! Unix sockets: connected pairs, which are inherited or passed to another process, and listeners,
//! which accept processes of the same user.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::halves::{Halves, Reader, Writer};
use super::listener::is_stale;
use super::origin::{Origin, Registered};

/// The size of a socket's small send buffer, in bytes: see [`Writer::use_large_buffer`].
const SMALL_SEND_BUFFER: usize = 16 * 1024;

/// The pause before connecting is retried to a listener whose backlog is full.
const CONNECT_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Creates two connected sockets. Both are close-on-exec.
pub(crate) fn connected_pair() -> io::Result<(StdStream, StdStream)> {
    StdStream::pair()
}

/// Registers a socket with the current tokio runtime.
pub(crate) fn adopt(socket: impl Into<OwnedFd>) -> io::Result<Registered<UnixStream>> {
    let socket = StdStream::from(socket.into());
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket).map(Registered::new)
}

/// Connects to a listener, which must run as the same user as this process.
///
/// While the backlog of the listener is full, it waits.
///
/// # Errors
///
/// `NotFound` means that no process listens at the path any more. `PermissionDenied` means that the
/// listener runs as another user.
pub(crate) async fn connect(path: &Path) -> io::Result<StdStream> {
    let socket = loop {
        match UnixStream::connect(path).await {
            Ok(socket) => break socket,
            // The kernel reports no event when the backlog has free space again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(CONNECT_RETRY_PAUSE).await;
            }
            Err(error) if is_stale(path, &error) => {
                return Err(io::Error::new(io::ErrorKind::NotFound, error));
            }
            Err(error) => return Err(error),
        }
    };
    of_same_user(&socket)?;
    socket.into_std()
}

/// Registers a listening socket with the current tokio runtime.
pub(crate) fn listen(listener: OwnedFd) -> io::Result<Registered<UnixListener>> {
    let listener = StdListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener).map(Registered::new)
}

/// Accepts the next connection of a process of the same user. Connections of other users are
/// closed.
///
/// # Cancel safety
///
/// Dropping the future loses no connection.
pub(crate) async fn accept(listener: &UnixListener) -> io::Result<StdStream> {
    loop {
        let (socket, _) = listener.accept().await?;
        if of_same_user(&socket).is_ok() {
            return socket.into_std();
        }
    }
}

fn of_same_user(socket: &UnixStream) -> io::Result<()> {
    let peer = socket.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    if peer == own {
        return Ok(());
    }
    let why = format!("expected a peer of user {own}, found user {peer}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Registers a socket with the current tokio runtime, and splits it into two halves.
pub(crate) fn split(socket: impl Into<OwnedFd>) -> io::Result<Halves> {
    let socket = StdStream::from(socket.into());
    socket.set_nonblocking(true)?;
    let reader = Receiver::from_owned_fd_unchecked(socket.try_clone()?.into())?;
    let reader = SocketReader(Registered::new(reader));
    // The kernel doubles the value that is set, to account for its own overhead.
    let usual_buffer = socket_send_buffer_size(&socket).ok().map(|it| it / 2);
    let (socket, registered, origin) = (Arc::new(socket), OnceLock::new(), Origin::here());
    let writer = SocketWriter { socket, usual_buffer, registered, origin };
    Ok((Box::new(reader), Box::new(writer)))
}

/// Reads from a socket. It is registered for read readiness only.
///
/// tokio's `UnixStream` registers for write readiness too, so that each message that the peer reads
/// would wake this process once more. [`Receiver`] is the end of a pipe, but the only type of tokio
/// that registers for read readiness only, and it works with sockets.
struct SocketReader(Registered<Receiver>);

/// Writes to a socket. It is registered for write readiness when its buffer is full for the first
/// time.
struct SocketWriter {
    socket: Arc<StdStream>,
    /// The usual size of the send buffer, in bytes, as it is passed to the kernel.
    usual_buffer: Option<usize>,
    /// The same socket, registered for write readiness.
    registered: OnceLock<Registered<AsyncFd<Arc<StdStream>>>>,
    origin: Origin,
}

impl SocketWriter {
    /// Writes, unless the buffer was full and the socket has not become writable since.
    fn write(&self, write: impl FnOnce(&StdStream) -> io::Result<usize>) -> io::Result<usize> {
        match self.registered.get() {
            Some(registered) => registered.try_io(Interest::WRITABLE, |socket| write(socket)),
            None => write(&self.socket),
        }
    }
}

impl Reader for SocketReader {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }

    fn poll_read_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        second: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let mut buffers = [IoSliceMut::new(first), IoSliceMut::new(second)];
            match self.0.try_read_vectored(&mut buffers) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }
}

impl Writer for SocketWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write(|socket| Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?))
    }

    fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.write(|socket| {
            let buffers = [IoSlice::new(first), IoSlice::new(second)];
            let mut ancillary = SendAncillaryBuffer::new(&mut []);
            Ok(sendmsg(socket, &buffers, &mut ancillary, SendFlags::NOSIGNAL)?)
        })
    }

    fn use_large_buffer(&self, large: bool) {
        // Failure only makes the connection slower.
        let _ = match (large, self.usual_buffer) {
            (true, Some(usual)) => set_socket_send_buffer_size(&*self.socket, usual),
            _ => set_socket_send_buffer_size(&*self.socket, SMALL_SEND_BUFFER),
        };
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let registered = match self.registered.get() {
            Some(registered) => registered,
            None => {
                let registered = Registered::new(register(self.socket.clone())?);
                self.registered.get_or_init(|| registered)
            }
        };
        // The readiness is not cleared here: the next write clears it if the buffer is still full.
        registered.poll_write_ready(cx).map_ok(drop)
    }

    fn is_inherited(&self) -> bool {
        self.origin.is_other_process()
    }

    fn end(&self) {
        if self.is_inherited() {
            return;
        }
        // It fails only if the peer has ended the connection already.
        let _ = rustix::net::shutdown(&*self.socket, Shutdown::Both);
    }
}

/// Registers a socket for write readiness, under its own descriptor. Duplicating the descriptor
/// would fail if this process has too many open files.
#[expect(
    deprecated,
    reason = "it is deprecated for types whose descriptor changes or closes while it is registered; \
              an `Arc` of a socket does neither, and the replacement is unsafe to call"
)]
fn register(socket: Arc<StdStream>) -> io::Result<AsyncFd<Arc<StdStream>>> {
    AsyncFd::with_interest(socket, Interest::WRITABLE)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;
    use crate::transport::Address;
    use crate::wire::WorkerId;

    async fn read(reader: &mut dyn Reader, buffer: &mut [u8]) -> usize {
        let mut buffer = ReadBuf::new(buffer);
        poll_fn(|cx| reader.poll_read(cx, &mut buffer)).await.expect("the socket is there");
        buffer.filled().len()
    }

    #[tokio::test]
    async fn socket_carries_more_than_its_buffer() {
        const LEN: usize = 10_000_000;
        let (here, there) = connected_pair().expect("two sockets");
        let (_reader, writer) = split(here).expect("there is a runtime");
        let (mut reader, _writer) = split(there).expect("there is a runtime");

        let writing = tokio::spawn(async move {
            let mut left = LEN;
            while left > 0 {
                match writer.try_write(&vec![7; left.min(100_000)]) {
                    Ok(written) => left -= written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        poll_fn(|cx| writer.poll_writable(cx)).await.expect("the socket is there");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            writer.end();
        });

        let (mut received, mut buffer) = (0, vec![0; 3000]);
        loop {
            match read(&mut *reader, &mut buffer).await {
                0 => break,
                len => received += len,
            }
        }
        assert_eq!(received, LEN);
        writing.await.expect("it does not panic");
    }

    #[tokio::test]
    async fn connecting_to_full_backlog_waits() {
        let made = Address::of_new_listener(WorkerId::random());
        let (listener, address) = made.expect("there is a directory");
        rustix::net::listen(&listener, 0).expect("it listens already");
        let path = address.path();
        let _first = connect(&path).await.expect("there is room for one");

        let mut second = pin!(connect(&path));
        let waits = poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
        let listener = listen(listener).expect("there is a runtime");
        let accepted = accept(&listener).await;

        assert!(waits, "there is no room");
        assert!(accepted.is_ok());
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn late_message_is_received() {
        let (here, there) = connected_pair().expect("two sockets");
        let (_reader, writer) = split(here).expect("there is a runtime");
        let (mut reader, _writer) = split(there).expect("there is a runtime");

        for _ in 0..100 {
            let reading = async { read(&mut *reader, &mut [0; 10]).await };
            let writing = async {
                tokio::task::yield_now().await;
                writer.try_write(b"hello").expect("there is room")
            };
            assert_eq!(tokio::join!(reading, writing), (5, 5));
        }
    }
}
