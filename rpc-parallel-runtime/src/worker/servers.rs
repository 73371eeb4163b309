//! The worker servers of this process, and how a connection finds the one it means.

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

/// The servers of this process, and how many connections they have.
#[derive(Default)]
pub(crate) struct Servers {
    table: Mutex<Table>,
    changed: Notify,
    /// When the first of them began.
    began: OnceLock<Instant>,
}

#[derive(Default)]
struct Table {
    servers: HashMap<WorkerId, Arc<dyn Serves>>,
    connections: usize,
    /// The server for which this process was started.
    own: Option<WorkerId>,
    /// This process was told to end, within this time.
    told: Option<Duration>,
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

    /// Takes a server away: new connections will not find it, those that there are go on.
    pub(crate) fn remove(&self, id: WorkerId) {
        let server = self.table().servers.remove(&id);
        self.changed.notify_waiters();
        // Dropped here, without the lock: it may be the last to hold the state.
        drop(server);
    }

    /// Drops all servers, and with them the states that no call holds.
    pub(crate) fn clear(&self) {
        let servers = std::mem::take(&mut self.table().servers);
        drop(servers);
        self.changed.notify_waiters();
    }

    /// Returns how long this process has been a worker.
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

    /// Remembers for which of its servers this process was started.
    pub(crate) fn set_own(&self, id: WorkerId) {
        self.table().own = Some(id);
    }

    /// Tells this process to end within this time, if it was started for this server.
    pub(super) fn shut_down(&self, id: WorkerId, within: Duration) -> bool {
        let mut table = self.table();
        if table.own != Some(id) {
            return false;
        }
        table.told.get_or_insert(within);
        drop(table);
        self.changed.notify_waiters();
        true
    }

    /// Waits until this process is told to end, and returns how much time it has.
    pub(crate) async fn told(&self) -> Duration {
        self.changed_until(|it| it.told.is_some()).await;
        self.table().told.unwrap_or_default()
    }

    /// Waits until there is no server any more, and nobody who still talks to one.
    pub(crate) async fn idle(&self) {
        self.changed_until(|it| it.servers.is_empty() && it.connections == 0).await;
    }

    async fn changed_until(&self, condition: impl Fn(&Table) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if condition(&self.table()) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until there is no such server any more.
    pub(crate) async fn closed(&self, id: WorkerId) {
        self.changed_until(|table| !table.servers.contains_key(&id)).await;
    }

    fn find(&self, id: WorkerId) -> Option<Arc<dyn Serves>> {
        self.table().servers.get(&id).cloned()
    }

    fn count(&'static self) -> Counted {
        self.table().connections += 1;
        Counted(self)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nobody panics while holding this lock")
    }
}

/// One connection, as long as it lasts.
struct Counted(&'static Servers);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.table().connections -= 1;
        self.0.changed.notify_waiters();
    }
}

/// How a connection ended that this process served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectionOutcome {
    /// The caller ended it, or never had a right to it.
    Ended,
    /// A read or write of this process failed, for another reason than that the caller is gone.
    SocketFailed,
}

/// Serves one connection from its first frame to its end. Errors go to stderr: the caller cannot be
/// told.
pub(crate) async fn serve_connection(mut opening: Opening) -> ConnectionOutcome {
    let servers = Servers::get();
    let _counted = servers.count();
    let request = match opening.receive_request().await {
        Ok(request) => request,
        // Who speaks another version can at least be told so.
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

/// Makes the task that serves one connection.
pub(crate) fn connection_task(opening: Opening) -> Task {
    task(async {
        serve_connection(opening).await;
    })
}

/// Says how a connection ended that was not opened.
fn not_opened(refused: Result<(), OpeningError>) -> ConnectionOutcome {
    match refused {
        Err(OpeningError::Socket(error)) if Fault::of(&error) != Fault::PeerGone => {
            report(OpeningError::Socket(error));
            ConnectionOutcome::SocketFailed
        }
        // The caller is gone, did not speak in time, or was told why it is refused.
        Ok(()) | Err(_) => ConnectionOutcome::Ended,
    }
}

/// Writes to stderr why a connection was ended.
fn report(error: impl Error) {
    diagnose(format_args!("ended a connection: {}", AnyError::of(&error)));
}

/// Begins what was asked for, if it may be.
async fn begin(
    request: Request,
    settings: Settings,
    servers: &Servers,
) -> Result<Arc<dyn Session>, Refusal> {
    let Request { greeting: theirs, worker, init, functions } = request;
    let ours = greeting();
    if theirs != ours && !settings.other_builds() {
        let why = format!(
            "the worker's build is {:016x}, that of the process that connects {:016x}; \
             `Settings::with_other_builds` of the worker would let it",
            ours.fingerprint, theirs.fingerprint
        );
        return Err(Refusal::OtherBuild { why });
    }
    let server = servers.find(worker).ok_or(Refusal::NoSuchWorker)?;
    if let Some(theirs) = functions
        && let Some(why) = Signature::conflict(&server.signatures(), &theirs)
    {
        return Err(Refusal::OtherTypes { why });
    }
    match init {
        Some(init) => Ok(server.connect(init, settings).await?),
        None => Ok(server.connect_control()),
    }
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
