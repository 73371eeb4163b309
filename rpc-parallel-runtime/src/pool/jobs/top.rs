//! The connection of this process to the keeper, in the process at the top of the tree.

use std::io;
use std::sync::{Mutex, MutexGuard};

use super::protocol::{KeeperClient, TRAIT_NAME};
use crate::launch::{JobKeeper, JobSocket, start_supervisor};
use crate::master::{ConnectErrorKind, SpawnErrorKind, connect_over, spawn_defaults};
use crate::pool::background::runtime;
use crate::transport::connected_pair;
use crate::wire::{WorkerLabel, host_name};
use crate::worker::WorkerClient;

/// The connection that all jobs of this process share.
static CLIENT: Mutex<Option<KeeperClient>> = Mutex::new(None);

/// Returns the connection to the keeper, which is opened if there is none.
///
/// It lives on the runtime of the program, so that it does not end with the runtime of the caller.
///
/// # Errors
///
/// The text says why the keeper cannot be reached.
pub(super) async fn keeper() -> Result<KeeperClient, String> {
    let open = client().clone().filter(|it| !it.is_closed());
    if let Some(open) = open {
        return Ok(open);
    }
    let socket = job_socket()?;
    let runtime = runtime().map_err(|error| error.to_string())?;
    let connected = runtime.spawn(connect(socket)).await.map_err(|error| error.to_string())?;
    let connected = connected.map_err(|error| error.to_string())?;
    let replaced = client().replace(connected.clone());
    // Dropped without the lock, because this may close a connection.
    drop(replaced);
    Ok(connected)
}

fn client() -> MutexGuard<'static, Option<KeeperClient>> {
    CLIENT.lock().expect("no code panics while it holds this lock")
}

/// Returns the socket by which this process requests connections.
fn job_socket() -> Result<&'static JobSocket, String> {
    let defaults = spawn_defaults().map_err(|error| error.to_string())?;
    if defaults.is_none() {
        return Err(SpawnErrorKind::NotInitialized.to_string());
    }
    // In the top process, the supervisor makes it. Workers have received it.
    start_supervisor().map_err(|error| error.to_string())?;
    JobSocket::get().ok_or_else(|| "the program has no process functions".to_owned())
}

async fn connect(socket: &JobSocket) -> Result<KeeperClient, ConnectErrorKind> {
    let JobKeeper { id, settings } = *socket.keeper();
    let requested = connected_pair().and_then(|(ours, theirs)| {
        socket.request(theirs)?;
        Ok(ours)
    });
    let ours = requested.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            ConnectErrorKind::NoSuchWorker
        }
        _ => ConnectErrorKind::Unreachable(error),
    })?;
    let (name, worker_type) = (None, TRAIT_NAME.to_owned());
    let label = WorkerLabel { name, worker_type, pid: None, host: host_name() };
    let client = connect_over(ours, settings, (id, label)).await?;
    Ok(KeeperClient::from_client(client))
}
