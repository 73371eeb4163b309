//! A server of any worker type, as its connections see it.

use std::pin::Pin;
use std::sync::Arc;

#[cfg(feature = "pool")]
use super::items::{Computing, ItemRun, MapRequest};
use crate::connection::Session;
use crate::wire::{PanicReport, Refusal, Settings, Signature, WorkerId, WorkerLabel, fields};

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A server of any worker type.
pub(crate) trait Serves: Send + Sync {
    /// Begins a session for a new connection with these settings.
    fn connect(
        self: Arc<Self>,
        init: Vec<u8>,
        settings: Settings,
    ) -> Boxed<Result<Arc<dyn Session>, InitError>>;

    /// Begins a session for a connection that calls built-in functions only.
    fn connect_control(&self, settings: Settings) -> Arc<dyn Session>;

    /// Runs functions on the items of a map, until the map ends.
    #[cfg(feature = "pool")]
    fn run_items(
        self: Arc<Self>,
        request: MapRequest,
        settings: Settings,
        run: Arc<ItemRun>,
    ) -> Computing;

    /// Returns the signatures of its functions, to compare them with those of another program.
    fn signatures(&self) -> Vec<Signature>;

    /// Runs `on_shutdown` of its state.
    ///
    /// # Errors
    ///
    /// `on_shutdown` panicked.
    fn shut_down(self: Arc<Self>) -> Boxed<Result<(), PanicReport>>;
}

/// A function that starts a server of one worker type: it runs `init` of the state.
pub(crate) type StartServer =
    fn(WorkerId, WorkerLabel, Vec<u8>) -> Boxed<Result<Arc<dyn Serves>, InitError>>;

/// The `init` of a worker or of a connection returned no state.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum InitError {
    /// `init` returned an error with this text.
    Failed { why: String },
    /// `init` panicked.
    Panicked(PanicReport),
    /// The argument of `init` could not be decoded.
    Undecodable { why: String },
}

fields!(enum InitError { 0 => Failed { why }, 1 => Panicked(panic), 2 => Undecodable { why } });

impl From<InitError> for Refusal {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Failed { why } => Self::Init { why },
            InitError::Panicked(panic) => Self::Panicked(panic),
            InitError::Undecodable { why } => Self::Undecodable { why },
        }
    }
}
