//! The tasks that a machine notifies of a change.

use std::task::Waker;

/// Waits for a change of a machine: a [`Waker`] in a connection, a number in tests.
pub(crate) trait Waiter: Clone {
    /// Returns whether both notify the same task.
    fn is_same(&self, other: &Self) -> bool;
}

impl Waiter for Waker {
    fn is_same(&self, other: &Self) -> bool {
        self.will_wake(other)
    }
}
