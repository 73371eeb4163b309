//! A queue that threads fill, and one thread empties.
//!
//! std's channels are compiled in three forms for each type of element. This is one form.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

/// A queue without a bound.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    elements: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let state = State { elements: VecDeque::new(), is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds an element, and wakes a thread that waits in [`pop`](Self::pop).
    pub(super) fn push(&self, element: T) {
        self.state().elements.push_back(element);
        self.changed.notify_one();
    }

    /// Ends the queue: [`pop`](Self::pop) returns `None` after the last element.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for an element. Returns `None` when the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            match state.elements.pop_front() {
                Some(element) => return Some(element),
                None if state.is_closed => return None,
                None => state = self.changed.wait(state).expect(LOCK),
            }
        }
    }

    /// Returns the first element, if there is one.
    pub(super) fn try_pop(&self) -> Option<T> {
        self.state().elements.pop_front()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect(LOCK)
    }
}

const LOCK: &str = "no thread panics while it holds this lock";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn elements_arrive_in_order_until_queue_is_closed() {
        let queue = Arc::new(Queue::new());
        let received = thread::spawn({
            let queue = queue.clone();
            move || std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>()
        });

        for number in 0..1000 {
            queue.push(number);
        }
        queue.close();

        assert_eq!(received.join().expect("no panic"), (0..1000).collect::<Vec<_>>());
        assert_eq!(queue.try_pop(), None);
    }
}
