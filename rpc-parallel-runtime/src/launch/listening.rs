//! Accepts the connections of other processes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::connection::{Opening, diagnose};
use crate::transport::{self, Address, Halves};
use crate::wire::{Settings, WorkerId};
use crate::worker::{Servers, connection_task};

/// The pause after a failed `accept`, usually because descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener until its worker takes no new connections, and then serves the open
/// connections until they end.
///
/// `address` keeps the listener reachable while it is served. It is `None` if another process keeps
/// the address.
pub(crate) async fn listen(
    listener: OwnedFd,
    address: Option<Address>,
    id: WorkerId,
    settings: Settings,
) {
    let mut connections = JoinSet::new();
    match transport::listen(listener) {
        Ok(listener) => {
            let mut closed = pin!(Servers::get().closed(id));
            let mut accepting = pin!(accept_all(&listener, settings, &mut connections));
            poll_fn(|cx| match closed.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => accepting.as_mut().poll(cx).map(|never| match never {}),
            })
            .await;
            refuse_all(&listener);
        }
        Err(error) => {
            diagnose(format_args!("failed to listen for connections to worker {id}: {error}"));
        }
    }
    drop(address);
    while connections.join_next().await.is_some() {}
}

/// Accepts connections until it is dropped.
async fn accept_all(
    listener: &UnixListener,
    settings: Settings,
    connections: &mut JoinSet<()>,
) -> Infallible {
    loop {
        match accept(listener, settings, connections).await {
            Ok(halves) => {
                connections.spawn(connection_task(Opening::new(halves, settings)));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Accepts the next connection, and removes ended connections from the set.
///
/// # Cancel safety
///
/// If the future is dropped, it has not accepted a connection.
async fn accept(
    listener: &UnixListener,
    settings: Settings,
    connections: &mut JoinSet<()>,
) -> io::Result<Halves> {
    let mut accepted = pin!(transport::accept(listener));
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        accepted.as_mut().poll(cx)?.map(|socket| transport::split(socket, settings.busy_poll()))
    })
    .await
}

/// Refuses all further connections, also if the master keeps the listener for a restarted worker.
fn refuse_all(listener: &UnixListener) {
    let _ = shutdown(listener, Shutdown::Both);
    // Connections in the queue are accepted and dropped.
    while accept_with(listener, SocketFlags::CLOEXEC).is_ok() {}
}
