//! Boxed futures for tasks.
//!
//! tokio compiles its task code once for each type of future: about 1,600 lines of LLVM IR.
//! Long-lived tasks, and those of generic code, are boxed, so that they have one type.

use std::pin::Pin;

/// A task without a result.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Boxes the future of a task.
pub(crate) fn task(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Box::pin(future)
}
