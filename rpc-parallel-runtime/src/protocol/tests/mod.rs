//! Machines without a connection.

mod gathering;

use super::waiter::Waiter;

/// A task that waits for a change of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Task(pub(crate) u32);

impl Waiter for Task {
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}
