//! The changes of the slots of a pool: slots are added and removed, workers join them and are lost.
//!
//! Each change is made under the lock of the pool, and published after the lock was released.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{SemaphorePermit, oneshot};

use super::core::PoolCore;
use super::error::{PoolError, PoolErrorKind};
use super::member::Member;
use super::set_up::SetUp;
use super::slots::{Phase, Slot, SlotId};
use super::updates::{MemberUpdate, publish};
use crate::connection::WorkerFailure;
use crate::launch::Started;
use crate::wire::WorkerLabel;

/// Why new workers were not added.
pub(super) enum AddError {
    Ended(PoolError),
    /// The worker at this position must answer these set-up calls first.
    Missing(usize, Vec<Arc<SetUp>>),
}

/// The result of an attempt to join the pool.
pub(super) enum Joined {
    Yes,
    /// The worker must answer these set-up calls first.
    Missing(Vec<Arc<SetUp>>),
    /// The slot was removed.
    Removed,
}

impl PoolCore {
    /// Waits until no other task adds or removes workers. Tasks take turns in the order in which they
    /// came.
    pub(super) async fn begin_resize(&self) -> Result<SemaphorePermit<'_>, PoolError> {
        let closed = |_| PoolError::from(PoolErrorKind::ShutDown);
        let turn = self.resizing.acquire().await.map_err(closed)?;
        self.state().ended.clone().map_or(Ok(turn), Err)
    }

    /// Adds slots for new workers behind the others, unless a worker must answer set-up calls first.
    /// Those are returned with the position of the worker.
    pub(super) fn add(
        self: &Arc<Self>,
        members: &[(Arc<Member>, Arc<WorkerLabel>)],
    ) -> Result<Vec<(SlotId, oneshot::Receiver<()>)>, AddError> {
        let (added, subscribers) = {
            let mut state = self.state();
            if let Some(error) = &state.ended {
                return Err(AddError::Ended(error.clone()));
            }
            for (position, (member, _)) in members.iter().enumerate() {
                let missing = state.set_ups.missing(member);
                if !missing.is_empty() {
                    return Err(AddError::Missing(position, missing));
                }
            }
            let add = |(member, label): &(Arc<Member>, Arc<WorkerLabel>)| {
                let (_alive, removed) = oneshot::channel();
                let (index, serial) = (state.slots.list.len(), self.next_serial());
                let (id, phase) = (SlotId { index, serial }, Phase::Serving(member.clone()));
                state.slots.list.push(Slot { id, label: label.clone(), phase, _alive });
                (id, removed)
            };
            let added = members.iter().map(add).collect();
            (added, state.subscribers.clone())
        };
        for (member, _) in members {
            publish(&subscribers, &MemberUpdate::Joined(member.clone()));
            self.offer(member.clone());
        }
        self.changes.send_replace(());
        Ok(added)
    }

    /// Removes the last slots, so that `workers` are left. Their workers finish their work.
    pub(super) fn truncate(&self, workers: usize) {
        let (removed, subscribers) = {
            let mut state = self.state();
            let from = workers.min(state.slots.list.len());
            let removed = state.slots.list.split_off(from);
            let retiring = removed.iter().filter_map(Slot::serving).map(|it| it.started().clone());
            state.retiring.extend(retiring);
            (removed, state.subscribers.clone())
        };
        for member in removed.iter().filter_map(Slot::serving) {
            publish(&subscribers, &MemberUpdate::Retiring(member.clone()));
        }
        drop(removed);
        self.changes.send_replace(());
    }

    /// Makes a new worker the one of its slot. Its predecessor, if it still serves, finishes its
    /// work.
    pub(super) fn join(self: &Arc<Self>, slot_id: SlotId, member: &Arc<Member>) -> Joined {
        let (previous, subscribers) = {
            let mut state = self.state();
            let missing = state.set_ups.missing(member);
            if !missing.is_empty() {
                return Joined::Missing(missing);
            }
            let Some(slot) = state.slots.find_mut(slot_id) else { return Joined::Removed };
            let previous = std::mem::replace(&mut slot.phase, Phase::Serving(member.clone()));
            if let Phase::Serving(previous) = &previous {
                state.retiring.push(previous.started().clone());
            }
            (previous, state.subscribers.clone())
        };
        publish(&subscribers, &MemberUpdate::Joined(member.clone()));
        if let Phase::Serving(previous) = previous {
            publish(&subscribers, &MemberUpdate::Retiring(previous));
        }
        self.offer(member.clone());
        self.changes.send_replace(());
        Joined::Yes
    }

    /// Records that a worker has ended, and that a replacement is being started.
    pub(super) fn lose(&self, slot_id: SlotId, member: Arc<Member>, failure: WorkerFailure) {
        let (previous, subscribers) = {
            let mut state = self.state();
            let previous = state.slots.find_mut(slot_id).and_then(|slot| match &slot.phase {
                Phase::Serving(serving) if Arc::ptr_eq(serving, &member) => {
                    Some(std::mem::replace(&mut slot.phase, Phase::Starting))
                }
                _ => None,
            });
            (previous, state.subscribers.clone())
        };
        drop(previous);
        publish(&subscribers, &MemberUpdate::Lost(member, failure));
        self.changes.send_replace(());
    }

    /// Records that a slot gets no worker any more, unless that has been recorded.
    pub(super) fn exhaust(&self, slot_id: SlotId, error: PoolError) {
        let (previous, over) = {
            let mut state = self.state();
            let Some(slot) = state.slots.find_mut(slot_id) else { return };
            if let Phase::Ended(_) = slot.phase {
                return;
            }
            let previous = std::mem::replace(&mut slot.phase, Phase::Ended(error.clone()));
            // The error of the last slot is that of the pool.
            let over = state.error().is_some().then(|| state.take_readers());
            (previous, over)
        };
        drop(previous);
        if let Some(readers) = over {
            readers.fail(&error);
        }
        self.changes.send_replace(());
    }

    /// Removes a process that has finished its work, and reports its end to those that still use the worker.
    pub(super) fn remove_retiring(&self, started: &Arc<Started>, lost: Option<MemberUpdate>) {
        let subscribers = {
            let mut state = self.state();
            state.retiring.retain(|it| !Arc::ptr_eq(it, started));
            state.subscribers.clone()
        };
        if let Some(lost) = lost {
            publish(&subscribers, &lost);
        }
    }

    /// Returns a number for the next member.
    fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }
}
