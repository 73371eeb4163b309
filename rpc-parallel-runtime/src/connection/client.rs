//! A handle on a connection, for those who call.

use std::fmt;
use std::sync::Arc;

use super::caller::{Autopsy, Caller};
use super::error::CallErrorKind;
use super::opening::Opening;
use crate::wire::{Label, WorkerId};

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

    pub(super) fn caller(&self) -> &Arc<Caller> {
        &self.0.0
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
