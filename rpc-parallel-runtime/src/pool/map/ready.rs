//! Tells which of many sessions have been woken, so that a task with a thousand sessions polls only
//! those that have news.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Wake, Waker};

/// The slots whose wakers were woken since they were last taken.
#[derive(Default)]
pub(super) struct ReadySet {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: Vec<usize>,
    task: Option<Waker>,
}

/// The waker of one slot.
struct Slot {
    index: usize,
    /// Whether `index` is in the list of ready slots. It bounds that list.
    is_listed: AtomicBool,
    shared: Arc<Shared>,
}

/// A slot of a [`ReadySet`].
#[derive(Clone)]
pub(super) struct SlotWaker(Arc<Slot>);

impl ReadySet {
    /// Makes the waker of a slot, which is ready at first.
    pub(super) fn slot(&self, index: usize) -> SlotWaker {
        let slot = Slot { index, is_listed: AtomicBool::new(false), shared: self.shared.clone() };
        let slot = SlotWaker(Arc::new(slot));
        slot.waker().wake_by_ref();
        slot
    }

    /// Registers the task that takes the ready slots.
    pub(super) fn register(&self, cx: &Context<'_>) {
        let mut state = self.shared.state();
        match &mut state.task {
            Some(task) => task.clone_from(cx.waker()),
            None => state.task = Some(cx.waker().clone()),
        }
    }

    /// Takes the slots that were woken. A slot that was freed in the meantime may be among them.
    pub(super) fn take(&self, ready: &mut Vec<usize>) {
        ready.clear();
        std::mem::swap(&mut self.shared.state().ready, ready);
    }
}

impl SlotWaker {
    pub(super) fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Prepares the slot for being polled: later wake-ups list it again.
    pub(super) fn begin_poll(&self) {
        self.0.is_listed.store(false, Ordering::Release);
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.shared.state();
        state.ready.push(self.index);
        let task = state.task.take();
        drop(state);
        // Woken without the lock, because a waker is foreign code.
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::map::wake_count::WakeCount;

    #[test]
    fn woken_slot_is_listed_once_and_wakes_task_once() {
        let set = ReadySet::default();
        let (first, second) = (set.slot(0), set.slot(1));
        let mut ready = Vec::new();
        set.take(&mut ready);
        assert_eq!(ready, [0, 1]);
        first.begin_poll();
        second.begin_poll();
        let (waker, count) = WakeCount::waker();
        set.register(&Context::from_waker(&waker));

        for _ in 0..3 {
            second.waker().wake();
        }

        set.take(&mut ready);
        assert_eq!(ready, [1]);
        assert_eq!(count.get(), 1);
    }
}
