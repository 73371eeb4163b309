//! A handle on a connection, for those who call.

use std::fmt;
use std::sync::{Arc, Weak};

use super::caller::{Autopsy, Caller};
use super::error::CallErrorKind;
use super::opening::Opening;
use crate::wire::{Label, Settings, WorkerId};

/// What every generated client holds: one connection to a worker.
///
/// Clones share the connection. It ends when the last clone is dropped, and the last call and the
/// last pipe that was made by it.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Hold>);

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
    /// `autopsy` is asked when the connection has broken: it knows how the worker ended.
    pub(crate) fn begin(opening: Opening, id: WorkerId, label: Label, autopsy: Autopsy) -> Self {
        Self(Arc::new(Hold(Caller::start(opening, id, label, autopsy))))
    }

    /// Returns the id of the worker at the other end.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        self.caller().id
    }

    /// Returns the name, type and process of the worker at the other end.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.caller().label
    }

    /// Returns the settings that both ends of the connection share.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.caller().connection.settings
    }

    /// Closes the connection, after the calls that have been sent.
    ///
    /// Calls that wait for an answer fail, and pipes end with an error, on both sides.
    pub fn close(&self) {
        self.caller().close();
    }

    /// Says whether the connection is closed or lost.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.caller().is_over()
    }

    /// Waits until the connection is closed or lost, and says why.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn closed(&self) -> CallErrorKind {
        let loss = self.caller().over().await;
        CallErrorKind::from(&*loss)
    }

    /// Returns what can tell which calls of this connection wait, and does not keep it open.
    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight(Arc::downgrade(self.caller()))
    }

    pub(super) fn caller(&self) -> &Arc<Caller> {
        &self.0.0
    }
}

/// The calls of one connection, as seen by who does not take part in it.
pub(crate) struct InFlight(Weak<Caller>);

impl InFlight {
    /// Says whether the connection is no more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
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
