//! A function of a worker type together with the state and the context that it runs with.

use super::dispatch::{Handle, Scope};
use super::items::{BegunItem, ItemFunction, ItemScope, SyncRun};
use crate::wire::ItemReader;

/// A function that runs on the items of a map.
pub(super) struct BoundFunction<S: 'static, C: 'static> {
    pub(super) handle: &'static dyn Handle<S, C>,
    pub(super) scope: Scope<S, C>,
}

impl<S: Send + Sync, C: Send + Sync> ItemFunction for BoundFunction<S, C> {
    fn is_synchronous(&self) -> bool {
        self.handle.is_synchronous()
    }

    fn skip_item(&self, reader: &mut ItemReader<'_>) -> bool {
        self.handle.skip_item(reader)
    }

    fn begin_item(
        &self,
        scope: &ItemScope,
        input: ItemReader<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> BegunItem {
        self.handle.begin_item(&self.scope, scope, input, out, max)
    }

    fn run_slice(&self, items: &mut SyncRun<'_>) {
        self.handle.run_slice(&self.scope, items);
    }
}
