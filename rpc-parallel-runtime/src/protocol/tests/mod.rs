//! Machines without a connection.

mod content;
mod ledger;
mod order;
mod end;
mod model;
mod cancelling;
mod scheduling;
mod gathering;

use super::limits::Limits;
use super::waiter::Waiter;
use crate::wire::{ReceiveLimits, Settings};

/// A task that waits for a change of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Task(pub(crate) u32);

impl Waiter for Task {
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

/// The limits of connections with the default settings.
pub(super) fn limits() -> Limits {
    let limits = ReceiveLimits::of(&Settings::default());
    Limits::new(&limits, &limits)
}
