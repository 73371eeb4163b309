//! The description of a worker type, which does not depend on the Rust type.
//!
//! `WorkerType::new` is in `server.rs`, because it names the function that starts a server.

use std::fmt;

use super::serves::StartServer;
use crate::wire::{FunctionInfo, SourceLocation, WorkerTrait, WorkerTypeId};

/// The description of a worker type: a type with a `#[worker]` impl of a worker trait.
pub struct WorkerType {
    pub(super) id: WorkerTypeId,
    pub(super) name: &'static str,
    pub(super) place: SourceLocation,
    pub(super) worker_trait: WorkerTrait,
    pub(super) functions: fn() -> &'static [FunctionInfo],
    pub(crate) start: StartServer,
}

impl WorkerType {
    #[doc(hidden)]
    #[must_use]
    pub const fn with_id(self, id: &str) -> Self {
        Self { id: WorkerTypeId::chosen(id), ..self }
    }

    /// Returns the id that identifies the type on the wire.
    #[must_use]
    pub const fn id(&self) -> WorkerTypeId {
        self.id
    }

    /// Returns the name of the type, as written in the source.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the source location of its implementation of the worker trait.
    #[must_use]
    pub const fn source_location(&self) -> &SourceLocation {
        &self.place
    }

    /// Returns the name of the worker trait that it implements.
    #[must_use]
    pub const fn worker_trait(&self) -> &'static str {
        self.worker_trait.name
    }

    /// Returns the functions of the worker trait, in the order of their declarations.
    #[must_use]
    pub fn functions(&self) -> &'static [FunctionInfo] {
        (self.functions)()
    }

    /// Returns the path of the type: its module and name.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.place.module, self.name)
    }
}

impl fmt::Debug for WorkerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerType")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("worker_trait", &self.worker_trait.name)
            .finish_non_exhaustive()
    }
}
