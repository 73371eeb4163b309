//! The calls of this end that wait for an answer.

use std::mem;

use bytes::Bytes;

use super::waiter::Waiter;
use crate::wire::{CallId, FunctionInfo, Opened, Outcome};

/// The calls of one connection that wait for an answer.
///
/// The number of a call consists of the index of its slot and a generation, which counts the uses
/// of the slot. So a duplicate answer, or an answer to a cancelled call, never reaches another
/// call.
pub(super) struct Calls<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
    progress: Progress,
    /// Whether a call was answered after the last one had begun.
    answered_last: bool,
    is_lost: bool,
}

struct Slot<W> {
    uses: u32,
    state: State<W>,
}

enum State<W> {
    Free,
    Waiting {
        waiter: W,
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
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    pub(crate) value: Bytes,
    pub(crate) streams: Vec<Opened>,
}

impl Answered {
    /// Returns the answer to a one-way call: `()`.
    pub(crate) fn nothing() -> Self {
        const NIL: &[u8] = &[0xc0];
        Self { outcome: Outcome::Value, value: Bytes::from_static(NIL), streams: Vec::new() }
    }
}

/// The status of a call.
pub(crate) enum CallStatus {
    Waiting,
    Answered(Answered),
    /// The connection was lost before the answer.
    Lost,
}

impl<W: Waiter> Calls<W> {
    pub(super) fn new() -> Self {
        let (slots, free) = (Vec::new(), Vec::new());
        Self { slots, free, progress: Progress::default(), answered_last: false, is_lost: false }
    }

    /// Returns whether no slot is taken: no call is pending, and none was cancelled and still waits
    /// for its answer.
    pub(super) fn is_idle(&self) -> bool {
        self.in_use() == 0
    }

    /// Returns the number of calls that are not answered, or whose answer was not taken.
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns whether the next call should be written at once: it is the only one, or the caller
    /// waits for one answer after the other beside a call that takes long. While many calls begin
    /// between two answers, the driver writes them together.
    pub(super) fn writes_next_at_once(&self) -> bool {
        self.answered_last || self.is_idle()
    }

    /// Begins a call. Returns `None` if the connection is lost.
    pub(super) fn begin(&mut self, function: &'static FunctionInfo, waiter: &W) -> Option<CallId> {
        if self.is_lost {
            return None;
        }
        let state = State::Waiting { waiter: waiter.clone(), function };
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
        Some(CallId(u64::from(slot.uses) << 32 | u64::from(index)))
    }

    /// Returns the status of a call. Frees its slot if the call was answered or lost, and registers
    /// the waiter otherwise. Adds the one before it to `dropped`.
    pub(super) fn poll(&mut self, call: CallId, waiter: &W, dropped: &mut Vec<W>) -> CallStatus {
        let lost = self.is_lost;
        let Some((index, slot)) = self.slot(call) else { return CallStatus::Lost };
        match &mut slot.state {
            State::Waiting { waiter: known, .. } if !lost => {
                if !known.is_same(waiter) {
                    dropped.push(mem::replace(known, waiter.clone()));
                }
                CallStatus::Waiting
            }
            State::Waiting { .. } | State::Answered(_) => match self.release(index, dropped) {
                Some(answered) => CallStatus::Answered(answered),
                None => CallStatus::Lost,
            },
            State::Free | State::Cancelled => CallStatus::Lost,
        }
    }

    /// Cancels a call, and adds its waiter to `dropped`.
    pub(super) fn cancel(&mut self, call: CallId, dropped: &mut Vec<W>) -> Cancelled {
        let lost = self.is_lost;
        let Some((index, slot)) = self.slot(call) else { return Cancelled::Ended };
        match slot.state {
            State::Waiting { .. } if !lost => {
                if let State::Waiting { waiter, .. } =
                    mem::replace(&mut slot.state, State::Cancelled)
                {
                    dropped.push(waiter);
                }
                Cancelled::Pending
            }
            State::Waiting { .. } | State::Answered(_) => match self.release(index, dropped) {
                Some(answered) => Cancelled::Answered(answered),
                None => Cancelled::Ended,
            },
            State::Free | State::Cancelled => Cancelled::Ended,
        }
    }

    /// Frees the slot of a cancelled call whose message the worker never received completely.
    pub(super) fn forget(&mut self, call: CallId) {
        if let Some((index, Slot { state: State::Cancelled, .. })) = self.slot(call) {
            self.progress.answered += 1;
            self.release(index, &mut Vec::new());
        }
    }

    /// Stores an answer, and adds the waiter of its call to `woken`. Returns the answer if no call
    /// waits for it.
    pub(super) fn answer(
        &mut self,
        call: CallId,
        answered: Answered,
        woken: &mut Vec<W>,
    ) -> Option<Answered> {
        // An unknown number is not an error: the caller may have cancelled in the meantime.
        let Some((index, slot)) = self.slot(call) else { return Some(answered) };
        match &mut slot.state {
            State::Waiting { .. } => {
                let waiting = mem::replace(&mut slot.state, State::Answered(answered));
                self.progress.answered += 1;
                self.answered_last = true;
                if let State::Waiting { waiter, .. } = waiting {
                    woken.push(waiter);
                }
                None
            }
            State::Cancelled => {
                self.progress.answered += 1;
                self.release(index, &mut Vec::new());
                Some(answered)
            }
            State::Free | State::Answered(_) => Some(answered),
        }
    }

    /// Fails all pending and all later calls, and adds the waiters of the pending ones to `woken`.
    pub(super) fn lose(&mut self, woken: &mut Vec<W>) {
        self.is_lost = true;
        woken.extend(self.slots.iter().filter_map(|it| match &it.state {
            State::Waiting { waiter, .. } => Some(waiter.clone()),
            _ => None,
        }));
    }

    /// Returns the number of calls that are not answered or cancelled. The answers to cancelled
    /// calls are awaited until the connection is lost.
    #[cfg(any(test, fuzzing))]
    pub(super) fn taken(&self) -> usize {
        let is_taken = |it: &&Slot<W>| match it.state {
            State::Free => false,
            State::Waiting { .. } | State::Answered(_) => true,
            State::Cancelled => !self.is_lost,
        };
        self.slots.iter().filter(is_taken).count()
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

    fn slot(&mut self, call: CallId) -> Option<(u32, &mut Slot<W>)> {
        let (index, uses) = (call.0 as u32, (call.0 >> 32) as u32);
        let slot = self.slots.get_mut(index as usize).filter(|it| it.uses == uses)?;
        Some((index, slot))
    }

    /// Frees a slot. Returns the answer in it, or adds its waiter to `dropped`.
    fn release(&mut self, index: u32, dropped: &mut Vec<W>) -> Option<Answered> {
        self.free.push(index);
        match mem::replace(&mut self.slots[index as usize].state, State::Free) {
            State::Answered(answered) => return Some(answered),
            State::Waiting { waiter, .. } => dropped.push(waiter),
            State::Free | State::Cancelled => {}
        }
        None
    }
}

/// The state of a call that was cancelled.
pub(super) enum Cancelled {
    /// The worker may still answer the call. Its slot stays taken until the answer arrives.
    Pending,
    /// The answer had arrived.
    Answered(Answered),
    /// The call had ended.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::Task;
    use crate::wire::SourceLocation;

    static FUNCTION: FunctionInfo = {
        let location =
            SourceLocation { package: "bank", version: "1.0.0", module: "bank", file: "", line: 1 };
        FunctionInfo::new("deposit", "Bank", location, "", "()")
    };

    fn value(value: &'static [u8]) -> Answered {
        let value = Bytes::from_static(value);
        Answered { outcome: Outcome::Value, value, streams: Vec::new() }
    }

    fn begin(calls: &mut Calls<Task>) -> CallId {
        calls.begin(&FUNCTION, &Task(0)).expect("the connection is not lost")
    }

    #[test]
    fn lost_connection_fails_every_waiting_call() {
        let (mut calls, mut woken) = (Calls::new(), Vec::new());
        let begun = [1, 2].map(|it| calls.begin(&FUNCTION, &Task(it)).expect("not lost"));

        calls.lose(&mut woken);

        assert_eq!(woken, [Task(1), Task(2)]);
        assert_eq!(calls.functions().map(FunctionInfo::name).collect::<Vec<_>>(), ["deposit"; 2]);
        for call in begun {
            assert!(matches!(calls.poll(call, &Task(0), &mut Vec::new()), CallStatus::Lost));
        }
        assert!(calls.begin(&FUNCTION, &Task(0)).is_none());
    }

    #[test]
    fn answer_received_before_loss_is_kept() {
        let (mut calls, mut woken) = (Calls::new(), Vec::new());
        let call = begin(&mut calls);
        calls.answer(call, value(b"7"), &mut woken);

        calls.lose(&mut woken);

        let status = calls.poll(call, &Task(0), &mut Vec::new());
        assert!(matches!(status, CallStatus::Answered(it) if it.value == b"7"[..]));
    }

    #[test]
    fn second_answer_does_not_reach_next_call() {
        let (mut calls, mut woken) = (Calls::new(), Vec::new());
        let call = begin(&mut calls);
        calls.answer(call, value(b"first"), &mut woken);
        calls.poll(call, &Task(0), &mut Vec::new());
        let next = begin(&mut calls);

        calls.answer(call, value(b"again"), &mut woken);

        assert!(matches!(calls.poll(next, &Task(0), &mut Vec::new()), CallStatus::Waiting));
    }

    #[test]
    fn cancelled_call_keeps_its_slot_until_answer() {
        let (mut calls, mut woken) = (Calls::new(), Vec::new());
        let call = begin(&mut calls);

        calls.cancel(call, &mut Vec::new());

        assert!(!calls.is_idle());
        assert_ne!(begin(&mut calls).0 as u32, call.0 as u32);
        assert!(calls.answer(call, value(b"late"), &mut woken).is_some());
        assert!(woken.is_empty());
        assert_eq!(begin(&mut calls).0 as u32, call.0 as u32);
    }
}
