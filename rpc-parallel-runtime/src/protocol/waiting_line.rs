//! A line in which tasks wait until they may proceed, in the order of their arrival.

use std::collections::VecDeque;
use std::mem;

use super::waiter::Waiter;

/// Waiting tasks, in the order of their arrival.
///
/// A task that is admitted proceeds when it is polled next, and then admits the next one. If it is
/// dropped instead, it must [leave](Self::leave), which admits the next one too. So one notification
/// is never lost, and no change notifies all waiting tasks at once.
pub(crate) struct WaitingLine<W> {
    /// The number of the first place in the queue.
    first: u64,
    /// `None` for tasks that have left.
    queue: VecDeque<Option<W>>,
}

/// The place of a task in a [`WaitingLine`].
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Place(u64);

impl<W: Waiter> WaitingLine<W> {
    pub(super) fn new() -> Self {
        Self { first: 0, queue: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a task at the end.
    pub(super) fn join(&mut self, waiter: &W) -> Place {
        self.queue.push_back(Some(waiter.clone()));
        Place(self.first + self.queue.len() as u64 - 1)
    }

    /// Returns whether the task at this place was admitted. Replaces its waiter otherwise, and adds
    /// the one before it to `dropped`.
    pub(super) fn is_admitted(&mut self, place: &Place, waiter: &W, dropped: &mut Vec<W>) -> bool {
        let Some(at) = place.0.checked_sub(self.first) else { return true };
        if let Some(Some(known)) = self.queue.get_mut(at as usize)
            && !known.is_same(waiter)
        {
            dropped.push(mem::replace(known, waiter.clone()));
        }
        false
    }

    /// Removes a task that was dropped, and adds its waiter to `dropped`. If it was admitted already,
    /// the next task is admitted.
    pub(super) fn leave(&mut self, place: Place, woken: &mut Vec<W>, dropped: &mut Vec<W>) {
        match place.0.checked_sub(self.first) {
            Some(at) => {
                if let Some(waiting) = self.queue.get_mut(at as usize) {
                    dropped.extend(waiting.take());
                }
                self.forget_left();
            }
            None => self.admit(1, woken),
        }
    }

    /// Admits the first `count` tasks.
    pub(super) fn admit(&mut self, count: usize, woken: &mut Vec<W>) {
        let mut admitted = 0;
        while admitted < count
            && let Some(waiter) = self.queue.pop_front()
        {
            self.first += 1;
            admitted += usize::from(waiter.is_some());
            woken.extend(waiter);
        }
        self.forget_left();
    }

    /// Admits all tasks.
    pub(super) fn admit_all(&mut self, woken: &mut Vec<W>) {
        self.admit(usize::MAX, woken);
    }

    /// Removes tasks at the front that have left.
    fn forget_left(&mut self) {
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::Task;

    #[test]
    fn tasks_are_admitted_in_order_of_arrival() {
        let (mut line, mut woken) = (WaitingLine::new(), Vec::new());
        let places = [1, 2, 3].map(|it| line.join(&Task(it)));

        line.admit(2, &mut woken);

        assert_eq!(woken, [Task(1), Task(2)]);
        let admitted = places.map(|it| line.is_admitted(&it, &Task(0), &mut Vec::new()));
        assert_eq!(admitted, [true, true, false]);
    }

    #[test]
    fn task_that_leaves_after_admission_admits_next() {
        let (mut line, mut woken) = (WaitingLine::new(), Vec::new());
        let [first, _second] = [1, 2].map(|it| line.join(&Task(it)));
        line.admit(1, &mut woken);

        line.leave(first, &mut woken, &mut Vec::new());

        assert_eq!(woken, [Task(1), Task(2)]);
    }

    #[test]
    fn task_that_leaves_before_admission_is_skipped() {
        let (mut line, mut woken) = (WaitingLine::new(), Vec::new());
        let [first, ..] = [1, 2, 3].map(|it| line.join(&Task(it)));

        line.leave(first, &mut woken, &mut Vec::new());
        line.admit(1, &mut woken);

        assert_eq!(woken, [Task(2)]);
        assert!(!line.is_empty());
    }
}
