//! How functions and worker types are declared: their names, their places and their ids.

use super::id::{FunctionId, WorkerTypeId};

/// Where something is declared.
#[derive(Clone, Copy, Debug)]
pub struct SourceLocation {
    /// The package.
    pub package: &'static str,
    /// The version of the package.
    pub version: &'static str,
    /// The path of the module.
    pub module: &'static str,
    /// The file.
    pub file: &'static str,
    /// The line in the file.
    pub line: u32,
}

impl SourceLocation {
    const fn hashed(&self) -> (&str, &str, &str) {
        (self.package, self.version, self.module)
    }
}

/// One function of a worker trait.
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
}

impl FunctionInfo {
    /// Describes a function.
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
        let (one_way, no_cancel) = (false, false);
        Self { id, name, worker_trait, place, arguments, result, one_way, no_cancel }
    }

    /// Says that the function gives no answer.
    #[doc(hidden)]
    #[must_use]
    pub const fn one_way(self) -> Self {
        Self { one_way: true, ..self }
    }

    /// Says that the function goes on when its caller wants no answer any more.
    #[doc(hidden)]
    #[must_use]
    pub const fn no_cancel(self) -> Self {
        Self { no_cancel: true, ..self }
    }

    /// Gives the function an id that its user has chosen.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_id(self, id: &str) -> Self {
        Self { id: FunctionId::chosen(id), ..self }
    }

    /// Returns the id that travels.
    #[must_use]
    pub const fn id(&self) -> FunctionId {
        self.id
    }

    /// Returns the name of the function.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the name of the worker trait that declares it.
    #[must_use]
    pub const fn worker_trait(&self) -> &'static str {
        self.worker_trait
    }

    /// Returns where its worker trait is declared.
    #[must_use]
    pub const fn place(&self) -> &SourceLocation {
        &self.place
    }

    /// Returns its signature, with types as written: `sum(&[u64])->u64`.
    #[must_use]
    pub fn signature(&self) -> String {
        format!("{}({})->{}", self.name, self.arguments, self.result)
    }
}

/// A worker trait.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct WorkerTrait {
    pub name: &'static str,
    pub place: SourceLocation,
    pub functions: &'static [FunctionInfo],
}

/// Fails to compile when two functions of a worker trait have the same id.
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
