//! Maps function ids to positions in the dispatch table of a worker type.
//!
//! The index does not depend on the worker type, so that it is compiled once per program.

use crate::wire::{FunctionId, FunctionInfo, Signature, WorkerLabel};

/// The functions of one worker type, indexed by their id.
pub(super) struct FunctionIndex {
    /// The functions in the order of the dispatch table.
    functions: Vec<&'static FunctionInfo>,
    /// The ids and positions of the functions, sorted by id.
    sorted: Vec<(FunctionId, usize)>,
}

impl FunctionIndex {
    /// Creates the index from the functions, in the order of the dispatch table.
    pub(super) fn new(functions: Vec<&'static FunctionInfo>) -> Self {
        // Insertion sort: there are few functions, and `sort` of std generates much code.
        let mut sorted: Vec<(FunctionId, usize)> = Vec::with_capacity(functions.len());
        for (position, info) in functions.iter().enumerate() {
            let at = sorted.partition_point(|(id, _)| *id < info.id());
            sorted.insert(at, (info.id(), position));
        }
        Self { functions, sorted }
    }

    /// Returns the position of a function in the dispatch table.
    pub(super) fn find(&self, id: FunctionId) -> Option<usize> {
        let at = self.sorted.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.sorted[at].1)
    }

    pub(super) fn info(&self, id: FunctionId) -> Option<&'static FunctionInfo> {
        self.find(id).map(|at| self.functions[at])
    }

    /// Returns the signatures of all functions, for errors.
    pub(super) fn names(&self) -> Vec<String> {
        self.functions.iter().map(|it| it.signature()).collect()
    }

    /// Returns the signatures of all functions, to compare them with those of another program.
    pub(super) fn signatures(&self) -> Vec<Signature> {
        self.functions.iter().map(|it| Signature::of(it)).collect()
    }

    /// Returns whether a function is dropped when its caller drops the call.
    pub(super) fn may_cancel(&self, id: FunctionId) -> bool {
        self.info(id).is_none_or(|it| !it.no_cancel)
    }

    /// Describes a worker and one of its one-way functions, for an error.
    pub(super) fn describe(&self, label: &WorkerLabel, id: FunctionId) -> String {
        match self.info(id) {
            Some(info) => {
                format!("{label}: one-way function `{}::{}`", info.worker_trait(), info.name())
            }
            None => format!("{label}: one-way function {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SourceLocation;

    const PLACE: SourceLocation =
        SourceLocation { package: "p", version: "1.0.0", module: "m", file: "f", line: 1 };

    const fn info(name: &'static str) -> FunctionInfo {
        FunctionInfo::new(name, "T", PLACE, "u64", "()")
    }

    static FUNCTIONS: [FunctionInfo; 4] = [info("a"), info("b"), info("c").no_cancel(), info("d")];

    #[test]
    fn index_finds_each_function_at_its_table_position() {
        let index = FunctionIndex::new(FUNCTIONS.iter().collect());

        let places = FUNCTIONS.each_ref().map(|it| index.find(it.id()));

        assert_eq!(places, [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(index.find(info("e").id()), None);
        assert_eq!(index.names()[1], "b(u64)->()");
        assert!(index.may_cancel(FUNCTIONS[0].id()) && !index.may_cancel(FUNCTIONS[2].id()));
    }
}
