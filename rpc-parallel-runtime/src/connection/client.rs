//! A handle on a connection, for those who call.

use std::fmt;
#[cfg(feature = "tracing")]
use std::pin::Pin;
use std::sync::{Arc, Weak};

use super::caller::{Caller, FailureLookup};
use super::error::CallErrorKind;
use super::opening::Opening;
use super::pending::Progress;
use super::restart::{Connected, Reconnect, RestartableLink};
#[cfg(any(test, fuzzing))]
use super::shared::Connection;
use crate::wire::{Settings, WorkerId, WorkerLabel};

/// What every generated client holds: one connection to a worker.
///
/// Clones share the connection. It ends when the last clone is dropped, and the last call and the
/// last pipe that was made by it.
///
/// Where the worker is [restarted](crate::RestartPolicy), a connection that is lost is replaced.
#[derive(Clone)]
pub struct Client(pub(super) Link);

/// What leads from a client to a connection.
#[derive(Clone)]
pub(super) enum Link {
    Fixed(Arc<Hold>),
    Restartable(Arc<RestartableLink>),
}

/// Keeps a connection open.
pub(super) struct Hold(pub(super) Arc<Caller>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Client {
    /// Begins to call the peer of a connection that has been welcomed.
    ///
    /// `failure_lookup` is asked when the connection has broken: it knows how the worker ended.
    pub(crate) fn begin(
        opening: Opening,
        id: WorkerId,
        label: WorkerLabel,
        failure_lookup: FailureLookup,
    ) -> Self {
        Self(Link::Fixed(Arc::new(Hold(Caller::start(opening, id, label, failure_lookup)))))
    }

    /// Begins to replace a connection whenever it is lost.
    pub(crate) fn restartable(first: Connected, reconnect: Box<dyn Reconnect>) -> Self {
        Self(Link::Restartable(RestartableLink::begin(first, reconnect)))
    }

    /// Returns the id of the worker at the other end.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        match &self.0 {
            Link::Fixed(hold) => hold.0.id,
            Link::Restartable(restart) => restart.id(),
        }
    }

    /// Returns the name, type and process of the worker at the other end; of the last one, while it
    /// is restarted.
    #[must_use]
    pub fn label(&self) -> Arc<WorkerLabel> {
        match &self.0 {
            Link::Fixed(hold) => hold.0.label.clone(),
            Link::Restartable(restart) => restart.label(),
        }
    }

    /// Returns the settings that both ends of the connection share.
    #[must_use]
    pub fn settings(&self) -> Settings {
        match &self.0 {
            Link::Fixed(hold) => hold.0.connection.settings,
            Link::Restartable(restart) => restart.settings(),
        }
    }

    /// Closes the connection, after the calls that have been sent. No other replaces it.
    ///
    /// Calls that wait for an answer fail, and pipes end with an error, on both sides.
    pub fn close(&self) {
        match &self.0 {
            Link::Fixed(hold) => hold.0.close(),
            Link::Restartable(restart) => restart.close(),
        }
    }

    /// Says whether the connection is closed or lost, and not to be replaced.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Link::Fixed(hold) => hold.0.is_over(),
            Link::Restartable(restart) => restart.is_over(),
        }
    }

    /// Says whether the connection is lost, and will be replaced.
    pub(crate) fn is_between(&self) -> bool {
        match &self.0 {
            Link::Fixed(_) => false,
            Link::Restartable(restart) => restart.connection().is_none(),
        }
    }

    /// Waits until the connection is closed or lost, and not to be replaced, and says why.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn closed(&self) -> CallErrorKind {
        let loss = match &self.0 {
            Link::Fixed(hold) => hold.0.over().await,
            Link::Restartable(restart) => restart.over().await,
        };
        CallErrorKind::from(&*loss)
    }

    /// Returns a way back that keeps no connection open.
    #[cfg(feature = "tracing")]
    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(match &self.0 {
            Link::Fixed(hold) => WeakLink::Fixed(Arc::downgrade(hold)),
            Link::Restartable(restart) => WeakLink::Restartable(Arc::downgrade(restart)),
        })
    }

    /// Returns what waits until calls need not wait for a connection, and keeps none open; none if
    /// no connection ever replaces this one.
    #[cfg(feature = "tracing")]
    pub(crate) fn settled(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        match &self.0 {
            Link::Fixed(_) => None,
            Link::Restartable(restart) => Some(restart.settled()),
        }
    }

    /// Returns what can tell which calls of this connection wait, and does not keep it open.
    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight(match &self.0 {
            Link::Fixed(hold) => Arc::downgrade(&hold.0),
            Link::Restartable(restart) => match restart.connection() {
                Some(Ok(hold)) => Arc::downgrade(&hold.0),
                Some(Err(_)) | None => Weak::new(),
            },
        })
    }

    /// Returns this end of the connection that there is now.
    #[cfg(any(test, fuzzing))]
    pub(super) fn connection(&self) -> Arc<Connection> {
        self.in_flight().0.upgrade().expect("there is a connection").connection.clone()
    }
}

/// A client that keeps no connection open.
#[cfg(feature = "tracing")]
pub(crate) struct WeakClient(WeakLink);

#[cfg(feature = "tracing")]
enum WeakLink {
    Fixed(Weak<Hold>),
    Restartable(Weak<RestartableLink>),
}

#[cfg(feature = "tracing")]
impl WeakClient {
    /// Returns the client, unless all others are gone.
    pub(crate) fn upgrade(&self) -> Option<Client> {
        Some(Client(match &self.0 {
            WeakLink::Fixed(hold) => Link::Fixed(hold.upgrade()?),
            WeakLink::Restartable(restart) => Link::Restartable(restart.upgrade()?),
        }))
    }
}

/// The calls of one connection, as seen by who does not take part in it.
pub(crate) struct InFlight(Weak<Caller>);

impl InFlight {
    /// Says whether the connection is no more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// Ends the connection, after what has been received already: its worker is dead.
    pub(crate) fn end(&self) {
        if let Some(caller) = self.0.upgrade() {
            caller.connection.outbox.hang_up();
        }
    }

    /// Returns how far the calls of the connection have come; nothing if it is no more.
    pub(crate) fn progress(&self) -> Progress {
        self.0.upgrade().map(|it| it.pending().progress()).unwrap_or_default()
    }

    /// Adds the names of the functions whose answers are waited for, each once.
    pub(crate) fn add_functions(&self, most: usize, names: &mut Vec<String>) {
        let Some(caller) = self.0.upgrade() else { return };
        for function in caller.pending().functions() {
            let name = format!("{}::{}", function.worker_trait(), function.name());
            if names.len() < most && !names.contains(&name) {
                names.push(name);
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("worker", &self.label().to_string())
            .field("id", &self.worker_id())
            .finish_non_exhaustive()
    }
}
