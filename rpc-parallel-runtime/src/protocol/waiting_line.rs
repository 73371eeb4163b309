//! The lines in which calls wait until they may be sent.

use std::collections::BTreeMap;
use std::mem;
use std::ops::{Index, IndexMut};

use super::waiter::Waiter;

/// The lines of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// Calls that wait until the queue of frames has room, and fewer calls wait for answers.
    Calls,
    /// One-way calls that wait until the queue of frames has room, and others have completed.
    OneWay,
}

/// The waiting tasks of each line.
pub(super) struct Lines<W>([WaitingLine<W>; 2]);

impl<W: Waiter> Lines<W> {
    pub(super) fn new() -> Self {
        Self([WaitingLine::new(), WaitingLine::new()])
    }

    /// Admits all tasks.
    pub(super) fn admit_all(&mut self, woken: &mut Vec<W>) {
        self.0.iter_mut().for_each(|it| it.admit(usize::MAX, woken));
    }
}

impl<W> Index<Line> for Lines<W> {
    type Output = WaitingLine<W>;

    fn index(&self, line: Line) -> &WaitingLine<W> {
        &self.0[line as usize]
    }
}

impl<W> IndexMut<Line> for Lines<W> {
    fn index_mut(&mut self, line: Line) -> &mut WaitingLine<W> {
        &mut self.0[line as usize]
    }
}

/// Waiting tasks, in the order of their arrival.
///
/// A task that is admitted proceeds when it is polled next, and until then what it needs is reserved
/// for it. So no change notifies more tasks than can proceed, and no task overtakes another. A task
/// that is dropped must [leave](Self::leave).
pub(crate) struct WaitingLine<W> {
    /// The number of the next place.
    next: u64,
    waiting: BTreeMap<u64, W>,
    /// The number of tasks that were admitted, and have not proceeded yet.
    admitted: usize,
}

/// The place of a task in a [`WaitingLine`].
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Place(u64);

impl<W: Waiter> WaitingLine<W> {
    pub(super) fn new() -> Self {
        Self { next: 0, waiting: BTreeMap::new(), admitted: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the number of waiting tasks.
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the number of tasks that were admitted, and have not proceeded yet.
    pub(super) fn admitted(&self) -> usize {
        self.admitted
    }

    /// Adds a task at the end.
    pub(super) fn join(&mut self, waiter: &W) -> Place {
        let place = self.next;
        self.next += 1;
        self.waiting.insert(place, waiter.clone());
        Place(place)
    }

    /// Returns whether the task at this place was admitted. Replaces its waiter otherwise, and adds
    /// the one before it to `dropped`.
    pub(super) fn is_admitted(&mut self, place: &Place, waiter: &W, dropped: &mut Vec<W>) -> bool {
        let Some(known) = self.waiting.get_mut(&place.0) else { return true };
        if !known.is_same(waiter) {
            dropped.push(mem::replace(known, waiter.clone()));
        }
        false
    }

    /// Records that an admitted task proceeds.
    pub(super) fn proceed(&mut self) {
        self.admitted = self.admitted.saturating_sub(1);
    }

    /// Lets an admitted task wait again, before all that have arrived after it.
    pub(super) fn wait_again(&mut self, place: &Place, waiter: &W) {
        self.admitted = self.admitted.saturating_sub(1);
        self.waiting.insert(place.0, waiter.clone());
    }

    /// Removes a task that was dropped, and adds its waiter to `dropped`.
    pub(super) fn leave(&mut self, place: &Place, dropped: &mut Vec<W>) {
        match self.waiting.remove(&place.0) {
            Some(waiter) => dropped.push(waiter),
            None => self.proceed(),
        }
    }

    /// Admits the first `count` tasks.
    pub(super) fn admit(&mut self, count: usize, woken: &mut Vec<W>) {
        for _ in 0..count {
            let Some((_, waiter)) = self.waiting.pop_first() else { return };
            self.admitted += 1;
            woken.push(waiter);
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

        assert_eq!((&woken[..], line.admitted()), (&[Task(1), Task(2)][..], 2));
        let admitted = places.map(|it| line.is_admitted(&it, &Task(0), &mut Vec::new()));
        assert_eq!(admitted, [true, true, false]);
    }

    #[test]
    fn task_that_waits_again_keeps_its_place() {
        let (mut line, mut woken) = (WaitingLine::new(), Vec::new());
        let [first, _second] = [1, 2].map(|it| line.join(&Task(it)));
        line.admit(1, &mut woken);

        line.wait_again(&first, &Task(1));
        line.admit(1, &mut woken);

        assert_eq!(woken, [Task(1), Task(1)]);
        assert_eq!(line.admitted(), 1);
    }

    #[test]
    fn task_that_leaves_is_not_admitted() {
        let (mut line, mut woken) = (WaitingLine::new(), Vec::new());
        let [first, second, _third] = [1, 2, 3].map(|it| line.join(&Task(it)));

        line.leave(&first, &mut Vec::new());
        line.admit(1, &mut woken);
        line.leave(&second, &mut Vec::new());

        assert_eq!((&woken[..], line.admitted()), (&[Task(2)][..], 0));
        assert!(!line.is_empty());
    }
}
