//! What a forked process holds to reset what it has inherited.

use std::marker::PhantomData;

/// A process that was just forked. It has one thread, and the descriptors of its parent.
///
/// No signal is blocked. `timer_create` and `setitimer` timers, pending signals and file locks of
/// processes are not inherited (fork(2)).
#[derive(Debug)]
pub struct FreshChild {
    // Neither `Send` nor `Sync`: it belongs to the thread that was forked.
    _thread: PhantomData<*const ()>,
}

impl FreshChild {
    /// It must be called in the child right after a fork.
    pub(crate) fn new() -> Self {
        Self { _thread: PhantomData }
    }
}
