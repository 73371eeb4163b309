//! Worker servers in the process that asks for them.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard};

use tokio::runtime::Handle;

use crate::connection::Opening;
use crate::launch;
use crate::transport::{Address, connected_pair, split};
use crate::wire::{Settings, WorkerId};
use crate::worker::{Servers, converse};

/// The servers that this process has begun by `serve`, and where their calls run.
static SERVED: LazyLock<Mutex<HashMap<WorkerId, ServedHere>>> = LazyLock::new(Mutex::default);

struct ServedHere {
    runtime: Handle,
    listening: Option<PathBuf>,
}

/// Remembers that a server was begun on the current runtime.
pub(super) fn begin(id: WorkerId) {
    let mut served = served();
    // Closed servers leave nothing but this: it goes with the next that begins.
    served.retain(|id, _| Servers::get().contains(*id));
    served.insert(id, ServedHere { runtime: Handle::current(), listening: None });
}

/// Makes a socket whose other end this process serves; none if it does not serve that worker.
pub(super) fn reach(id: WorkerId, settings: Settings) -> io::Result<Option<UnixStream>> {
    let Some(runtime) = find(id) else { return Ok(None) };
    let (ours, theirs) = connected_pair()?;
    let opening = {
        let _guard = runtime.enter();
        Opening::new(split(theirs)?, settings)
    };
    // It ends with its peer.
    runtime.spawn(converse(opening));
    Ok(Some(ours))
}

/// Returns where others reach a server of this process, and makes it listen first; none if it does
/// not serve that worker.
pub(super) fn listen(id: WorkerId, settings: Settings) -> io::Result<Option<PathBuf>> {
    let Some(runtime) = find(id) else { return Ok(None) };
    let mut served = served();
    let Some(server) = served.get_mut(&id) else { return Ok(None) };
    if let Some(path) = &server.listening {
        return Ok(Some(path.clone()));
    }
    let (listener, address) = Address::of_new_listener()?;
    let path = address.path();
    // It ends with the server and its connections.
    runtime.spawn(launch::listen(listener, Some(address), id, settings));
    server.listening = Some(path.clone());
    Ok(Some(path))
}

fn find(id: WorkerId) -> Option<Handle> {
    let runtime = served().get(&id).map(|it| it.runtime.clone());
    runtime.filter(|_| Servers::get().contains(id))
}

fn served() -> MutexGuard<'static, HashMap<WorkerId, ServedHere>> {
    SERVED.lock().expect("nobody panics while holding this lock")
}
