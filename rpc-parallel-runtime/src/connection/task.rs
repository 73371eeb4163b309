//! Futures of one type, for tasks.
//!
//! tokio compiles its task machinery once for each type of future: some 1,600 lines of LLVM IR. Tasks
//! that live for long, and those of generic code, are boxed, so that there is one type of them.

use std::pin::Pin;

/// A task without a result.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Boxes the future of a task.
pub(crate) fn task(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Box::pin(future)
}
