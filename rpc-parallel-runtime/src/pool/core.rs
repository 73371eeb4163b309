//! The workers of a pool, without the type of their states: the state under the lock of the pool, and
//! waiting for its changes.
//!
//! `slot_changes.rs` changes which workers serve, and `taking.rs` which of them are taken. None of
//! these files starts a process: the task of a slot does, and records it here. Wakers and destructors
//! run after the lock was released.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot, watch};

use super::error::{PoolError, PoolErrorKind};
use super::member::Member;
use super::recycling::Recycling;
use super::set_up::{CallSetUp, SetUp, SetUps};
use super::slots::{ServedSlot, Slot, Slots};
use super::updates::{MemberUpdate, MemberUpdates, member_updates, publish};
use crate::connection::SharedCall;
use crate::launch::Started;
use crate::master::RestartPolicy;

/// The number of workers that a pool starts at the same time.
const MAX_STARTING: usize = 64;

/// The workers of a pool.
pub(in crate::pool) struct PoolCore {
    state: Mutex<State>,
    /// Notified after each change of a slot.
    pub(super) changes: watch::Sender<()>,
    pub(super) serials: AtomicU64,
    /// Bounds the number of processes that are being started.
    pub(super) starting: Semaphore,
    /// Has one permit, which the task that adds or removes workers holds.
    pub(super) resizing: Semaphore,
    /// Bounds the number of workers that are being replaced although they serve.
    pub(super) replacing: Arc<Semaphore>,
    pub(super) recycling: Recycling,
    pub(super) replace_policy: RestartPolicy,
    /// The runtime in which the tasks of the slots and the drivers of the connections run.
    runtime: Handle,
}

/// What the lock of a pool protects.
#[derive(Default)]
pub(super) struct State {
    pub(super) slots: Slots,
    /// Set when the pool was shut down.
    pub(super) ended: Option<PoolError>,
    /// Waiting [`PoolCore::take`] calls, the oldest first. Bounded by their number: receivers that
    /// were dropped are removed when the queue doubles.
    pub(super) waiting: VecDeque<oneshot::Sender<Result<Taken, PoolError>>>,
    /// The length at which the queue is searched for dropped receivers.
    pub(super) crowded: usize,
    pub(super) subscribers: Vec<UnboundedSender<MemberUpdate>>,
    /// The processes that were replaced or removed, and still finish their work.
    pub(super) retiring: Vec<Arc<Started>>,
    pub(super) set_ups: SetUps,
}

/// A worker that no other guard holds. Dropping it frees the worker. It is declared here because
/// the queue of the state carries it.
pub(super) struct Taken {
    pub(super) core: Arc<PoolCore>,
    pub(super) member: Arc<Member>,
    /// Whether dropping the guard frees the worker.
    pub(super) armed: bool,
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

    /// Waits until `find` finds something, or until the pool has ended.
    pub(super) async fn wait_for<T>(
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

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

impl State {
    /// Returns why no worker is left and none will be started.
    pub(super) fn error(&self) -> Option<PoolError> {
        self.ended.clone().or_else(|| self.slots.error())
    }

    pub(super) fn take_readers(&mut self) -> Readers {
        Readers {
            waiting: std::mem::take(&mut self.waiting),
            subscribers: std::mem::take(&mut self.subscribers),
        }
    }
}

/// Those that wait for workers of a pool that has ended.
pub(super) struct Readers {
    waiting: VecDeque<oneshot::Sender<Result<Taken, PoolError>>>,
    subscribers: Vec<UnboundedSender<MemberUpdate>>,
}

impl Readers {
    pub(super) fn fail(self, error: &PoolError) {
        for waiting in self.waiting {
            let _ = waiting.send(Err(error.clone()));
        }
        publish(&self.subscribers, &MemberUpdate::Exhausted(error.clone()));
    }
}
