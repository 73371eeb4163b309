//! How a process takes connections of other processes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::connection::Opening;
use crate::transport::{self, RunDir};
use crate::wire::Settings;
use crate::worker::converse;

/// How long to wait when no connection can be accepted: descriptors have run out, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener until it is dropped, with all connections that came to it.
pub(crate) async fn listen(listener: OwnedFd, settings: Settings) -> io::Result<()> {
    let listener = StdListener::from(listener);
    let path = listener.local_addr()?.as_pathname().map(PathBuf::from);
    let _served = path.map(RunDir::serving);
    let listener = transport::listen(listener.into())?;
    let mut connections = JoinSet::new();
    loop {
        match accept(&listener, &mut connections).await {
            Ok(socket) => {
                let opening = Opening::new(transport::split(socket), settings);
                connections.spawn(converse(opening));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Accepts the next connection, and forgets those that have ended meanwhile.
async fn accept(
    listener: &UnixListener,
    connections: &mut JoinSet<()>,
) -> io::Result<tokio::net::UnixStream> {
    tokio::pin! {
        let accepted = transport::accept(listener);
    }
    std::future::poll_fn(|cx| {
        while let std::task::Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        accepted.as_mut().poll(cx)
    })
    .await
}
