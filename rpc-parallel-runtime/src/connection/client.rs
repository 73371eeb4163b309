//! The handle through which a process makes calls on a connection.

use std::fmt;
#[cfg(feature = "tracing")]
use std::pin::Pin;
use std::sync::{Arc, Weak};

use super::caller::{Caller, Hold};
use super::error::CallErrorKind;
use super::opening::Opening;
#[cfg(feature = "tracing")]
use super::pipe::Pipe;
use super::process_access::ProcessAccess;
use super::restart::{Connected, Reconnect, RestartableLink};
#[cfg(any(test, fuzzing))]
use super::shared::Connection;
use crate::protocol::Progress;
use crate::wire::{Settings, WorkerId, WorkerLabel};

/// A connection to a worker, which every generated client holds.
///
/// Clones share the connection. It closes when the last clone is dropped, together with the last
/// call and the last pipe that was made through it.
///
/// If the worker has a [`RestartPolicy`](crate::RestartPolicy), a new connection to the restarted
/// worker replaces a lost one.
#[derive(Clone)]
pub struct Client(pub(super) Link);

/// The connection of a client.
#[derive(Clone)]
pub(super) enum Link {
    Fixed(Arc<Hold>),
    Restartable(Arc<RestartableLink>),
}

impl Client {
    /// Starts the driver of a connection that the peer has accepted.
    pub(crate) fn begin(
        opening: Opening,
        id: WorkerId,
        label: WorkerLabel,
        process_access: ProcessAccess,
    ) -> Self {
        Self(Link::Fixed(Arc::new(Hold(Caller::start(opening, id, label, process_access)))))
    }

    /// Returns the open connection of a client that does not replace it. `is_dead` returns whether
    /// the worker's process has exited or is being killed.
    pub(crate) fn into_connected(
        self,
        is_dead: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Connected {
        match self.0 {
            Link::Fixed(hold) => Connected { hold, is_dead: Box::new(is_dead) },
            Link::Restartable(_) => unreachable!("the connection of the client is replaced"),
        }
    }

    /// Returns a client whose connection is replaced whenever it is lost.
    pub(crate) fn restartable(first: Connected, reconnect: Box<dyn Reconnect>) -> Self {
        Self(Link::Restartable(RestartableLink::begin(first, reconnect)))
    }

    /// Returns the id of the worker.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        match &self.0 {
            Link::Fixed(hold) => hold.0.id,
            Link::Restartable(link) => link.id(),
        }
    }

    /// Returns the label of the worker: its name, type and process.
    ///
    /// While the worker is being restarted, this is the label of its last process.
    #[must_use]
    pub fn label(&self) -> Arc<WorkerLabel> {
        match &self.0 {
            Link::Fixed(hold) => hold.0.label.clone(),
            Link::Restartable(link) => link.label(),
        }
    }

    /// Returns the settings of this end of the connection. The limits that the worker announces when
    /// it accepts the connection apply in addition.
    #[must_use]
    pub fn settings(&self) -> Settings {
        match &self.0 {
            Link::Fixed(hold) => hold.0.connection.settings,
            Link::Restartable(link) => link.settings(),
        }
    }

    /// Returns the size limit of the arguments of a call, in bytes: the smaller one of both ends.
    pub(crate) fn max_message_size(&self) -> usize {
        match &self.0 {
            Link::Fixed(hold) => hold.0.connection.max_message_size,
            Link::Restartable(link) => link.max_message_size(),
        }
    }

    /// Closes the connection. Messages that are already queued are still written, unless the worker
    /// reads none of them for 30 s.
    ///
    /// Pending calls fail with [`CallErrorKind::ConnectionClosed`] at once, and pipes end with an
    /// error on both sides. No new connection replaces this one.
    pub fn close(&self) {
        match &self.0 {
            Link::Fixed(hold) => hold.0.close(),
            Link::Restartable(link) => link.close(),
        }
    }

    /// Returns whether the connection is closed, or is lost and will not be replaced.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Link::Fixed(hold) => hold.0.is_over(),
            Link::Restartable(link) => link.is_over(),
        }
    }

    /// Returns whether the connection is lost, and will be replaced.
    pub(crate) fn is_reconnecting(&self) -> bool {
        match &self.0 {
            Link::Fixed(_) => false,
            Link::Restartable(link) => link.connection().is_none(),
        }
    }

    /// Waits until the connection is closed and its queued messages are written, or until it is lost
    /// and will not be replaced, and returns the reason.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it only waits.
    pub async fn closed(&self) -> CallErrorKind {
        let loss = match &self.0 {
            Link::Fixed(hold) => hold.0.over().await,
            Link::Restartable(link) => link.over().await,
        };
        CallErrorKind::from(&*loss)
    }

    /// Returns the client that a pipe has held to keep its connection open, which it does no more.
    #[cfg(feature = "tracing")]
    pub(crate) fn held_by<T: Send + 'static>(pipe: &mut Pipe<T>) -> Option<Self> {
        let hold = pipe.release_keeper()?.downcast::<Hold>().ok()?;
        Some(Self(Link::Fixed(hold)))
    }

    /// Returns a weak reference, which does not keep the connection open.
    #[cfg(feature = "tracing")]
    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(match &self.0 {
            Link::Fixed(hold) => WeakLink::Fixed(Arc::downgrade(hold)),
            Link::Restartable(link) => WeakLink::Restartable(Arc::downgrade(link)),
        })
    }

    /// Returns a future that resolves when calls no longer wait for a new connection. The future
    /// does not keep the connection open. Returns `None` if a lost connection is not replaced.
    #[cfg(feature = "tracing")]
    pub(crate) fn settled(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        match &self.0 {
            Link::Fixed(_) => None,
            Link::Restartable(link) => Some(link.settled()),
        }
    }

    /// Returns a view of the pending calls, which does not keep the connection open.
    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight(match &self.0 {
            Link::Fixed(hold) => Arc::downgrade(&hold.0),
            Link::Restartable(link) => match link.connection() {
                Some(Ok(hold)) => Arc::downgrade(&hold.0),
                Some(Err(_)) | None => Weak::new(),
            },
        })
    }

    /// Returns this end of the current connection.
    #[cfg(any(test, fuzzing))]
    pub(super) fn connection(&self) -> Arc<Connection> {
        self.caller().connection.clone()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn caller(&self) -> Arc<Caller> {
        self.in_flight().0.upgrade().expect("the connection is open")
    }
}

/// A client that does not keep its connection open.
#[cfg(feature = "tracing")]
pub(crate) struct WeakClient(WeakLink);

#[cfg(feature = "tracing")]
enum WeakLink {
    Fixed(Weak<Hold>),
    Restartable(Weak<RestartableLink>),
}

#[cfg(feature = "tracing")]
impl WeakClient {
    /// Returns the client, unless all of its clones were dropped.
    pub(crate) fn upgrade(&self) -> Option<Client> {
        Some(Client(match &self.0 {
            WeakLink::Fixed(hold) => Link::Fixed(hold.upgrade()?),
            WeakLink::Restartable(link) => Link::Restartable(link.upgrade()?),
        }))
    }
}

/// A view of the calls of one connection, which does not keep the connection open.
#[derive(Clone)]
pub(crate) struct InFlight(Weak<Caller>);

impl InFlight {
    /// Returns whether the connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// Shuts down the socket of the connection, because its worker is dead. Frames that were
    /// received before are still handled.
    pub(crate) fn end(&self) {
        if let Some(caller) = self.0.upgrade() {
            caller.connection.hang_up();
        }
    }

    /// Returns the progress of the calls of the connection. Default: no progress, if the connection
    /// has ended.
    pub(crate) fn progress(&self) -> Progress {
        self.0.upgrade().map(|it| it.connection.lock().machine.progress()).unwrap_or_default()
    }

    /// Adds the names of the functions of pending calls, without duplicates, until `names` holds
    /// `max` of them.
    pub(crate) fn add_functions(&self, max: usize, names: &mut Vec<String>) {
        let Some(caller) = self.0.upgrade() else { return };
        for function in caller.connection.lock().machine.called_functions() {
            let name = format!("{}::{}", function.worker_trait(), function.name());
            if names.len() < max && !names.contains(&name) {
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
