//! The changes of the workers of a pool, as a map receives them.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::error::PoolError;
use super::member::Member;
use crate::connection::WorkerFailure;

/// A change of the workers of a pool.
#[derive(Clone)]
pub(in crate::pool) enum MemberUpdate {
    /// The worker serves.
    Joined(Arc<Member>),
    /// The worker is to get no new work, and ends with the last work that it has.
    Retiring(Arc<Member>),
    /// The worker has ended or can be used no more. The failure report is that of its process.
    Lost(Arc<Member>, WorkerFailure),
    /// No worker is left, and none will be started.
    Exhausted(PoolError),
}

/// The changes of the workers of a pool, in the order in which they happen to each worker. The first
/// changes are the workers that serve when this is made.
pub(in crate::pool) struct MemberUpdates(UnboundedReceiver<MemberUpdate>);

/// The queue is bounded by the number of processes that the pool starts while the reader does not
/// read.
pub(super) fn member_updates() -> (UnboundedSender<MemberUpdate>, MemberUpdates) {
    let (sender, receiver) = unbounded_channel();
    (sender, MemberUpdates(receiver))
}

/// Sends a change to all subscribers. Those that have gone are ignored.
pub(super) fn publish(subscribers: &[UnboundedSender<MemberUpdate>], update: &MemberUpdate) {
    for subscriber in subscribers {
        let _ = subscriber.send(update.clone());
    }
}

impl MemberUpdates {
    pub(in crate::pool) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<MemberUpdate>> {
        self.0.poll_recv(cx)
    }
}
