//! What workers report.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::lane::{Duty, WorkerKey};
use super::machine::{Action, Engine};
use super::output::Output;
use super::span::Span;
use super::verdict::LongestBatch;
use crate::worker::items::{Record, Report};

/// A worker has reported something that does not fit what it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::pool) enum Misbehaved {
    #[error("report about batch {batch}, which the worker does not have")]
    UnknownBatch { batch: u64 },
    #[error("report about items {from}..{to} of batch {batch}, which do not wait for an answer")]
    NotOpen { batch: u64, from: u32, to: u32 },
    #[error("batch {batch} was reported as finished with {open} items unanswered")]
    Unfinished { batch: u64, open: u32 },
    #[error("{expected} bytes of results were announced, {found} arrived")]
    Short { expected: u64, found: usize },
    #[error("items were given back that were not asked for")]
    NotAsked,
}

impl<D> Engine<D> {
    /// Handles a report of a worker. Reports of workers that are not part of the map are ignored.
    ///
    /// # Errors
    ///
    /// Fails if the worker does not keep to the protocol. The caller then kills it, and calls
    /// [`worker_lost`](Self::worker_lost). Records before the wrong one count.
    pub(in crate::pool) fn report(
        &mut self,
        worker: WorkerKey,
        report: Report,
        now: Instant,
    ) -> Result<(), Misbehaved> {
        self.waiting.advance(now);
        let Report { mut results, records } = report;
        let handled = if self.lanes.contains(worker) {
            records.into_iter().try_for_each(|it| self.record(worker, it, &mut results, now))
        } else {
            Ok(())
        };
        self.lanes.reindex(worker, &self.batching);
        self.retire(worker, now);
        self.settle(now);
        handled
    }

    fn record(
        &mut self,
        worker: WorkerKey,
        record: Record,
        results: &mut Bytes,
        now: Instant,
    ) -> Result<(), Misbehaved> {
        match record {
            Record::Results { batch, from, to, len } => {
                let bytes = take(results, len)?;
                self.answered(worker, batch, from..to, now, |first_index| Output::Values {
                    first_index,
                    count: to - from,
                    bytes,
                })
            }
            Record::Failed { batch, item, len } => {
                let bytes = take(results, len)?;
                let range = item..item.saturating_add(1);
                self.answered(worker, batch, range, now, |index| Output::Failed { index, bytes })
            }
            Record::Refused { batch, item, len } => {
                let bytes = take(results, len)?;
                let range = item..item.saturating_add(1);
                self.answered(worker, batch, range, now, |index| Output::Refused { index, bytes })
            }
            Record::GivenBack { batch, from, to } => self.given_back(worker, batch, from..to, now),
            Record::TakenBack => self.taken_back(worker),
            Record::Finished { batch, items, nanos } => {
                self.finished(worker, batch, items, nanos, now)
            }
            Record::Overdue { batch, item } => {
                self.overdue(worker, batch, item);
                Ok(())
            }
            Record::Alive => Ok(()),
            Record::Begun { batch, item } => self.begun(worker, batch, item),
        }
    }

    fn begun(&mut self, worker: WorkerKey, id: u64, item: u32) -> Result<(), Misbehaved> {
        let unknown = Misbehaved::UnknownBatch { batch: id };
        let lane = self.lanes.get_mut(worker).ok_or(unknown)?;
        let batch = lane.find(id).ok_or(unknown)?;
        let range = item..item.saturating_add(1);
        // Another worker may have answered the item.
        let is_open = batch.open.contains(&range) || batch.superseded.contains(&range);
        if !is_open || batch.begun.contains(&range) {
            return Err(Misbehaved::NotOpen { batch: id, from: range.start, to: range.end });
        }
        batch.begun.insert(item);
        Ok(())
    }

    fn answered(
        &mut self,
        worker: WorkerKey,
        id: u64,
        range: Range<u32>,
        now: Instant,
        output: impl FnOnce(u64) -> Output<D>,
    ) -> Result<(), Misbehaved> {
        let unknown = Misbehaved::UnknownBatch { batch: id };
        let lane = self.lanes.get_mut(worker).ok_or(unknown)?;
        let batch = lane.find(id).ok_or(unknown)?;
        // Another worker was faster, or the item was overdue.
        if batch.superseded.contains(&range) {
            return Ok(());
        }
        if !batch.open.remove(&range) {
            return Err(Misbehaved::NotOpen { batch: id, from: range.start, to: range.end });
        }
        let count = range.end - range.start;
        if !batch.begun.is_empty() {
            for item in range.clone() {
                batch.begun.remove(&(item..item + 1));
            }
        }
        batch.answered += count;
        batch.touched = now;
        let (block, twin) = (batch.block.clone(), batch.twin.take());
        lane.open -= u64::from(count);
        lane.items += u64::from(count);
        lane.overrun = false;
        lane.barren = false;
        self.answer(&block, &range, output(block.index_of(range.start)));
        self.supersede(twin);
        Ok(())
    }

    fn given_back(
        &mut self,
        worker: WorkerKey,
        id: u64,
        range: Range<u32>,
        now: Instant,
    ) -> Result<(), Misbehaved> {
        let unknown = Misbehaved::UnknownBatch { batch: id };
        let lane = self.lanes.get_mut(worker).ok_or(unknown)?;
        if lane.taking_back.is_none() {
            return Err(Misbehaved::NotAsked);
        }
        lane.barren = false;
        let batch = lane.find(id).ok_or(unknown)?;
        // Another worker may have answered the item that had not begun here.
        let is_open = batch.open.remove(&range);
        if !is_open && !batch.superseded.remove(&range) {
            return Err(Misbehaved::NotOpen { batch: id, from: range.start, to: range.end });
        }
        let twin = batch.twin.take();
        let span = Span { block: batch.block.clone(), range, deaths: batch.deaths };
        let alone = batch.alone;
        // A batch that has not begun does not finish either.
        let is_gone = batch.open.is_empty() && batch.answered == 0 && batch.superseded.is_empty();
        if is_open {
            lane.open -= u64::from(span.len());
        }
        if is_gone {
            lane.remove(id, now);
            if lane.duty == Duty::Alone {
                lane.duty = Duty::Working;
            }
        }
        if !is_open {
            return Ok(());
        }
        self.counters.given_back += u64::from(span.len());
        if let Some(twin) = twin {
            self.unlink(twin, false);
        } else if alone {
            self.backlog.insert_suspect(span);
        } else {
            self.backlog.insert(span);
        }
        Ok(())
    }

    fn taken_back(&mut self, worker: WorkerKey) -> Result<(), Misbehaved> {
        let lane = self.lanes.get_mut(worker).ok_or(Misbehaved::NotAsked)?;
        lane.taking_back.take().ok_or(Misbehaved::NotAsked).map(|_| ())
    }

    fn finished(
        &mut self,
        worker: WorkerKey,
        id: u64,
        items: u32,
        nanos: u64,
        now: Instant,
    ) -> Result<(), Misbehaved> {
        let unknown = Misbehaved::UnknownBatch { batch: id };
        let concurrency = self.batching.concurrency();
        let lane = self.lanes.get_mut(worker).ok_or(unknown)?;
        let Some(batch) = lane.find(id) else {
            // All of its items were given back before the first one began.
            return if items == 0 { Ok(()) } else { Err(unknown) };
        };
        if !batch.open.is_empty() {
            return Err(Misbehaved::Unfinished { batch: id, open: batch.open.len() });
        }
        let first_index = batch.block.index_of(batch.start);
        let time = Duration::from_nanos(nanos);
        lane.finish(id, time, now);
        lane.busy = lane.busy.saturating_add(time);
        if items > 0 {
            let per_item = nanos as f64 / f64::from(items.max(concurrency));
            lane.per_item = Some(per_item);
            self.batching.finished(items, per_item);
            self.median.add(nanos / u64::from(items.div_ceil(concurrency)), u64::from(items));
            self.waiting.finished(LongestBatch { first_index, items, time });
        }
        if lane.duty == Duty::Alone {
            lane.duty = Duty::Working;
        }
        Ok(())
    }

    pub(super) fn overdue(&mut self, worker: WorkerKey, id: u64, item: u32) {
        let Some(lane) = self.lanes.get_mut(worker) else { return };
        let Some(batch) = lane.find(id) else { return };
        // The item may have been answered in the meantime.
        let range = item..item.saturating_add(1);
        if !batch.open.remove(&range) {
            return;
        }
        batch.superseded.insert(item);
        let (block, twin) = (batch.block.clone(), batch.twin.take());
        lane.open -= 1;
        lane.duty = Duty::Doomed;
        let index = block.index_of(item);
        self.answer(&block, &range, Output::TimedOut { index });
        self.supersede(twin);
        self.actions.push_back(Action::Kill { worker, index });
    }
}

/// Takes the bytes of one record.
fn take(results: &mut Bytes, len: u64) -> Result<Bytes, Misbehaved> {
    let short = Misbehaved::Short { expected: len, found: results.len() };
    let len = usize::try_from(len).map_err(|_| short)?;
    if len > results.len() { Err(short) } else { Ok(results.split_to(len)) }
}
