//! How a process takes connections of other processes.

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

/// How long to wait when no connection can be accepted: descriptors have run out, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener until its worker takes no new connections, and then those that there are.
///
/// Its address is kept meanwhile, unless another process keeps it.
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
            diagnose(format_args!("listen for worker {id}: {error}"));
        }
    }
    drop(address);
    while connections.join_next().await.is_some() {}
}

/// Accepts connections for as long as it is not dropped.
async fn accept_all(
    listener: &UnixListener,
    settings: Settings,
    connections: &mut JoinSet<()>,
) -> Infallible {
    loop {
        match accept(listener, connections).await {
            Ok(halves) => {
                connections.spawn(connection_task(Opening::new(halves, settings)));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Accepts the next connection, and forgets those that have ended meanwhile.
///
/// # Cancel safety
///
/// A connection that was not returned has not been accepted.
async fn accept(listener: &UnixListener, connections: &mut JoinSet<()>) -> io::Result<Halves> {
    let mut accepted = pin!(transport::accept(listener));
    poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        accepted.as_mut().poll(cx)?.map(transport::split)
    })
    .await
}

/// Has nobody connect to a listener any more, also where a master keeps it for the next worker.
fn refuse_all(listener: &UnixListener) {
    let _ = shutdown(listener, Shutdown::Both);
    // Those who wait to be accepted are dropped.
    while accept_with(listener, SocketFlags::CLOEXEC).is_ok() {}
}
