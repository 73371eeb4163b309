//! What generated code registers in this executable. No other file names `inventory`.

use super::worker_type::WorkerType;

/// The registration of a worker type. `#[worker]` on an impl makes it.
#[doc(hidden)]
pub struct Registered(pub &'static WorkerType);

inventory::collect!(Registered);

#[doc(hidden)]
pub use inventory as submit;

/// Returns the worker types that are registered, in any order.
pub(super) fn registered_types() -> impl Iterator<Item = &'static WorkerType> {
    inventory::iter::<Registered>().map(|it| it.0)
}

/// The process functions of this executable. `#[process]` on a function registers it.
#[cfg(feature = "pool")]
pub(super) mod process_functions {
    use std::os::fd::OwnedFd;
    use std::sync::LazyLock;

    use crate::wire::{FunctionId, FunctionInfo, WorkerId};
    use crate::worker::dispatch::Handle;
    use crate::worker::processes::Processes;

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
}
