//! The workers of a pool, without the type of their states: which of them serve, which are taken,
//! and what readers are told about them.
//!
//! Nothing here starts a process: the task of a slot does, and reports it here. Wakers and
//! destructors run after the lock of the state was released.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};

use super::error::{PoolError, PoolErrorKind};
use super::member::Member;
use super::recycling::Recycling;
use super::set_up::{CallSetUp, SetUp, SetUps};
use super::slots::{Phase, ServedSlot, Slot, SlotId, Slots};
use super::updates::{MemberUpdate, MemberUpdates, member_updates};
use crate::connection::{SharedCall, WorkerFailure};
use crate::launch::Started;
use crate::master::RestartPolicy;
use crate::wire::WorkerLabel;

/// The number of workers that a pool starts at the same time.
const MAX_STARTING: usize = 64;

/// The workers of a pool.
pub(in crate::pool) struct PoolCore {
    state: Mutex<State>,
    /// Notified after each change of a slot.
    changes: watch::Sender<()>,
    serials: AtomicU64,
    /// Bounds the number of processes that are being started.
    pub(super) starting: Semaphore,
    /// Has one permit, which the task that adds or removes workers holds.
    resizing: Semaphore,
    /// Bounds the number of workers that are being replaced although they serve.
    pub(super) replacing: Arc<Semaphore>,
    pub(super) recycling: Recycling,
    pub(super) replace_policy: RestartPolicy,
    /// The runtime in which the tasks of the slots and the drivers of the connections run.
    runtime: Handle,
}

#[derive(Default)]
struct State {
    slots: Slots,
    /// Set when the pool was shut down.
    ended: Option<PoolError>,
    /// Waiting [`PoolCore::take`] calls, the oldest first. Bounded by their number: receivers that
    /// were dropped are removed when the queue doubles.
    waiting: VecDeque<oneshot::Sender<Result<Taken, PoolError>>>,
    /// The length at which the queue is searched for dropped receivers.
    crowded: usize,
    subscribers: Vec<UnboundedSender<MemberUpdate>>,
    /// The processes that were replaced or removed, and still finish their work.
    retiring: Vec<Arc<Started>>,
    set_ups: SetUps,
}

/// The result of an attempt to join the pool.
pub(super) enum Joined {
    Yes,
    /// The worker must answer these set-up calls first.
    Missing(Vec<Arc<SetUp>>),
    /// The slot was removed.
    Removed,
}

/// A worker that no other guard holds. Dropping it frees the worker.
pub(super) struct Taken {
    core: Arc<PoolCore>,
    member: Arc<Member>,
    /// Whether dropping the guard frees the worker.
    armed: bool,
}

/// A worker that a pool calls, or the reason why it cannot.
pub(super) struct Target {
    pub(super) label: Arc<WorkerLabel>,
    pub(super) member: Result<Arc<Member>, PoolError>,
}

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

impl PoolCore {
    /// Makes a pool without workers, whose tasks run in this runtime.
    pub(super) fn new(
        recycling: Recycling,
        replace_policy: RestartPolicy,
        workers: usize,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changes: watch::Sender::new(()),
            serials: AtomicU64::new(0),
            starting: Semaphore::new(MAX_STARTING),
            resizing: Semaphore::new(1),
            replacing: Arc::new(Semaphore::new(1 + workers / 8)),
            recycling,
            replace_policy,
            runtime,
        })
    }

    /// Returns the runtime in which the connections to the workers run.
    pub(in crate::pool) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the number of workers, including those that are being replaced.
    pub(in crate::pool) fn len(&self) -> usize {
        self.state().slots.list.len()
    }

    /// Returns the changes of the workers. The first changes are the workers that serve now.
    pub(in crate::pool) fn subscribe(&self) -> MemberUpdates {
        let (subscriber, updates) = member_updates();
        let mut state = self.state();
        // No reader is woken: the receiver has not been polled.
        for member in state.slots.serving() {
            let _ = subscriber.send(MemberUpdate::Joined(member.clone()));
        }
        if let Some(error) = state.error() {
            let _ = subscriber.send(MemberUpdate::Exhausted(error));
            return updates;
        }
        state.subscribers.retain(|it| !it.is_closed());
        state.subscribers.push(subscriber);
        updates
    }

    /// Waits for a worker that no other guard holds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Taken, PoolError> {
        let waiting = {
            let mut state = self.state();
            if let Some(error) = state.error() {
                return Err(error);
            }
            while state.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                state.waiting.pop_front();
            }
            // Otherwise the new caller would overtake those that wait.
            if state.waiting.is_empty()
                && let Some(member) = state.slots.take_free()
            {
                return Ok(Taken { core: self.clone(), member, armed: true });
            }
            if state.waiting.len() > state.crowded {
                state.waiting.retain(|it| !it.is_closed());
                state.crowded = 16 + 2 * state.waiting.len();
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        // The sender is dropped only with a pool that has ended.
        waiting.await.unwrap_or_else(|_| Err(PoolErrorKind::ShutDown.into()))
    }

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

    /// Waits until `find` finds something, or until the pool has ended.
    async fn wait_for<T>(
        &self,
        find: impl Fn(&State) -> Option<Result<T, PoolError>>,
    ) -> Result<T, PoolError> {
        // Subscribed before the state is read, so that no change is missed.
        let mut changes = self.changes.subscribe();
        loop {
            {
                let state = self.state();
                if let Some(error) = state.error() {
                    return Err(error);
                }
                if let Some(found) = find(&state) {
                    return found;
                }
            }
            // It fails only after `self` was dropped.
            let _ = changes.changed().await;
        }
    }

    /// Adds a set-up call, and returns it with the workers that have not answered it: those that
    /// serve now. All others answer it before they join.
    pub(super) fn add_set_up(
        &self,
        message: SharedCall,
        call: CallSetUp,
    ) -> Result<(Arc<SetUp>, Vec<ServedSlot>), PoolError> {
        let mut state = self.state();
        if let Some(error) = state.error() {
            return Err(error);
        }
        let set_up = state.set_ups.add(message, call);
        let slots = state.slots.list.iter().map(|it| (it.id, it.serving().cloned()));
        Ok((set_up, slots.collect()))
    }

    pub(super) fn remove_set_up(&self, set_up: &SetUp) {
        self.state().set_ups.remove(set_up.id);
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

    /// Returns a number for the next member.
    pub(super) fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

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

    /// Returns whether no worker is left and none will be started.
    pub(in crate::pool) fn is_over(&self) -> bool {
        self.state().error().is_some()
    }

    /// Waits until no worker is left and none will be started, and returns the reason.
    pub(in crate::pool) async fn over(&self) -> PoolError {
        let never = |_: &State| None::<Result<Infallible, PoolError>>;
        match self.wait_for(never).await {
            Err(error) => error,
            Ok(never) => match never {},
        }
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

    /// Ends the pool: no worker is started, and the workers end with their last clients. Returns the
    /// workers, and the processes that finish their work.
    pub(super) fn end(&self) -> (Vec<Arc<Member>>, Vec<Arc<Started>>) {
        let error = PoolError::from(PoolErrorKind::ShutDown);
        let (slots, readers, retiring) = {
            let mut state = self.state();
            state.ended.get_or_insert_with(|| error.clone());
            let readers = state.take_readers();
            (std::mem::take(&mut state.slots.list), readers, state.retiring.clone())
        };
        let members = slots.iter().filter_map(Slot::serving).cloned().collect();
        readers.fail(&error);
        drop(slots);
        self.changes.send_replace(());
        (members, retiring)
    }

    /// Gives a worker that is marked as taken to the oldest waiting caller, or frees it.
    fn offer(self: &Arc<Self>, member: Arc<Member>) {
        let mut taken = Taken { core: self.clone(), member: member.clone(), armed: true };
        loop {
            let waiting = {
                let mut state = self.state();
                if !state.slots.serves(&member) || !member.is_usable() {
                    // The task of the slot replaces it.
                    taken.armed = false;
                    return;
                }
                let waiting = state.waiting.pop_front();
                member.taken.store(waiting.is_some(), Ordering::Relaxed);
                waiting
            };
            let Some(waiting) = waiting else {
                taken.armed = false;
                return;
            };
            match waiting.send(Ok(taken)) {
                Ok(()) => return,
                // The caller has given up.
                Err(refused) => match refused {
                    Ok(refused) => taken = refused,
                    Err(_) => unreachable!("the refused value is the sent one"),
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

impl State {
    /// Returns why no worker is left and none will be started.
    fn error(&self) -> Option<PoolError> {
        self.ended.clone().or_else(|| self.slots.error())
    }

    fn take_readers(&mut self) -> Readers {
        Readers {
            waiting: std::mem::take(&mut self.waiting),
            subscribers: std::mem::take(&mut self.subscribers),
        }
    }
}

/// Those that wait for workers of a pool that has ended.
struct Readers {
    waiting: VecDeque<oneshot::Sender<Result<Taken, PoolError>>>,
    subscribers: Vec<UnboundedSender<MemberUpdate>>,
}

impl Readers {
    fn fail(self, error: &PoolError) {
        for waiting in self.waiting {
            let _ = waiting.send(Err(error.clone()));
        }
        publish(&self.subscribers, &MemberUpdate::Exhausted(error.clone()));
    }
}

/// Sends a change to all subscribers. Those that have gone are ignored.
fn publish(subscribers: &[UnboundedSender<MemberUpdate>], update: &MemberUpdate) {
    for subscriber in subscribers {
        let _ = subscriber.send(update.clone());
    }
}

/// Why new workers were not added.
pub(super) enum AddError {
    Ended(PoolError),
    /// The worker at this position must answer these set-up calls first.
    Missing(usize, Vec<Arc<SetUp>>),
}

impl Taken {
    pub(super) fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.armed {
            self.member.check_work();
            self.core.offer(self.member.clone());
        }
    }
}
