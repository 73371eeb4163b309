//! Worker servers in the process that asks for them.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use tokio::runtime::Handle;

use super::dedicated_thread::DedicatedThread;
use super::failure_source::FailureSource;
use crate::connection::{Opening, Task, drop_silently, task};
use crate::launch;
use crate::transport::{Address, connected_pair, split};
use crate::wire::{Settings, WorkerId};
use crate::worker::{Servers, connection_task};

/// The servers that this process has begun by `serve`, and where their calls run.
static SERVED: LazyLock<Mutex<HashMap<WorkerId, ServedHere>>> = LazyLock::new(Mutex::default);

struct ServedHere {
    host: ServerHost,
    listening: Option<PathBuf>,
}

/// Where the calls of a server run.
#[derive(Clone)]
pub(super) enum ServerHost {
    /// In a tokio runtime of the program's.
    Runtime(Handle),
    /// On a thread of its own.
    Dedicated(Arc<DedicatedThread>),
}

impl ServerHost {
    fn runtime(&self) -> &Handle {
        match self {
            Self::Runtime(runtime) => runtime,
            Self::Dedicated(thread) => thread.runtime(),
        }
    }

    fn spawn(&self, task: Task) {
        match self {
            Self::Runtime(runtime) => drop(runtime.spawn(task)),
            Self::Dedicated(thread) => thread.spawn(task),
        }
    }

    fn failure_source(&self) -> FailureSource {
        match self {
            Self::Runtime(_) => FailureSource::Unknown,
            Self::Dedicated(thread) => FailureSource::Thread(thread.clone()),
        }
    }
}

/// Remembers where a server was begun.
pub(super) fn begin(id: WorkerId, host: ServerHost) {
    served().insert(id, ServedHere { host: host.clone(), listening: None });
    // A thread of its own sees to this itself.
    if let ServerHost::Runtime(runtime) = host {
        let ending = Ending(id);
        // It ends with the server, and the server with its runtime.
        runtime.spawn(task(async move {
            Servers::get().closed(id).await;
            drop(ending);
        }));
    }
}

/// Takes a server away, and with it the state, when this is dropped.
struct Ending(WorkerId);

impl Drop for Ending {
    fn drop(&mut self) {
        forget(self.0);
        drop_silently(|| Servers::get().remove(self.0));
    }
}

/// Forgets a server that has ended.
pub(super) fn forget(id: WorkerId) {
    let forgotten = served().remove(&id);
    // Dropped here, without the lock.
    drop(forgotten);
}

/// Makes a socket whose other end this process serves; none if it does not serve that worker.
pub(super) fn route(
    id: WorkerId,
    settings: Settings,
) -> io::Result<Option<(UnixStream, FailureSource)>> {
    let Some(host) = find(id) else { return Ok(None) };
    let (ours, theirs) = connected_pair()?;
    let opening = {
        let _guard = host.runtime().enter();
        Opening::new(split(theirs)?, settings)
    };
    // It ends with its peer.
    host.spawn(connection_task(opening));
    Ok(Some((ours, host.failure_source())))
}

/// Returns where others reach a server of this process, and makes it listen first; none if it does
/// not serve that worker.
pub(super) fn listen(id: WorkerId, settings: Settings) -> io::Result<Option<PathBuf>> {
    let Some(host) = find(id) else { return Ok(None) };
    let mut served = served();
    let Some(server) = served.get_mut(&id) else { return Ok(None) };
    if let Some(path) = &server.listening {
        return Ok(Some(path.clone()));
    }
    let (listener, address) = Address::of_new_listener(id)?;
    let path = address.path();
    // It ends with the server and its connections.
    host.spawn(task(launch::listen(listener, Some(address), id, settings)));
    server.listening = Some(path.clone());
    Ok(Some(path))
}

/// Returns whether this process serves the worker, and was not started for it.
pub(super) fn is_served(id: WorkerId) -> bool {
    find(id).is_some() && !Servers::get().is_own(id)
}

fn find(id: WorkerId) -> Option<ServerHost> {
    let mut served = served();
    if !Servers::get().contains(id) {
        return None;
    }
    if let Some(server) = served.get(&id) {
        return Some(server.host.clone());
    }
    // The worker that this process was started as: its functions run in the runtime of `main`.
    let host = ServerHost::Runtime(Handle::try_current().ok()?);
    let own = Servers::get().is_own(id);
    own.then(|| served.insert(id, ServedHere { host: host.clone(), listening: None }));
    own.then_some(host)
}

fn served() -> MutexGuard<'static, HashMap<WorkerId, ServedHere>> {
    SERVED.lock().expect("nobody panics while holding this lock")
}
