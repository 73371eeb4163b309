//! The registry of the worker types in this executable. No other file names `inventory`.

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

/// The registration of a worker type. `#[worker]` on an impl makes it.
#[doc(hidden)]
pub struct Registered(pub &'static WorkerType);

inventory::collect!(Registered);

#[doc(hidden)]
pub use inventory as submit;

/// The process functions of this executable. `#[process]` on a function registers it.
#[cfg(feature = "pool")]
pub(super) mod process_functions {
    use std::os::fd::OwnedFd;
    use std::sync::LazyLock;

    use super::{FunctionInfo, WorkerType};
    use crate::wire::{FunctionId, WorkerId};
    use crate::worker::dispatch::Handle;
    use crate::worker::processes::Processes;
    use crate::worker::state::OneWorkerTraitPerType;

    /// A process function, as its worker calls it.
    pub(crate) type ProcessHandle = &'static dyn Handle<Processes, ()>;

    /// The registration of a process function. `#[process]` makes it.
    ///
    /// With it, the layer above passes down the function that accepts connections to the keeper of
    /// jobs. So only programs with process functions have one.
    #[doc(hidden)]
    pub struct RegisteredProcess(pub ProcessHandle, pub AcceptJobs);

    /// Serves a connection to the keeper of jobs, which has this id. The function does not wait.
    #[doc(hidden)]
    #[derive(Clone, Copy)]
    pub struct AcceptJobs(pub(crate) fn(WorkerId, OwnedFd));

    inventory::collect!(RegisteredProcess);

    /// Returns all process functions, sorted by path.
    pub(crate) fn handles() -> &'static [ProcessHandle] {
        static HANDLES: LazyLock<Vec<ProcessHandle>> = LazyLock::new(|| {
            let mut sorted: Vec<ProcessHandle> = Vec::new();
            // Insertion sort, as for worker types.
            for RegisteredProcess(handle, _) in inventory::iter::<RegisteredProcess>() {
                let name = |it: &ProcessHandle| (it.info().path(), it.info().signature());
                let at = sorted.partition_point(|it| name(it) <= name(handle));
                sorted.insert(at, *handle);
            }
            sorted
        });
        &HANDLES
    }

    /// Returns the descriptions of all process functions, in the order of [`handles`].
    pub(crate) fn infos() -> &'static [FunctionInfo] {
        static INFOS: LazyLock<Vec<FunctionInfo>> =
            LazyLock::new(|| handles().iter().map(|it| *it.info()).collect());
        &INFOS
    }

    /// Finds a process function by its id.
    pub(crate) fn find_process(id: FunctionId) -> Option<ProcessHandle> {
        handles().iter().copied().find(|it| it.info().id() == id)
    }

    /// Returns the function that serves connections to the keeper of jobs, if this executable has
    /// process functions.
    pub(crate) fn accept_jobs() -> Option<AcceptJobs> {
        inventory::iter::<RegisteredProcess>().next().map(|it| it.1)
    }

    /// Returns the worker type of process functions, if this executable has one.
    pub(super) fn worker_type() -> Option<&'static WorkerType> {
        (!handles().is_empty()).then_some(Processes::WORKER_TYPE)
    }
}

/// The description of a worker type: a type with a `#[worker]` impl of a worker trait.
pub struct WorkerType {
    id: WorkerTypeId,
    name: &'static str,
    place: SourceLocation,
    worker_trait: WorkerTrait,
    functions: fn() -> &'static [FunctionInfo],
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
            functions: S::Client::functions,
            start: start_server::<S>,
        }
    }

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

/// All worker types of this executable, sorted by path.
///
/// `Display` writes a table of the types, their functions and the ids of both. A program that is
/// started with `RPC_PARALLEL_LIST=1` in its environment prints this table and exits.
///
/// ```
/// use rpc_parallel::expert::registry;
///
/// for worker_type in registry().worker_types() {
///     println!("{} implements {}", worker_type.path(), worker_type.worker_trait());
/// }
/// ```
#[derive(Debug)]
pub struct Registry {
    worker_types: Vec<&'static WorkerType>,
}

/// Returns all worker types of this executable.
#[must_use]
pub fn registry() -> Registry {
    let mut sorted: Vec<&WorkerType> = Vec::new();
    // Insertion sort: there are few worker types, and `sort` of std generates much code.
    for worker_type in worker_types() {
        let name = |it: &WorkerType| (it.path(), it.worker_trait());
        let at = sorted.partition_point(|it| name(it) <= name(worker_type));
        sorted.insert(at, worker_type);
    }
    Registry { worker_types: sorted }
}

fn worker_types() -> impl Iterator<Item = &'static WorkerType> {
    let written = inventory::iter::<Registered>().map(|it| it.0);
    #[cfg(feature = "pool")]
    let written = written.chain(process_functions::worker_type());
    written
}

/// Finds a worker type by its id.
pub(crate) fn find(id: WorkerTypeId) -> Option<&'static WorkerType> {
    worker_types().find(|it| it.id == id)
}

/// Two functions or two worker types of this executable have the same id.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{one} and {other} have the same id {id:016x}; \
     rename one of them, or set another id with `#[worker(id = \"..\")]` or \
     `#[process(id = \"..\")]`"
)]
pub struct DuplicateId {
    id: u64,
    one: String,
    other: String,
}

debug_as_display!(DuplicateId);

impl Registry {
    /// Returns all worker types, sorted by path.
    pub fn worker_types(&self) -> impl Iterator<Item = &'static WorkerType> {
        self.worker_types.iter().copied()
    }

    /// Checks that the ids of all worker types differ, and those of all functions.
    ///
    /// # Errors
    ///
    /// Two declarations have the same id.
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
            // Types that implement the same trait share its functions, which is not a duplicate.
            for function in worker_type.functions() {
                let (place, id) = (function.source_location(), function.id().get());
                claim(id, "function", &function.path(), place)?;
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
                let module = match function.is_of_process() {
                    true => format!("{}::", function.source_location().module),
                    false => String::new(),
                };
                writeln!(f, "  {}  {module}{}", function.id(), function.signature())?;
            }
        }
        Ok(())
    }
}

/// Returns the greeting of this executable, which identifies its build.
pub(crate) fn greeting() -> Greeting {
    static GREETING: OnceLock<Greeting> = OnceLock::new();
    *GREETING.get_or_init(|| Greeting::new(&[env!("CARGO_PKG_VERSION"), &digest(), &build_id()]))
}

/// Returns a digest of all ids, which does not depend on their order.
fn digest() -> String {
    let types = worker_types();
    let ids = types.flat_map(|it| {
        let functions = it.functions().iter().map(|it| it.id().get());
        functions.chain([it.id.get()])
    });
    // The ids are hashes, so that different sets almost certainly have different sums.
    format!("{:016x}", ids.fold(0, u64::wrapping_add))
}
