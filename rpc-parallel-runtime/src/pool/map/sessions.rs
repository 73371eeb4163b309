//! The sessions of a map, one per worker. Only those that were woken are polled.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ready::{ReadySet, SlotWaker};
use super::session::Session;
use crate::pool::engine::WorkerKey;
use crate::pool::member::Member;
use crate::worker::items::MapRequest;

/// How long a worker may run an item of a map that has ended, before it is killed and replaced.
const CANCEL_GRACE: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Sessions {
    sessions: HashMap<WorkerKey, Session>,
    ready_set: ReadySet,
    /// The keys of the sessions that were woken and not polled yet.
    ready: Vec<usize>,
    last_key: usize,
    /// Sessions that end. Dropping it would leave items running.
    closing: JoinSet<()>,
}

impl Sessions {
    /// Opens a session with a worker.
    pub(super) fn open(&mut self, member: Arc<Member>, request: MapRequest) {
        self.last_key += 1;
        let (key, slot) = (WorkerKey(self.last_key as u64), self.ready_set.slot(self.last_key));
        self.sessions.insert(key, Session::open(member, key, slot, request));
    }

    pub(super) fn get(&mut self, key: WorkerKey) -> Option<&mut Session> {
        self.sessions.get_mut(&key)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.sessions.values_mut()
    }

    /// Returns the key of the session with this worker.
    pub(super) fn key_of(&self, member: &Arc<Member>) -> Option<WorkerKey> {
        // Workers join and leave rarely.
        self.sessions.values().find(|it| Arc::ptr_eq(&it.member, member)).map(|it| it.key)
    }

    /// Registers the task that polls the sessions, and takes the list of those that were woken.
    pub(super) fn begin_round(&mut self, cx: &Context<'_>) {
        self.ready_set.register(cx);
        self.ready_set.take(&mut self.ready);
        while self.closing.try_join_next().is_some() {}
    }

    /// Returns the next session of this round that was woken.
    pub(super) fn next_ready(&mut self) -> Option<(WorkerKey, SlotWaker)> {
        loop {
            let key = WorkerKey(self.ready.pop()? as u64);
            if let Some(session) = self.sessions.get(&key) {
                return Some((key, session.slot.clone()));
            }
        }
    }

    /// Removes the session with a worker that has died.
    pub(super) fn remove(&mut self, key: WorkerKey) {
        self.sessions.remove(&key);
    }

    /// Ends a session whose worker has nothing left to do.
    pub(super) fn close(&mut self, key: WorkerKey) {
        if let Some(session) = self.sessions.remove(&key) {
            self.closing.spawn(close(session));
        }
    }

    /// Ends all sessions, and waits until no item runs any more. A worker that takes too long to end
    /// an item is killed.
    pub(super) async fn close_all(mut self) {
        for (_, session) in self.sessions.drain() {
            self.closing.spawn(close(session));
        }
        while self.closing.join_next().await.is_some() {}
    }
}

async fn close(session: Session) {
    let member = session.member.clone();
    if timeout(CANCEL_GRACE, session.close()).await.is_err() {
        let why = format!("a map ended, and its item did not end within {CANCEL_GRACE:?}");
        member.kill(&why);
    }
}
