//! Outputs, in the order of the items or as they come.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// The answer for one item or for a run of items.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::pool) enum Output<D> {
    /// Encoded results, one after the other; in a reduction, one accumulator for all of the items.
    Values { first_index: u64, count: u32, bytes: Bytes },
    /// The function returned an error, which is encoded like a result.
    Failed { index: u64, bytes: Bytes },
    /// The item has no result. The bytes are an encoded `Refusal`.
    Refused { index: u64, bytes: Bytes },
    /// The item has ended this number of workers, the last one for this reason.
    Died { index: u64, attempts: u8, reason: D },
    /// The item ran for longer than the timeout.
    TimedOut { index: u64 },
}

impl<D> Output<D> {
    pub(in crate::pool) fn first_index(&self) -> u64 {
        match self {
            Self::Values { first_index, .. } => *first_index,
            Self::Failed { index, .. }
            | Self::Refused { index, .. }
            | Self::Died { index, .. }
            | Self::TimedOut { index } => *index,
        }
    }

    /// The number of items that the output is for.
    pub(in crate::pool) fn count(&self) -> u32 {
        if let Self::Values { count, .. } = self { *count } else { 1 }
    }

    /// The number of bytes that the window counts until they are consumed.
    pub(in crate::pool) fn len(&self) -> usize {
        match self {
            Self::Values { bytes, .. }
            | Self::Failed { bytes, .. }
            | Self::Refused { bytes, .. } => bytes.len(),
            Self::Died { .. } | Self::TimedOut { .. } => 0,
        }
    }
}

/// Outputs that the caller has not polled. The window of the map bounds them.
#[derive(Debug)]
pub(super) struct OutputQueue<D> {
    ready: VecDeque<Output<D>>,
    order: Option<Order<D>>,
}

#[derive(Debug)]
struct Order<D> {
    /// The index that comes next.
    next: u64,
    /// What comes later, by the index of the first item.
    later: BTreeMap<u64, Output<D>>,
}

impl<D> OutputQueue<D> {
    pub(super) fn new(ordered: bool) -> Self {
        let order = ordered.then(|| Order { next: 0, later: BTreeMap::new() });
        Self { ready: VecDeque::new(), order }
    }

    /// Adds the answer for items that were not answered before.
    pub(super) fn push(&mut self, output: Output<D>) {
        let Some(order) = &mut self.order else { return self.ready.push_back(output) };
        if output.first_index() != order.next {
            order.later.insert(output.first_index(), output);
            return;
        }
        order.next += u64::from(output.count());
        self.ready.push_back(output);
        while let Some(entry) = order.later.first_entry().filter(|it| *it.key() == order.next) {
            let output = entry.remove();
            order.next += u64::from(output.count());
            self.ready.push_back(output);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Output<D>> {
        self.ready.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.order.as_ref().is_none_or(|it| it.later.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(first_index: u64, count: u32) -> Output<()> {
        Output::Values { first_index, count, bytes: Bytes::new() }
    }

    fn drain(queue: &mut OutputQueue<()>) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|it| it.first_index()).collect()
    }

    #[test]
    fn ordered_outputs_wait_for_the_first_index() {
        let mut queue = OutputQueue::new(true);

        queue.push(values(5, 2));
        queue.push(Output::TimedOut { index: 4 });
        let before = drain(&mut queue);
        queue.push(values(0, 4));
        let after = drain(&mut queue);

        assert_eq!(before, []);
        assert_eq!(after, [0, 4, 5]);
        assert!(queue.is_empty());
    }

    #[test]
    fn unordered_outputs_come_at_once() {
        let mut queue = OutputQueue::new(false);

        queue.push(values(5, 2));
        queue.push(values(0, 4));

        assert_eq!(drain(&mut queue), [5, 0]);
    }
}
