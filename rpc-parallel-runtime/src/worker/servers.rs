//! The worker servers of this process, and the connections to them.

use std::collections::HashMap;
use std::error::Error;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::registry::greeting;
use super::server::{InitError, Serves};
use crate::connection::{
    AnyError, Opening, OpeningError, Request, Serving, Session, Task, diagnose, task,
};
use crate::transport::Fault;
use crate::wire::{Refusal, Settings, Signature, WorkerId};

/// The servers of this process, and the number of their connections.
#[derive(Default)]
pub(crate) struct Servers {
    table: Mutex<Table>,
    changed: Notify,
    /// The time when the first server was added.
    began: OnceLock<Instant>,
}

#[derive(Default)]
struct Table {
    servers: HashMap<WorkerId, Arc<dyn Serves>>,
    connections: usize,
    /// The server for which this process was started.
    own: Option<WorkerId>,
    /// The timeout of a requested shutdown of this process.
    shutdown_timeout: Option<Duration>,
}

impl Servers {
    pub(crate) fn get() -> &'static Self {
        static SERVERS: LazyLock<Servers> = LazyLock::new(Servers::default);
        &SERVERS
    }

    pub(crate) fn insert(&self, id: WorkerId, server: Arc<dyn Serves>) {
        self.began.get_or_init(Instant::now);
        self.table().servers.insert(id, server);
    }

    /// Removes a server. New connections to it are refused, existing ones continue.
    pub(crate) fn remove(&self, id: WorkerId) {
        let server = self.table().servers.remove(&id);
        self.changed.notify_waiters();
        // Dropped without the lock, because this may drop the user's state.
        drop(server);
    }

    /// Removes all servers, and drops the states that no call uses.
    pub(crate) fn clear(&self) {
        let servers = std::mem::take(&mut self.table().servers);
        drop(servers);
        self.changed.notify_waiters();
    }

    /// Returns the time since the first server was added; zero if there was none.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.get().map(Instant::elapsed).unwrap_or_default()
    }

    pub(crate) fn contains(&self, id: WorkerId) -> bool {
        self.table().servers.contains_key(&id)
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn Serves>> {
        self.table().servers.values().cloned().collect()
    }

    /// Returns whether this process was started for this server.
    pub(crate) fn is_own(&self, id: WorkerId) -> bool {
        self.table().own == Some(id)
    }

    /// Sets the server for which this process was started.
    pub(crate) fn set_own(&self, id: WorkerId) {
        self.table().own = Some(id);
    }

    /// Requests that this process ends within this time. Returns `false` if it was not started for
    /// this server.
    pub(super) fn shut_down(&self, id: WorkerId, within: Duration) -> bool {
        let mut table = self.table();
        if table.own != Some(id) {
            return false;
        }
        table.shutdown_timeout.get_or_insert(within);
        drop(table);
        self.changed.notify_waiters();
        true
    }

    /// Waits until a shutdown of this process is requested, and returns its timeout.
    pub(crate) async fn shutdown_requested(&self) -> Duration {
        self.changed_until(|it| it.shutdown_timeout.is_some()).await;
        self.table().shutdown_timeout.unwrap_or_default()
    }

    /// Waits until this process has no servers and no connections to servers.
    pub(crate) async fn idle(&self) {
        self.changed_until(|it| it.servers.is_empty() && it.connections == 0).await;
    }

    async fn changed_until(&self, condition: impl Fn(&Table) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // `enable` ensures that a change after the check wakes this future.
            changed.as_mut().enable();
            if condition(&self.table()) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the server is removed.
    pub(crate) async fn closed(&self, id: WorkerId) {
        self.changed_until(|table| !table.servers.contains_key(&id)).await;
    }

    fn find(&self, id: WorkerId) -> Option<Arc<dyn Serves>> {
        self.table().servers.get(&id).cloned()
    }

    /// Begins a session for a connection that calls built-in functions only.
    ///
    /// It takes no reference to the server, because the thread that serves the connection must not
    /// be the one that drops the user's state.
    fn connect_control(&self, id: WorkerId, settings: Settings) -> Option<Arc<dyn Session>> {
        self.table().servers.get(&id).map(|it| it.connect_control(settings))
    }

    fn count_connection(&'static self) -> ConnectionGuard {
        self.table().connections += 1;
        ConnectionGuard(self)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no code panics while it holds this lock")
    }
}

/// Counts one connection until it is dropped.
struct ConnectionGuard(&'static Servers);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.table().connections -= 1;
        self.0.changed.notify_waiters();
    }
}

/// The end of a connection that this process served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectionOutcome {
    /// The caller ended the connection, violated the protocol, or was refused.
    Ended,
    /// A read or write failed, for another reason than that the caller has closed the connection.
    SocketFailed,
}

/// Serves one connection from its first frame to its end. Errors go to stderr, because the caller
/// cannot receive them any more.
pub(crate) async fn serve_connection(mut opening: Opening) -> ConnectionOutcome {
    let servers = Servers::get();
    let _connection = servers.count_connection();
    let request = match opening.receive_request().await {
        Ok(request) => request,
        // The refusal carries the reason to a peer that has another protocol version.
        Err(OpeningError::Frame(error)) => {
            let refusal = Refusal::Violation { why: error.to_string() };
            return not_opened(opening.refuse(&refusal).await);
        }
        Err(error) => return not_opened(Err(error)),
    };
    let settings = opening.settings();
    match opening.decide(begin(request, settings, servers)).await {
        Ok(Ok(session)) => match Serving::welcome(opening, session).run().await {
            Ok(()) => ConnectionOutcome::Ended,
            Err(error) => {
                let of_socket = error.is_of_socket();
                report(error);
                if of_socket { ConnectionOutcome::SocketFailed } else { ConnectionOutcome::Ended }
            }
        },
        Ok(Err(refusal)) => not_opened(opening.refuse(&refusal).await),
        Err(error) => not_opened(Err(error)),
    }
}

/// Creates the task that serves one connection.
pub(crate) fn connection_task(opening: Opening) -> Task {
    task(async {
        serve_connection(opening).await;
    })
}

/// Returns the outcome of a connection that was not opened.
fn not_opened(refused: Result<(), OpeningError>) -> ConnectionOutcome {
    match refused {
        Err(OpeningError::Socket(error)) if Fault::of(&error) != Fault::PeerGone => {
            report(OpeningError::Socket(error));
            ConnectionOutcome::SocketFailed
        }
        // The caller has closed the connection, missed the handshake timeout, or got the refusal.
        Ok(()) | Err(_) => ConnectionOutcome::Ended,
    }
}

/// Writes the error that ended a connection to stderr.
fn report(error: impl Error) {
    diagnose(format_args!("connection failed: {}", AnyError::of(&error)));
}

/// Begins the session that a connecting process requests, or refuses it.
async fn begin(
    request: Request,
    settings: Settings,
    servers: &Servers,
) -> Result<Arc<dyn Session>, Refusal> {
    let Request { greeting: theirs, worker, init, functions } = request;
    let ours = greeting();
    if theirs != ours && !settings.other_builds() {
        let why = format!(
            "expected build {:016x} of the worker, found build {:016x} of the connecting process; \
             set `Settings::with_other_builds` of the worker to accept other builds",
            ours.fingerprint, theirs.fingerprint
        );
        return Err(Refusal::OtherBuild { why });
    }
    let Some(init) = init else {
        return servers.connect_control(worker, settings).ok_or(Refusal::NoSuchWorker);
    };
    let server = servers.find(worker).ok_or(Refusal::NoSuchWorker)?;
    if let Some(theirs) = functions
        && let Some(why) = Signature::conflict(&server.signatures(), &theirs)
    {
        return Err(Refusal::OtherTypes { why });
    }
    Ok(server.connect(init, settings).await?)
}

impl From<InitError> for Refusal {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Failed { why } => Self::Init { why },
            InitError::Panicked(panic) => Self::Panicked(panic),
            InitError::Undecodable { why } => Self::Undecodable { why },
        }
    }
}
