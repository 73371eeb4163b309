//! Unix sockets: connected pairs, which are inherited or passed to another process, and listeners,
//! which accept processes of the same user.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rpc_parallel_os::{Direction, Readiness};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::descriptors::try_send;
use super::dial::{Dial, Dialing};
use super::fault::{Backoff, Fault};
use super::listener::is_stale;
use super::origin::Registered;
use super::proc_pid::proc_pid;
use super::socket::split;
use crate::wire::BusyPoll;

/// The pause before connecting is retried to a listener whose backlog is full.
const CONNECT_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Creates two connected sockets. Both are close-on-exec.
pub(crate) fn connected_pair() -> io::Result<(StdStream, StdStream)> {
    StdStream::pair()
}

/// Sends all bytes over a non-blocking socket.
///
/// # Errors
///
/// [`Fault::of`] classifies the error. The peer may have received the beginning.
pub(crate) async fn send_all(socket: &Arc<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    let mut readiness = None;
    let mut backoff = Backoff::default();
    while !bytes.is_empty() {
        let error = match try_send(socket, bytes) {
            Ok(sent) => {
                bytes = &bytes[sent..];
                backoff.reset();
                continue;
            }
            Err(error) => error,
        };
        match Fault::of(&error) {
            Fault::NotReady => {
                let readiness = match &readiness {
                    Some(readiness) => readiness,
                    None => {
                        let new = Readiness::register(socket.clone(), Direction::Write)?;
                        readiness.insert(Registered::new(new))
                    }
                };
                // It fails if this runtime is shut down.
                poll_fn(|cx| readiness.poll_ready(cx)).await?.clear_ready();
            }
            Fault::Transient => sleep(backoff.pause()).await,
            Fault::PeerGone | Fault::Fatal => return Err(error),
        }
    }
    Ok(())
}

/// Opens transports to a listener, which must run as the same user as this process.
///
/// While the backlog of the listener is full, dialing waits. Its errors are:
///
/// - `NotFound`: no process listens at the path any more.
/// - `PermissionDenied`: the process that holds the listener runs as another user, or is not
///   dumpable.
/// - `Unsupported`: this process is not in `/proc`.
pub(crate) struct ListenerDial<'a> {
    path: &'a Path,
    busy_poll: BusyPoll,
}

impl<'a> ListenerDial<'a> {
    pub(crate) fn new(path: &'a Path, busy_poll: BusyPoll) -> Self {
        Self { path, busy_poll }
    }

    async fn connect(&self) -> io::Result<StdStream> {
        let socket = loop {
            match UnixStream::connect(self.path).await {
                Ok(socket) => break socket,
                // The kernel reports no event when the backlog has free space again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep(CONNECT_RETRY_PAUSE).await;
                }
                Err(error) if is_stale(self.path, &error) => {
                    // Outside of `/proc`, this process finds no process there.
                    proc_pid()?;
                    return Err(io::Error::new(io::ErrorKind::NotFound, error));
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(not_permitted(&error));
                }
                Err(error) => return Err(error),
            }
        };
        of_same_user(&socket)?;
        socket.into_std()
    }
}

impl Dial for ListenerDial<'_> {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async { split(self.connect().await?, self.busy_poll) })
    }
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

fn not_permitted(error: &io::Error) -> io::Error {
    let why = format!(
        "{error}: the process that holds its socket runs as another user, or does not permit \
         access to its descriptors because it is not dumpable (it runs a setuid program, or has \
         called `prctl(PR_SET_DUMPABLE, 0)`)"
    );
    io::Error::new(error.kind(), why)
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use crate::transport::Address;
    use crate::wire::WorkerId;

    #[tokio::test]
    async fn connecting_to_full_backlog_waits() {
        let made = Address::of_new_listener(WorkerId::random());
        let (listener, address) = made.expect("there is a directory");
        rustix::net::listen(&listener, 0).expect("it listens already");
        let path = address.path();
        let dial = ListenerDial::new(&path, BusyPoll::Never);
        let _first = dial.dial().await.expect("there is room for one");

        let mut second = dial.dial();
        let waits = poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
        let listener = listen(listener).expect("there is a runtime");
        let accepted = accept(&listener).await;

        assert!(waits, "there is no room");
        assert!(accepted.is_ok());
        assert!(second.await.is_ok());
    }
}
