//! Unix sockets: pairs that are inherited or handed over, and listeners for everybody else of the
//! same user.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::halves::{Reader, Writer};

/// Makes two connected sockets; both close on exec.
pub(crate) fn connected_pair() -> io::Result<(StdStream, StdStream)> {
    StdStream::pair()
}

/// Takes a socket of the standard library into the current tokio runtime.
pub(crate) fn adopt(socket: impl Into<OwnedFd>) -> io::Result<UnixStream> {
    let socket = StdStream::from(socket.into());
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Connects to a listener, if it belongs to the user that this process runs as.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = UnixStream::connect(path).await?;
    of_same_user(&socket)?;
    Ok(socket)
}

/// Makes a listener of a socket that was bound elsewhere.
pub(crate) fn listen(listener: OwnedFd) -> io::Result<UnixListener> {
    let listener = StdListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Accepts the next connection of the user that this process runs as; others are closed unread.
///
/// # Cancel safety
///
/// A connection that was not returned has not been accepted.
pub(crate) async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        let (socket, _) = listener.accept().await?;
        if of_same_user(&socket).is_ok() {
            return Ok(socket);
        }
    }
}

fn of_same_user(socket: &UnixStream) -> io::Result<()> {
    let peer = socket.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    if peer == own {
        return Ok(());
    }
    let why = format!("the peer runs as user {peer}, this process as user {own}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Splits a socket into its halves.
pub(crate) fn split(socket: UnixStream) -> (Box<dyn Reader>, Box<dyn Writer>) {
    let (reader, writer) = socket.into_split();
    (Box::new(reader), Box::new(writer))
}

impl Reader for OwnedReadHalf {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), cx, buffer)
    }
}

impl Writer for OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        OwnedWriteHalf::try_write(self, bytes)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsRef::<UnixStream>::as_ref(self).poll_write_ready(cx)
    }

    fn end(&self) {
        let socket: &UnixStream = self.as_ref();
        // It fails only where the peer has ended it already.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }
}
