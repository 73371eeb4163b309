//! Taking a worker that no other guard holds, and freeing it for the caller that waits longest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::core::{PoolCore, Taken};
use super::error::{PoolError, PoolErrorKind};
use super::member::Member;

impl PoolCore {
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

    /// Gives a worker that is marked as taken to the oldest waiting caller, or frees it.
    pub(super) fn offer(self: &Arc<Self>, member: Arc<Member>) {
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
