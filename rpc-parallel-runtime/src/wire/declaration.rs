//! Declarations of functions and worker types: their names, source locations and ids.

use super::id::{FunctionId, WorkerTypeId};

/// The location in the source code where a trait or an implementation is declared.
#[derive(Clone, Copy, Debug)]
pub struct SourceLocation {
    /// The name of the package, as in `CARGO_PKG_NAME`.
    pub package: &'static str,
    /// The version of the package, as in `CARGO_PKG_VERSION`.
    pub version: &'static str,
    /// The path of the module, as in [`module_path!`].
    pub module: &'static str,
    /// The path of the file, as in [`file!`].
    pub file: &'static str,
    /// The line in the file, from 1.
    pub line: u32,
}

impl SourceLocation {
    /// Returns the fields that ids depend on.
    const fn hashed(&self) -> (&str, &str, &str) {
        (self.package, self.version, self.module)
    }
}

/// The description of one function of a worker trait, or of a process function: its id, name,
/// signature and source location.
///
/// ```
/// #[rpc_parallel::worker]
/// pub trait Arithmetic {
///     async fn sum(&self, xs: &[u64]) -> u64;
/// }
///
/// let info = ArithmeticClient::SUM.info();
/// assert_eq!(info.name(), "sum");
/// assert_eq!(info.worker_trait(), "Arithmetic");
/// assert_eq!(info.signature(), "sum(&[u64])->u64");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FunctionInfo {
    pub(crate) id: FunctionId,
    pub(crate) name: &'static str,
    pub(crate) worker_trait: &'static str,
    pub(crate) place: SourceLocation,
    pub(crate) arguments: &'static str,
    pub(crate) result: &'static str,
    pub(crate) one_way: bool,
    pub(crate) no_cancel: bool,
    /// Whether this is a function with `#[process]`, which belongs to no trait.
    pub(crate) of_process: bool,
}

impl FunctionInfo {
    /// Describes a function that is cancelled with its call and returns an answer.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        name: &'static str,
        worker_trait: &'static str,
        place: SourceLocation,
        arguments: &'static str,
        result: &'static str,
    ) -> Self {
        let id = FunctionId::of_declaration(place.hashed(), worker_trait, name, arguments, result);
        Self::with(id, name, worker_trait, place, (arguments, result), false)
    }

    /// Describes a process function. Errors write its module where they write the trait of a worker
    /// function.
    #[doc(hidden)]
    #[must_use]
    pub const fn of_process(
        name: &'static str,
        place: SourceLocation,
        arguments: &'static str,
        result: &'static str,
    ) -> Self {
        // No trait has an empty name, so the id differs from that of every worker function.
        let id = FunctionId::of_declaration(place.hashed(), "", name, arguments, result);
        Self::with(id, name, place.module, place, (arguments, result), true)
    }

    const fn with(
        id: FunctionId,
        name: &'static str,
        worker_trait: &'static str,
        place: SourceLocation,
        (arguments, result): (&'static str, &'static str),
        of_process: bool,
    ) -> Self {
        let (one_way, no_cancel) = (false, false);
        Self { id, name, worker_trait, place, arguments, result, one_way, no_cancel, of_process }
    }

    /// Declares the function one-way: it sends no answer.
    #[doc(hidden)]
    #[must_use]
    pub const fn one_way(self) -> Self {
        Self { one_way: true, ..self }
    }

    /// Declares that the function continues when its caller cancels the call.
    #[doc(hidden)]
    #[must_use]
    pub const fn no_cancel(self) -> Self {
        Self { no_cancel: true, ..self }
    }

    /// Sets an id that the user has chosen, instead of the hash of the declaration.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_id(self, id: &str) -> Self {
        Self { id: FunctionId::chosen(id), ..self }
    }

    /// Returns the id that identifies the function on the wire.
    #[must_use]
    pub const fn id(&self) -> FunctionId {
        self.id
    }

    /// Returns the name of the function.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the name of the worker trait that declares the function. Of a process function,
    /// returns the path of its module.
    #[must_use]
    pub const fn worker_trait(&self) -> &'static str {
        self.worker_trait
    }

    /// Returns the source location of the worker trait that declares the function, or of the process
    /// function.
    #[must_use]
    pub const fn source_location(&self) -> &SourceLocation {
        &self.place
    }

    /// Returns whether this is a process function.
    pub(crate) const fn is_of_process(&self) -> bool {
        self.of_process
    }

    /// Returns the path of the function: its module, the trait if it is a worker function, and its
    /// name.
    pub(crate) fn path(&self) -> String {
        let (module, name) = (self.place.module, self.name);
        match self.of_process {
            true => format!("{module}::{name}"),
            false => format!("{module}::{}::{name}", self.worker_trait),
        }
    }

    /// Returns the signature of the function, with types as written in the source and without
    /// spaces: `sum(&[u64])->u64`.
    #[must_use]
    pub fn signature(&self) -> String {
        format!("{}({})->{}", self.name, self.arguments, self.result)
    }
}

/// The description of a worker trait: its name, source location and functions.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct WorkerTrait {
    pub name: &'static str,
    pub place: SourceLocation,
    pub functions: &'static [FunctionInfo],
}

/// Fails compilation if two functions of a worker trait have the same id.
#[doc(hidden)]
pub const fn assert_distinct(functions: &[FunctionInfo]) {
    let mut one = 0;
    while one < functions.len() {
        let mut other = one + 1;
        while other < functions.len() {
            assert!(
                functions[one].id.get() != functions[other].id.get(),
                "two functions of this worker trait have the same id; rename one of them"
            );
            other += 1;
        }
        one += 1;
    }
}

/// Hashes the declaration of a worker type.
pub(crate) const fn worker_type_id(
    worker_type: &str,
    worker_trait: &str,
    place: &SourceLocation,
) -> WorkerTypeId {
    WorkerTypeId::of_declaration(place.hashed(), worker_type, worker_trait)
}
