//! The state of the worker type that has the process functions of the program.

use std::sync::Arc;

use super::context::{Context, ServerInfo};
use super::dispatch::Scope;
use super::state::{BoxError, WorkerState};

/// The worker type whose functions are the process functions of the program.
///
/// `score::run(..)` and `score::reuse()` start workers of this type. Its
/// [`Spawner`](crate::Spawner) configures their processes.
#[derive(Debug)]
pub struct Processes(());

impl Processes {
    /// Makes the scope of a process function on any server.
    pub(super) fn scope(server: ServerInfo) -> Scope<Self, ()> {
        Scope::new(Arc::new(Self(())), Context::new((), server))
    }
}

// Otherwise rustc names this type in errors about types of the user.
#[diagnostic::do_not_recommend]
impl WorkerState for Processes {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        Ok(Self(()))
    }
}
