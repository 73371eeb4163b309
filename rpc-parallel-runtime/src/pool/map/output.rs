//! The results of a map on their way from its task to the consumer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::error::{DeathReason, MapEnd};
use crate::pool::engine::Output as Piece;

/// The queue between the task and the consumer.
///
/// It has no bound of its own: the engine pulls no new items while more than its window of them are
/// unconsumed, and each piece holds the results of at least one item.
pub(super) struct Output {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece<DeathReason>>,
    /// What the consumer has taken since the task asked last.
    consumed: Consumed,
    /// Set when no further pieces follow.
    ended: Option<Result<(), MapEnd>>,
    /// Whether the consumer wants no more.
    is_cancelled: bool,
    consumer: Option<Waker>,
    task: Option<Waker>,
    /// Whether the task waits until the consumer has taken something.
    task_waits: bool,
}

/// The number of items that a consumer has taken, and the size of their results in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Consumed {
    pub(super) items: u64,
    pub(super) bytes: usize,
}

/// How often the task is woken because of consumed results: not for each piece.
const WAKE_AFTER: u64 = 64;

/// What the consumer gets.
pub(super) enum Next {
    Piece(Piece<DeathReason>),
    /// There are no further pieces.
    End(Result<(), MapEnd>),
}

impl Output {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    /// Returns the next piece, and notes that the piece before it was consumed.
    ///
    /// The end is returned once with its error, and then without one.
    pub(super) fn poll_next(&self, consumed: Consumed, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state();
        state.consumed.items += consumed.items;
        state.consumed.bytes += consumed.bytes;
        let next = match state.pieces.pop_front() {
            Some(piece) => Poll::Ready(Next::Piece(piece)),
            None => match &mut state.ended {
                Some(ended) => Poll::Ready(Next::End(std::mem::replace(ended, Ok(())))),
                None => {
                    match &mut state.consumer {
                        Some(consumer) => consumer.clone_from(cx.waker()),
                        None => state.consumer = Some(cx.waker().clone()),
                    }
                    Poll::Pending
                }
            },
        };
        let is_due = next.is_pending() || state.consumed.items >= WAKE_AFTER;
        let wakes = state.task_waits && is_due && state.consumed.items > 0;
        let task = if wakes { state.task.take() } else { None };
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
        next
    }

    /// Tells the task that the consumer wants no more.
    pub(super) fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        let (pieces, task) = (std::mem::take(&mut state.pieces), state.task.take());
        drop(state);
        drop(pieces);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Appends pieces, and returns what was consumed since the last call. Returns `None` if the
    /// consumer wants no more. `waits` says whether the task goes on only when more was consumed;
    /// otherwise the consumer does not wake it.
    pub(super) fn exchange(
        &self,
        pieces: &mut Vec<Piece<DeathReason>>,
        waits: bool,
        cx: &mut Context<'_>,
    ) -> Option<Consumed> {
        let mut state = self.state();
        if state.is_cancelled {
            return None;
        }
        let consumer = if pieces.is_empty() { None } else { state.consumer.take() };
        state.pieces.extend(pieces.drain(..));
        match &mut state.task {
            Some(task) => task.clone_from(cx.waker()),
            None => state.task = Some(cx.waker().clone()),
        }
        state.task_waits = waits;
        let consumed = std::mem::take(&mut state.consumed);
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Some(consumed)
    }

    /// Ends the results. Only the first call has an effect.
    pub(super) fn end(&self, end: Result<(), MapEnd>) {
        let mut state = self.state();
        state.ended.get_or_insert(end);
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pool::map::wake_count::WakeCount;

    /// Returns how often a consumer of one piece wakes the task.
    fn wakes(task_waits: bool) -> usize {
        let output = Output::new();
        let (waker, count) = WakeCount::waker();
        let mut cx = Context::from_waker(&waker);
        let mut pieces =
            vec![Piece::Values { first_index: 0, count: 3, bytes: Bytes::from_static(b"abc") }];
        output
            .exchange(&mut pieces, task_waits, &mut cx)
            .expect("the consumer has not cancelled the map");
        let mut consumer = Context::from_waker(Waker::noop());

        let piece = output.poll_next(Consumed::default(), &mut consumer);
        assert!(piece.is_ready());
        let end = output.poll_next(Consumed { items: 3, bytes: 3 }, &mut consumer);
        assert!(end.is_pending());

        let consumed = output.exchange(&mut Vec::new(), false, &mut cx);
        assert!(consumed.is_some_and(|it| (it.items, it.bytes) == (3, 3)));
        count.get()
    }

    #[test]
    fn consumer_wakes_task_only_if_it_waits() {
        assert_eq!([wakes(true), wakes(false)], [1, 0]);
    }
}
