//! The batches that a worker has received and not finished.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::message::{Batch, Record};

/// The number of batches from which on no more orders are read.
const FULL: usize = 1024;

/// The size of all batches from which on no more orders are read, in bytes.
const FULL_LEN: usize = 16 * 1024 * 1024;

/// The batches of one map in their order. Items are claimed from the front, and taken back from the
/// end.
#[derive(Default)]
pub(super) struct Queue {
    batches: VecDeque<Queued>,
    /// The size of all batches, in bytes.
    len: usize,
    /// The number of batches that were added. It identifies the next one.
    added: u64,
}

/// A batch that is not finished.
#[derive(Debug)]
pub(super) struct Queued {
    /// Identifies the batch in this process. The master may use an id twice.
    pub(super) serial: u64,
    pub(super) id: u64,
    pub(super) items: Bytes,
    pub(super) start: u32,
    /// The next item that will be claimed.
    pub(super) next: u32,
    pub(super) end: u32,
    attempt: u8,
    pub(super) careful: bool,
    /// The number of items that were claimed and are not done.
    pub(super) running: u32,
    /// The number of items that are done.
    pub(super) done: u32,
    /// When its first item was claimed.
    pub(super) began: Option<Instant>,
    /// The position in `items` from which on `unread` items precede the next one.
    pub(super) position: usize,
    pub(super) unread: u32,
}

impl Queued {
    /// Claims the next item, and returns its index.
    #[inline]
    pub(super) fn claim(&mut self) -> Option<u32> {
        let item = self.next;
        if item == self.end {
            return None;
        }
        self.next += 1;
        self.running += 1;
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
        Some(item)
    }

    /// Returns the number of workers that have died while they ran this item.
    pub(super) fn attempt(&self, item: u32) -> u32 {
        if item == self.start { self.attempt.into() } else { 0 }
    }

    /// Returns whether the items run alone, also where several items may run at once: a worker has
    /// died of one of them.
    pub(super) fn runs_alone(&self) -> bool {
        self.attempt > 0
    }

    /// Returns whether no item of the batch is left.
    pub(super) fn is_over(&self) -> bool {
        self.next == self.end && self.running == 0
    }
}

impl Queue {
    pub(super) fn add(&mut self, batch: Batch) {
        let Batch { id, start, end, attempt, careful, items } = batch;
        self.len += items.len();
        self.batches.push_back(Queued {
            serial: self.added,
            id,
            items,
            start,
            next: start,
            end,
            attempt,
            careful,
            running: 0,
            done: 0,
            began: None,
            position: 0,
            unread: start,
        });
        self.added += 1;
    }

    /// Returns whether no more orders should be read. The master knows how much it has sent.
    pub(super) fn is_full(&self) -> bool {
        self.batches.len() >= FULL || self.len >= FULL_LEN
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    #[inline]
    pub(super) fn front(&mut self) -> Option<&mut Queued> {
        self.batches.front_mut()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.batches.iter_mut()
    }

    pub(super) fn find(&mut self, serial: u64) -> Option<&mut Queued> {
        self.batches.iter_mut().find(|it| it.serial == serial)
    }

    /// Returns the serial number of a batch of which no item is left.
    pub(super) fn over(&self) -> Option<u64> {
        self.batches.iter().find(|it| it.is_over()).map(|it| it.serial)
    }

    /// Removes a batch, and returns the record of its end.
    pub(super) fn finish(&mut self, serial: u64) -> Option<Record> {
        let at = self.batches.iter().position(|it| it.serial == serial)?;
        let batch = self.batches.remove(at)?;
        self.len -= batch.items.len();
        let nanos = batch.began.map_or(0, |it| it.elapsed().as_nanos());
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Some(Record::Finished { batch: batch.id, items: batch.done, nanos })
    }

    /// Takes up to `most` items back that have not begun, from the end.
    pub(super) fn take_back(&mut self, most: u32) -> Vec<Record> {
        let (mut left, mut records) = (most, Vec::new());
        for batch in self.batches.iter_mut().rev() {
            let taken = left.min(batch.end - batch.next);
            if taken > 0 {
                let (from, to) = (batch.end - taken, batch.end);
                records.push(Record::GivenBack { batch: batch.id, from, to });
                batch.end = from;
                left -= taken;
            }
        }
        // A batch of which no item has begun is not finished, but gone.
        while self.batches.back().is_some_and(|it| it.began.is_none() && it.next == it.end) {
            self.len -= self.batches.pop_back().map_or(0, |it| it.items.len());
        }
        records
    }

    /// Removes all batches.
    pub(super) fn clear(&mut self) {
        (self.batches, self.len) = (VecDeque::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(batches: &[(u64, u32, u32)]) -> Queue {
        let mut queue = Queue::default();
        for &(id, start, end) in batches {
            let items = Bytes::from_static(b"12345");
            queue.add(Batch { id, start, end, attempt: 2, careful: false, items });
        }
        queue
    }

    fn given_back(batch: u64, from: u32, to: u32) -> Record {
        Record::GivenBack { batch, from, to }
    }

    #[test]
    fn items_are_taken_back_from_end_and_never_after_they_began() {
        let mut queue = queue(&[(7, 5, 10), (8, 0, 4)]);
        let item = queue.front().and_then(Queued::claim);

        assert_eq!(item, Some(5));
        assert_eq!(queue.take_back(1), [given_back(8, 3, 4)]);
        assert_eq!(queue.take_back(4), [given_back(8, 0, 3), given_back(7, 9, 10)]);
        assert_eq!(queue.take_back(100), [given_back(7, 6, 9)]);
        assert_eq!(queue.take_back(100), []);
        assert_eq!(queue.front().and_then(Queued::claim), None);
    }

    #[test]
    fn batch_whose_items_were_all_taken_back_is_gone() {
        let mut queue = queue(&[(7, 5, 10), (8, 0, 4)]);

        queue.take_back(9);

        assert!(queue.is_empty());
        assert_eq!(queue.len, 0);
    }

    #[test]
    fn only_first_item_of_batch_has_its_attempt() {
        let mut queue = queue(&[(7, 5, 10)]);
        let batch = queue.front().expect("there is one");

        assert_eq!([batch.attempt(5), batch.attempt(6)], [2, 0]);
    }

    #[test]
    fn finished_batch_reports_items_that_were_done() {
        let mut queue = queue(&[(7, 5, 6)]);
        let batch = queue.front().expect("there is one");
        batch.claim();
        assert!(!batch.is_over());
        (batch.running, batch.done) = (0, 1);
        assert!(batch.is_over());

        let record = queue.finish(0);

        assert!(matches!(record, Some(Record::Finished { batch: 7, items: 1, .. })));
        assert!(queue.finish(0).is_none() && queue.is_empty());
    }
}
