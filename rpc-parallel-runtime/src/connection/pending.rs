//! The pending calls of a connection, which wait for an answer.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::failure::Loss;
use super::shared::OwnedEnd;
use crate::wire::{CallId, FunctionInfo, Outcome};

/// The calls of one connection that wait for an answer.
///
/// The number of a call consists of the index of its slot and a generation, which counts the uses
/// of the slot. So a duplicate answer, or an answer to a cancelled call, never reaches another
/// call.
#[derive(Default)]
pub(super) struct Pending {
    slots: Vec<Slot>,
    free: Vec<u32>,
    progress: Progress,
    /// Whether a call was answered after the last one had begun.
    answered_last: bool,
    lost: Option<Arc<Loss>>,
}

struct Slot {
    uses: u32,
    state: State,
}

enum State {
    Free,
    Waiting {
        waker: Waker,
        function: &'static FunctionInfo,
    },
    Answered(Answered),
    /// The caller has cancelled the call. The slot stays taken until the worker has answered.
    Cancelled,
}

/// The numbers of calls of this process to a worker. One-way calls do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// The calls that have begun.
    pub(crate) called: u64,
    /// Those of them that the worker has answered, also if they were cancelled before.
    pub(crate) answered: u64,
}

impl Progress {
    /// Merges the progress of another connection to the same worker.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self { called: self.called + other.called, answered: self.answered + other.answered }
    }
}

/// The answer to a call, with the streams that it opens.
pub(super) struct Answered {
    pub(super) outcome: Outcome,
    pub(super) value: Bytes,
    pub(super) ends: Vec<OwnedEnd>,
}

impl Answered {
    /// Returns the answer to a one-way call: `()`.
    pub(super) fn nothing() -> Self {
        const NIL: &[u8] = &[0xc0];
        Self { outcome: Outcome::Value, value: Bytes::from_static(NIL), ends: Vec::new() }
    }
}

/// The status of a call.
pub(super) enum CallStatus {
    Waiting,
    Answered(Answered),
    Lost(Arc<Loss>),
}

impl Pending {
    /// Returns whether no slot is taken: no call is pending, and none was cancelled and still waits
    /// for its answer.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Returns whether the next call should be written at once: it is the only one, or the caller
    /// waits for one answer after the other beside a call that takes long. While many calls begin
    /// between two answers, the driver writes them together.
    pub(super) fn writes_next_at_once(&self) -> bool {
        self.answered_last || self.is_idle()
    }

    /// Begins a call.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub(super) fn begin(
        &mut self,
        function: &'static FunctionInfo,
        waker: &Waker,
    ) -> Result<CallId, Arc<Loss>> {
        if let Some(loss) = &self.lost {
            return Err(loss.clone());
        }
        let state = State::Waiting { waker: waker.clone(), function };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { uses: 0, state: State::Free });
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 calls fit in memory")
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.uses = slot.uses.wrapping_add(1);
        slot.state = state;
        self.progress.called += 1;
        self.answered_last = false;
        Ok(CallId(u64::from(slot.uses) << 32 | u64::from(index)))
    }

    /// Returns the status of a call. Frees its slot if the call was answered or lost, and registers
    /// the waker otherwise.
    pub(super) fn poll(&mut self, call: CallId, waker: &Waker) -> CallStatus {
        let lost = self.lost.clone();
        let Some((index, slot)) = self.slot(call) else { return CallStatus::Lost(lost_slot(lost)) };
        match &mut slot.state {
            State::Waiting { waker: known, .. } => match lost {
                Some(loss) => {
                    self.release(index);
                    CallStatus::Lost(loss)
                }
                None => {
                    known.clone_from(waker);
                    CallStatus::Waiting
                }
            },
            State::Answered(_) => match self.release(index) {
                State::Answered(answered) => CallStatus::Answered(answered),
                _ => CallStatus::Lost(lost_slot(lost)),
            },
            State::Free | State::Cancelled => CallStatus::Lost(lost_slot(lost)),
        }
    }

    /// Cancels a call. Returns whether the worker may still answer it: then the slot stays taken
    /// until the answer arrives.
    pub(super) fn cancel(&mut self, call: CallId) -> bool {
        let lost = self.lost.is_some();
        let Some((index, slot)) = self.slot(call) else { return false };
        match slot.state {
            State::Waiting { .. } if !lost => {
                slot.state = State::Cancelled;
                true
            }
            State::Waiting { .. } | State::Answered(_) => {
                self.release(index);
                false
            }
            State::Free | State::Cancelled => false,
        }
    }

    /// Frees the slot of a cancelled call whose message the worker never received completely.
    pub(super) fn forget(&mut self, call: CallId) {
        if let Some((index, Slot { state: State::Cancelled, .. })) = self.slot(call) {
            self.progress.answered += 1;
            self.release(index);
        }
    }

    /// Stores an answer, and returns the waker of its call.
    pub(super) fn answer(&mut self, call: CallId, answered: Answered) -> Option<Waker> {
        let (index, slot) = self.slot(call)?;
        match &mut slot.state {
            State::Waiting { .. } => {
                let waiting = std::mem::replace(&mut slot.state, State::Answered(answered));
                self.progress.answered += 1;
                self.answered_last = true;
                match waiting {
                    State::Waiting { waker, .. } => Some(waker),
                    _ => None,
                }
            }
            State::Cancelled => {
                self.progress.answered += 1;
                self.release(index);
                None
            }
            State::Free | State::Answered(_) => None,
        }
    }

    /// Fails all pending and all later calls, and returns the wakers of the pending ones.
    pub(super) fn fail_all(&mut self, loss: Arc<Loss>) -> Vec<Waker> {
        self.lost = Some(loss);
        let waiting = self.slots.iter().filter_map(|it| match &it.state {
            State::Waiting { waker, .. } => Some(waker.clone()),
            _ => None,
        });
        waiting.collect()
    }

    /// Returns the functions of the pending calls.
    pub(super) fn functions(&self) -> impl Iterator<Item = &'static FunctionInfo> {
        self.slots.iter().filter_map(|it| match &it.state {
            State::Waiting { function, .. } => Some(*function),
            _ => None,
        })
    }

    /// Returns the progress of the calls.
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Returns the reason of the loss, if the connection is lost.
    pub(super) fn lost(&self) -> Option<&Arc<Loss>> {
        self.lost.as_ref()
    }

    fn slot(&mut self, call: CallId) -> Option<(u32, &mut Slot)> {
        let (index, uses) = (call.0 as u32, (call.0 >> 32) as u32);
        let slot = self.slots.get_mut(index as usize).filter(|it| it.uses == uses)?;
        Some((index, slot))
    }

    fn release(&mut self, index: u32) -> State {
        self.free.push(index);
        std::mem::replace(&mut self.slots[index as usize].state, State::Free)
    }
}

fn lost_slot(lost: Option<Arc<Loss>>) -> Arc<Loss> {
    lost.unwrap_or_else(|| Arc::new(Loss::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SourceLocation;

    static FUNCTION: FunctionInfo = {
        let location =
            SourceLocation { package: "bank", version: "1.0.0", module: "bank", file: "", line: 1 };
        FunctionInfo::new("deposit", "Bank", location, "", "()")
    };

    fn value(value: &'static [u8]) -> Answered {
        Answered { outcome: Outcome::Value, value: Bytes::from_static(value), ends: Vec::new() }
    }

    fn begin(pending: &mut Pending) -> CallId {
        pending.begin(&FUNCTION, Waker::noop()).expect("the connection is not lost")
    }

    #[test]
    fn lost_connection_fails_every_waiting_call() {
        let mut pending = Pending::default();
        let calls = [begin(&mut pending), begin(&mut pending)];

        let wakers = pending.fail_all(Arc::new(Loss::Closed));

        assert_eq!(wakers.len(), 2);
        assert_eq!(pending.functions().map(FunctionInfo::name).collect::<Vec<_>>(), ["deposit"; 2]);
        for call in calls {
            assert!(matches!(pending.poll(call, Waker::noop()), CallStatus::Lost(_)));
        }
        assert!(pending.begin(&FUNCTION, Waker::noop()).is_err());
    }

    #[test]
    fn answer_received_before_loss_is_kept() {
        let mut pending = Pending::default();
        let call = begin(&mut pending);
        pending.answer(call, value(b"7"));

        pending.fail_all(Arc::new(Loss::Closed));

        let status = pending.poll(call, Waker::noop());
        assert!(matches!(status, CallStatus::Answered(it) if it.value == b"7"[..]));
    }

    #[test]
    fn second_answer_does_not_reach_next_call() {
        let mut pending = Pending::default();
        let call = begin(&mut pending);
        pending.answer(call, value(b"first"));
        pending.poll(call, Waker::noop());
        let next = begin(&mut pending);

        pending.answer(call, value(b"again"));

        assert!(matches!(pending.poll(next, Waker::noop()), CallStatus::Waiting));
    }

    #[test]
    fn cancelled_call_keeps_its_slot_until_answer() {
        let mut pending = Pending::default();
        let call = begin(&mut pending);

        pending.cancel(call);

        assert!(!pending.is_idle());
        assert_ne!(begin(&mut pending).0 as u32, call.0 as u32);
        assert!(pending.answer(call, value(b"late")).is_none());
        assert_eq!(begin(&mut pending).0 as u32, call.0 as u32);
    }
}
