//! The table of the worker servers that this process serves itself, and connections to them.

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

/// The servers that this process has started by `serve`. If this process was started as a worker,
/// [`find`] adds that worker when it is first looked up.
static LOCAL_SERVERS: LazyLock<Mutex<HashMap<WorkerId, LocalServer>>> =
    LazyLock::new(Mutex::default);

struct LocalServer {
    host: ServerHost,
    /// The path of its listener, if it has one.
    listening: Option<PathBuf>,
}

impl LocalServer {
    fn new(host: ServerHost) -> Self {
        Self { host, listening: None }
    }
}

/// Where the calls of a server run.
#[derive(Clone)]
pub(super) enum ServerHost {
    /// In a tokio runtime of the program.
    Runtime(Handle),
    /// On the thread of the server.
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

/// Registers a server that has been started.
pub(super) fn register(id: WorkerId, host: ServerHost) {
    local_servers().insert(id, LocalServer::new(host.clone()));
    // A dedicated thread removes its server itself.
    if let ServerHost::Runtime(runtime) = host {
        let guard = RemoveServer(id);
        // Owner: the server's runtime. If it ends first, it drops the task and thereby the server.
        runtime.spawn(task(async move {
            Servers::get().closed(id).await;
            drop(guard);
        }));
    }
}

/// Removes a server and its state when it is dropped.
struct RemoveServer(WorkerId);

impl Drop for RemoveServer {
    fn drop(&mut self) {
        unregister(self.0);
        drop_silently(|| Servers::get().remove(self.0));
    }
}

/// Removes a server that has ended from the table.
pub(super) fn unregister(id: WorkerId) {
    let removed = local_servers().remove(&id);
    // Dropped after the lock was released: this can drop the last handle of a thread.
    drop(removed);
}

/// Opens a socket pair, serves its other end, and returns this one. `None` if this process does not
/// serve the worker.
pub(super) fn open_socket(
    id: WorkerId,
    settings: Settings,
) -> io::Result<Option<(UnixStream, FailureSource)>> {
    let Some(host) = find(id) else { return Ok(None) };
    let (ours, theirs) = connected_pair()?;
    let opening = {
        let _guard = host.runtime().enter();
        Opening::new(split(theirs, settings.busy_poll())?, settings)
    };
    // Owner: the server's runtime or thread. The task ends when the peer closes its socket.
    host.spawn(connection_task(opening));
    Ok(Some((ours, host.failure_source())))
}

/// Returns the path of a server's listener, which is made if there is none. `None` if this process
/// does not serve the worker.
pub(super) fn listen(id: WorkerId, settings: Settings) -> io::Result<Option<PathBuf>> {
    let Some(host) = find(id) else { return Ok(None) };
    let mut servers = local_servers();
    let Some(server) = servers.get_mut(&id) else { return Ok(None) };
    if let Some(path) = &server.listening {
        return Ok(Some(path.clone()));
    }
    let (listener, address) = Address::of_new_listener(id)?;
    let path = address.path();
    // Owner: the server's runtime or thread. The task ends with the server and its connections.
    host.spawn(task(launch::listen(listener, Some(address), id, settings)));
    server.listening = Some(path.clone());
    Ok(Some(path))
}

/// Returns whether this process serves the worker without having been started as that worker.
pub(super) fn is_served(id: WorkerId) -> bool {
    find(id).is_some() && !Servers::get().is_own(id)
}

fn find(id: WorkerId) -> Option<ServerHost> {
    let mut servers = local_servers();
    if !Servers::get().contains(id) {
        return None;
    }
    if let Some(server) = servers.get(&id) {
        return Some(server.host.clone());
    }
    if !Servers::get().is_own(id) {
        return None;
    }
    // The functions of the worker that this process was started as run in the runtime of `main`.
    let host = ServerHost::Runtime(Handle::try_current().ok()?);
    servers.insert(id, LocalServer::new(host.clone()));
    Some(host)
}

fn local_servers() -> MutexGuard<'static, HashMap<WorkerId, LocalServer>> {
    LOCAL_SERVERS.lock().expect("no thread panics while it holds this lock")
}
