//! The registry of the worker types in this executable.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use super::build_id::build_id;
#[cfg(feature = "pool")]
use super::processes::Processes;
#[cfg(feature = "pool")]
use super::registration::process_functions::handles;
use super::registration::registered_types;
#[cfg(feature = "pool")]
use super::state::OneWorkerTraitPerType;
use super::worker_type::WorkerType;
use crate::wire::debug_as_display;
use crate::wire::{Greeting, SourceLocation, WorkerTypeId};

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
    let types = registered_types();
    #[cfg(feature = "pool")]
    let types = types.chain((!handles().is_empty()).then_some(Processes::WORKER_TYPE));
    types
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
        // Not a `HashMap`: it would draw the keys of this thread's hash tables, which all workers that
        // are forked from this process would share.
        let mut claims = BTreeMap::new();
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
