//! What can be asked of a worker beside its functions.

use crate::connection::Call;
use crate::worker::{WorkerClient, WorkerStats, stats};

/// What every client can ask of the worker at the other end of its connection.
///
/// A function of the worker's trait comes first where it has one of these names.
pub trait Control: WorkerClient {
    /// Asks how the worker's process is doing.
    ///
    /// It is a call like others: it waits while a function of the worker computes on the only thread
    /// that there is.
    fn stats(&self) -> Call<WorkerStats> {
        stats(self.client())
    }
}

impl<C: WorkerClient> Control for C {}
