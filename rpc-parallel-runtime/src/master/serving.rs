//! Worker servers in the process that asks for them.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use tokio::net::UnixStream;
use tokio::runtime::Handle;

use crate::connection::Opening;
use crate::launch;
use crate::transport::{self, RunDir, adopt, connected_pair};
use crate::wire::{Settings, WorkerId};
use crate::worker::converse;

/// Makes a socket whose other end this process serves.
pub(super) fn reach(settings: Settings) -> io::Result<UnixStream> {
    let (ours, theirs) = connected_pair()?;
    let opening = Opening::new(transport::split(adopt(theirs)?), settings);
    // It ends with its peer.
    tokio::spawn(converse(opening));
    adopt(ours)
}

/// Returns where this process listens for others, and makes it listen first.
///
/// # Errors
///
/// It cannot listen; outside of a tokio runtime it never can.
pub(super) fn listen(settings: Settings) -> io::Result<PathBuf> {
    static LISTENING: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut listening = LISTENING.lock().expect("nobody panics while holding this lock");
    // The listener has gone where the runtime that served it has.
    if let Some(path) = listening.as_ref().filter(|it| it.exists()) {
        return Ok(path.clone());
    }
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    let (listener, path) = RunDir::get().bind(WorkerId::random())?;
    runtime.spawn(async move {
        let _ = launch::listen(listener, settings).await;
    });
    *listening = Some(path.clone());
    Ok(path)
}
