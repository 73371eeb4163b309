//! Identifies the process that created a resource.
//!
//! A process that user code forks without exec inherits sockets, epoll instances and their memory,
//! but not the threads. When it ends, destructors must not act on resources that its parent still
//! uses: `shutdown` ends a connection and `epoll_ctl` removes a registration for both processes.

use std::mem;
use std::ops::{Deref, DerefMut};

use rustix::process::{Pid, getpid};

/// The process that created a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin(Pid);

impl Origin {
    /// Returns this process.
    pub(crate) fn here() -> Self {
        Self(getpid())
    }

    /// Returns whether the resource was created by another process, from which this one was forked.
    pub(crate) fn is_other_process(self) -> bool {
        self.0 != getpid()
    }
}

/// A resource that is registered with a tokio runtime. A forked child forgets it instead of
/// dropping it, because both processes share the epoll instance.
pub(crate) struct Registered<T> {
    resource: Option<T>,
    origin: Origin,
}

impl<T> Registered<T> {
    pub(super) fn new(resource: T) -> Self {
        Self { resource: Some(resource), origin: Origin::here() }
    }
}

const TAKEN_LAST: &str = "only `drop` removes the resource";

impl<T> Deref for Registered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.resource.as_ref().expect(TAKEN_LAST)
    }
}

impl<T> DerefMut for Registered<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.resource.as_mut().expect(TAKEN_LAST)
    }
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        if self.origin.is_other_process() {
            mem::forget(self.resource.take());
        }
    }
}
