//! The slots of a pool: the places of its workers and of their replacements.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::error::PoolError;
use super::member::Member;
use crate::wire::WorkerLabel;

/// The slots of a pool, by the index of their workers.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) list: Vec<Slot>,
    /// The index at which the next search for a free worker begins.
    next: usize,
}

/// The place of a worker and of its replacements.
pub(super) struct Slot {
    pub(super) id: SlotId,
    /// The name and the type of the worker, for errors.
    pub(super) label: Arc<WorkerLabel>,
    pub(super) phase: Phase,
    /// Dropped with the slot, which ends its task.
    pub(super) _alive: oneshot::Sender<()>,
}

/// A slot, for its task. A slot that was removed and added again has another serial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SlotId {
    pub(super) index: usize,
    pub(super) serial: u64,
}

/// A slot and the worker that serves in it, if one does.
pub(super) type ServedSlot = (SlotId, Option<Arc<Member>>);

/// The state of a slot.
pub(super) enum Phase {
    /// A replacement is being started.
    Starting,
    Serving(Arc<Member>),
    /// No replacement will be started.
    Ended(PoolError),
}

impl Slot {
    /// Returns the worker of the slot, also if it can be used no more.
    pub(super) fn serving(&self) -> Option<&Arc<Member>> {
        match &self.phase {
            Phase::Serving(member) => Some(member),
            Phase::Starting | Phase::Ended(_) => None,
        }
    }

    /// Returns the worker of the slot. `None` while a replacement is being started.
    pub(super) fn member(&self) -> Result<Option<Arc<Member>>, PoolError> {
        match &self.phase {
            Phase::Serving(member) if member.is_usable() => Ok(Some(member.clone())),
            // The task of the slot replaces an unusable worker.
            Phase::Serving(_) | Phase::Starting => Ok(None),
            Phase::Ended(error) => Err(error.clone()),
        }
    }
}

impl Slots {
    pub(super) fn find(&self, id: SlotId) -> Option<&Slot> {
        self.list.get(id.index).filter(|it| it.id == id)
    }

    pub(super) fn find_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.list.get_mut(id.index).filter(|it| it.id == id)
    }

    pub(super) fn serving(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.list.iter().filter_map(Slot::serving)
    }

    /// Returns whether this is the worker of its slot.
    pub(super) fn serves(&self, member: &Arc<Member>) -> bool {
        let serving = self.list.get(member.index()).and_then(Slot::serving);
        serving.is_some_and(|it| Arc::ptr_eq(it, member))
    }

    /// Returns the error of the last slot, if no slot will have a worker again.
    pub(super) fn error(&self) -> Option<PoolError> {
        let mut last = None;
        for slot in &self.list {
            let Phase::Ended(error) = &slot.phase else { return None };
            last = Some(error);
        }
        last.cloned()
    }

    /// Takes the free worker with the fewest calls in progress.
    pub(super) fn take_free(&mut self) -> Option<Arc<Member>> {
        let workers = self.list.len();
        let mut best: Option<(u64, usize, &Arc<Member>)> = None;
        for index in (0..workers).map(|it| (self.next + it) % workers) {
            let Some(member) = self.list[index].serving() else { continue };
            if member.taken.load(Ordering::Relaxed) || !member.is_usable() {
                continue;
            }
            let load = member.load();
            if best.is_none_or(|(least, ..)| load < least) {
                best = Some((load, index, member));
            }
            if load == 0 {
                break;
            }
        }
        let (_, index, member) = best?;
        member.taken.store(true, Ordering::Relaxed);
        let member = member.clone();
        self.next = (index + 1) % workers;
        Some(member)
    }
}
