//! Waiting for workers of a pool that serve, without taking them from other callers.

use std::sync::Arc;

use super::core::PoolCore;
use super::error::{PoolError, PoolErrorKind};
use super::member::Member;
use super::slots::{Phase, Slot, SlotId};
use crate::wire::WorkerLabel;

/// A worker that a pool calls, or the reason why it cannot.
pub(super) struct Target {
    pub(super) label: Arc<WorkerLabel>,
    pub(super) member: Result<Arc<Member>, PoolError>,
}

impl PoolCore {
    /// Waits until a worker serves.
    ///
    /// # Errors
    ///
    /// There is no such worker, or its limit of replacements is reached, or the pool has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it only waits.
    pub(super) async fn worker(&self, index: usize) -> Result<Arc<Member>, PoolError> {
        self.wait_for(|state| {
            let Some(slot) = state.slots.list.get(index) else {
                let (worker_index, workers) = (index, state.slots.list.len());
                return Some(Err(PoolErrorKind::NoSuchWorker { worker_index, workers }.into()));
            };
            slot.member().transpose()
        })
        .await
    }

    /// Waits until any worker serves, and returns the one with the fewest calls in progress.
    pub(super) async fn least_loaded(&self) -> Result<Arc<Member>, PoolError> {
        self.wait_for(|state| {
            let usable = state.slots.serving().filter(|it| it.is_usable());
            usable.min_by_key(|it| it.load()).cloned().map(Ok)
        })
        .await
    }

    /// Waits until each worker serves or has ended for good.
    pub(super) async fn targets(&self) -> Result<Vec<Target>, PoolError> {
        self.wait_for(|state| {
            let target = |slot: &Slot| {
                let member = slot.member().transpose()?;
                Some(Target { label: slot.label.clone(), member })
            };
            state.slots.list.iter().map(target).collect::<Option<_>>().map(Ok)
        })
        .await
    }

    /// Waits until a slot has another member than this one. Returns at once if the slot was removed.
    pub(super) async fn replaced(
        &self,
        slot_id: SlotId,
        member: Option<&Arc<Member>>,
    ) -> Result<(), PoolError> {
        self.wait_for(|state| match state.slots.find(slot_id).map(|it| &it.phase) {
            Some(Phase::Serving(next)) => {
                member.is_none_or(|it| !Arc::ptr_eq(it, next)).then_some(Ok(()))
            }
            Some(Phase::Starting) => None,
            Some(Phase::Ended(error)) => Some(Err(error.clone())),
            None => Some(Ok(())),
        })
        .await
    }
}
