//! New items.

use std::time::Instant;

use bytes::Bytes;

use super::batching::Appetite;
use super::lane::{Duty, WorkerKey};
use super::machine::{Engine, SourceState};
use super::output::Output;
use super::span::{Block, Span};

/// A worker that wants new items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::pool) struct Pull {
    pub(in crate::pool) worker: WorkerKey,
    /// The maximum number of items. At least 1.
    pub(in crate::pool) max_items: u32,
    /// The number of bytes after which no further item is added. At least 1.
    pub(in crate::pool) max_bytes: usize,
}

impl<D> Engine<D> {
    /// Notes how many items the source still has, at least or exactly. The caller updates it after
    /// each pull.
    pub(in crate::pool) fn source_len(&mut self, lower: u64, is_exact: bool) {
        self.source.remaining = lower;
        self.source.is_exact = is_exact;
    }

    /// A worker that wants new items, if the window has room for them. The caller answers with
    /// [`pulled`](Self::pulled), [`source_pending`](Self::source_pending) or
    /// [`source_ended`](Self::source_ended).
    pub(in crate::pool) fn poll_pull(&mut self) -> Option<Pull> {
        if self.source.state != SourceState::Ready || self.backlog.items() > 0 {
            return None;
        }
        let (room_items, room_bytes) = self.window.room()?;
        let (appetite, worker) = self.lanes.hungriest()?;
        let workers = self.lanes.available();
        let lane = self.lanes.get(worker)?;
        let size = self.batching.size(lane, workers);
        let remaining = self.source.is_exact.then_some(self.source.remaining);
        let wanted = size.min(self.batching.most_items(lane, remaining, workers));
        // While the consumer is slow, a few large batches cost less than many small ones.
        if appetite != Appetite::Idle && room_items < u64::from(wanted) {
            return None;
        }
        let max_items = wanted.min(u32::try_from(room_items).unwrap_or(u32::MAX));
        let room_bytes = usize::try_from(room_bytes).unwrap_or(usize::MAX);
        let max_bytes = self.batching.most_bytes(workers).min(room_bytes).max(1);
        self.pulling = Some((worker, size));
        Some(Pull { worker, max_items, max_bytes })
    }

    /// Gives new items, encoded one after the other, to the worker that wanted them.
    pub(in crate::pool) fn pulled(
        &mut self,
        worker: WorkerKey,
        items: Bytes,
        count: u32,
        now: Instant,
    ) {
        self.waiting.advance(now);
        if count > 0 {
            let bytes = items.len();
            let block = Block { first_index: self.counters.pulled, count, items };
            self.counters.pulled += u64::from(count);
            self.window.pulled(u64::from(count), bytes as u64);
            let span = Span { block, range: 0..count, deaths: 0 };
            let size = self.pulling.take().filter(|(it, _)| *it == worker).map(|(_, size)| size);
            let is_full = bytes >= self.batching.most_bytes(self.lanes.available());
            match self.lanes.get_mut(worker) {
                Some(lane) if lane.duty == Duty::Working => {
                    // A short pull does not make the next batch small, unless bytes have limited it.
                    lane.last_size = size.filter(|_| !is_full).unwrap_or(count);
                    self.send(worker, span, false, now);
                }
                // The worker was lost in the meantime, for example.
                _ => self.backlog.insert(span),
            }
        }
        self.settle(now);
    }

    /// The source has no item at the moment.
    pub(in crate::pool) fn source_pending(&mut self, now: Instant) {
        self.set_source(SourceState::Pending, now);
    }

    /// The source has items again.
    pub(in crate::pool) fn source_resumed(&mut self, now: Instant) {
        self.set_source(SourceState::Ready, now);
    }

    /// There are no more items: the source is exhausted or has failed, or the consumer has enough.
    pub(in crate::pool) fn source_ended(&mut self, now: Instant) {
        self.set_source(SourceState::Ended, now);
    }

    /// The next item of the source cannot be sent to any worker, for this encoded `Refusal`.
    pub(in crate::pool) fn refused_before_start(&mut self, refusal: Bytes, now: Instant) {
        self.waiting.advance(now);
        let index = self.counters.pulled;
        self.counters.pulled += 1;
        self.counters.failed += 1;
        self.window.pulled(1, 0);
        self.window.answered(0, refusal.len() as u64);
        self.outputs.push(Output::Refused { index, bytes: refusal });
        self.settle(now);
    }

    fn set_source(&mut self, state: SourceState, now: Instant) {
        self.waiting.advance(now);
        if self.source.state != SourceState::Ended {
            self.source.state = state;
        }
        self.settle(now);
    }
}
