//! The lease of a pool: what keeps its workers alive.

use std::sync::Arc;

use super::core::PoolCore;

/// Keeps the workers of a pool alive. Dropping the last clone ends those that no client uses.
pub(in crate::pool) struct Lease(Arc<PoolCore>);

impl Lease {
    pub(super) fn new(core: Arc<PoolCore>) -> Arc<Self> {
        Arc::new(Self(core))
    }

    pub(in crate::pool) fn core(&self) -> &Arc<PoolCore> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.end();
    }
}
