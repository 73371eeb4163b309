//! The part of a function's context that belongs to the item that it runs on.

use std::sync::Arc;

use crate::connection::CallScope;

/// The cancellation of a map, and the attempt to run an item.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct ItemScope {
    pub(in crate::worker) scope: Arc<CallScope>,
    pub(in crate::worker) attempt: u32,
}
