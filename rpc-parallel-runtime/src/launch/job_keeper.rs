//! The worker server that keeps the jobs of the program, as each process knows it.

use crate::wire::{Settings, WorkerId, fields};

/// The worker server that keeps the jobs of the program.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct JobKeeper {
    pub(crate) id: WorkerId,
    /// The settings of connections to it.
    pub(crate) settings: Settings,
}

fields!(struct JobKeeper { id, settings });
