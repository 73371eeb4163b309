//! A function that runs on the items of a map, without its types.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::item_scope::ItemScope;
use super::sync_run::SyncRun;
use crate::wire::{ItemReader, Outcome, Refusal};

/// A function together with the state and the context that it runs with.
pub(crate) trait ItemFunction: Send + Sync {
    /// Returns whether the function is a plain `fn`, which never waits.
    fn is_synchronous(&self) -> bool;

    /// Skips one item. Returns whether it is complete.
    fn skip_item(&self, reader: &mut ItemReader<'_>) -> bool;

    /// Begins one item. Appends the result to `out` if it is there at once.
    fn begin_item(
        &self,
        scope: &ItemScope,
        input: ItemReader<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> BegunItem;

    /// Runs a synchronous function on the items of a slice.
    fn run_slice(&self, items: &mut SyncRun<'_>);
}

/// An item that has begun.
#[doc(hidden)]
pub enum BegunItem {
    Done(Result<Outcome, Refusal>),
    Running(Pin<Box<dyn RunningItem>>),
}

/// An item whose function is pending.
#[doc(hidden)]
pub trait RunningItem: Send {
    /// Waits for the result, and appends it to `out`, up to `max` bytes.
    fn poll_item(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Poll<Result<Outcome, Refusal>>;
}
