//! What `#[worker]` has registered in this executable. No other file names `inventory`.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use super::build_id::build_id;
use super::declares::WorkerClient;
use super::server::{StartServer, start_server};
use super::state::Served;
use crate::wire::debug_as_display;
use crate::wire::{
    FunctionInfo, Greeting, SourceLocation, WorkerTrait, WorkerTypeId, worker_type_id,
};

/// A worker type that `#[worker]` on an impl has registered.
#[doc(hidden)]
pub struct Registered(pub &'static WorkerType);

inventory::collect!(Registered);

#[doc(hidden)]
pub use inventory as submit;

/// A type that implements a worker trait.
pub struct WorkerType {
    id: WorkerTypeId,
    name: &'static str,
    place: SourceLocation,
    worker_trait: WorkerTrait,
    pub(crate) start: StartServer,
}

impl WorkerType {
    #[doc(hidden)]
    #[must_use]
    pub const fn new<S: Served>(
        name: &'static str,
        worker_trait: &str,
        place: SourceLocation,
    ) -> Self {
        Self {
            id: worker_type_id(name, worker_trait, &place),
            name,
            place,
            worker_trait: S::Client::WORKER_TRAIT,
            start: start_server::<S>,
        }
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn with_id(self, id: &str) -> Self {
        Self { id: WorkerTypeId::chosen(id), ..self }
    }

    /// Returns the id that travels.
    #[must_use]
    pub const fn id(&self) -> WorkerTypeId {
        self.id
    }

    /// Returns the name of the type, as written.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns where it implements its worker trait.
    #[must_use]
    pub const fn place(&self) -> &SourceLocation {
        &self.place
    }

    /// Returns the name of its worker trait.
    #[must_use]
    pub const fn worker_trait(&self) -> &'static str {
        self.worker_trait.name
    }

    /// Returns its functions.
    #[must_use]
    pub const fn functions(&self) -> &'static [FunctionInfo] {
        self.worker_trait.functions
    }

    /// Returns the name of the type with its module.
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

/// Every worker type of this executable, sorted by path.
///
/// It is written as a table; `RPC_PARALLEL_LIST=1` makes a program print it and exit.
#[derive(Debug)]
pub struct Registry {
    worker_types: Vec<&'static WorkerType>,
}

/// Returns what is registered in this executable.
#[must_use]
pub fn registry() -> Registry {
    let mut sorted: Vec<&WorkerType> = Vec::new();
    // Inserted one by one: there are few, and a sort of std is much code.
    for worker_type in worker_types() {
        let name = |it: &WorkerType| (it.path(), it.worker_trait());
        let at = sorted.partition_point(|it| name(it) <= name(worker_type));
        sorted.insert(at, worker_type);
    }
    Registry { worker_types: sorted }
}

fn worker_types() -> impl Iterator<Item = &'static WorkerType> {
    inventory::iter::<Registered>().map(|it| it.0)
}

/// Finds a worker type by its id.
pub(crate) fn find(id: WorkerTypeId) -> Option<&'static WorkerType> {
    worker_types().find(|it| it.id == id)
}

/// Two declarations of this executable have the same id.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{one} and {other} have the same id {id:016x}; rename one, or give one another `#[worker(id = \"..\")]`"
)]
pub struct DuplicateId {
    id: u64,
    one: String,
    other: String,
}

debug_as_display!(DuplicateId);

impl Registry {
    /// Returns the worker types.
    pub fn worker_types(&self) -> impl Iterator<Item = &'static WorkerType> {
        self.worker_types.iter().copied()
    }

    /// Checks that no two declarations have the same id.
    pub(crate) fn check(&self) -> Result<(), DuplicateId> {
        let mut claims = HashMap::new();
        let mut claim = |id, what, path: &str, place: &SourceLocation| {
            let claim = format!("{what} `{path}` ({}:{})", place.file, place.line);
            match claims.insert((what, id), claim.clone()) {
                Some(other) if other != claim => Err(DuplicateId { id, one: other, other: claim }),
                _ => Ok(()),
            }
        };
        for worker_type in &self.worker_types {
            let id = worker_type.id.get();
            claim(id, "worker type", &worker_type.path(), &worker_type.place)?;
            // Types that implement the same trait share its functions: that is no second claim.
            for function in worker_type.functions() {
                let (place, id) = (function.place(), function.id().get());
                let name = (place.module, function.worker_trait(), function.name());
                let path = format!("{}::{}::{}", name.0, name.1, name.2);
                claim(id, "function", &path, place)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for worker_type in &self.worker_types {
            let (id, path) = (worker_type.id, worker_type.path());
            writeln!(f, "{id}  {path}: {}", worker_type.worker_trait())?;
            for function in worker_type.functions() {
                writeln!(f, "  {}  {}", function.id(), function.signature())?;
            }
        }
        Ok(())
    }
}

/// Returns the greeting of this executable: what tells its build from others.
pub(crate) fn greeting() -> Greeting {
    static GREETING: OnceLock<Greeting> = OnceLock::new();
    *GREETING.get_or_init(|| Greeting::new(&[env!("CARGO_PKG_VERSION"), &digest(), &build_id()]))
}

/// Sums up the table: the same whatever the order in which it was collected.
fn digest() -> String {
    let types = worker_types();
    let ids = types.flat_map(|it| {
        let functions = it.functions().iter().map(|it| it.id().get());
        functions.chain([it.id.get()])
    });
    // The ids are hashes already, so that their sum tells sets of them apart.
    format!("{:016x}", ids.fold(0, u64::wrapping_add))
}
