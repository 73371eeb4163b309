//! How lanes claim items and end them. A lane runs one item at a time.

use std::pin::{Pin, pin};

use bytes::Bytes;

use super::fold::Fold;
use super::item_run::ItemRun;
use super::message::MalformedItems;
use super::outgoing::{Outgoing, write_refusal};
use super::run_state::RunState;
use super::running::Running;
use crate::wire::{Body, ItemReader, Outcome, Refusal};

/// An item that a lane has claimed.
pub(super) struct Claimed {
    running: Running,
    /// The number of workers that have died while they ran the item.
    pub(super) attempt: u32,
    pub(super) bytes: Bytes,
}

impl Claimed {
    /// Returns whether the result must be written before another item begins.
    pub(super) fn is_careful(&self) -> bool {
        self.running.careful
    }

    /// Begins an accumulator with the result of this item.
    pub(super) fn begin_fold(&self, value: Vec<u8>) -> Fold {
        let Running { serial, batch, item, .. } = self.running;
        Fold::new((serial, batch, item), value)
    }
}

/// The result of trying to claim an item.
enum Claim {
    Item(Claimed),
    Nothing,
    Closed,
}

impl ItemRun {
    /// Waits until another lane is needed: an item can begin, and no lane waits.
    pub(super) async fn lane_needed(&self) {
        self.until(&self.work, |it| {
            let claimable = it.queue.iter_mut().any(|it| it.next < it.end);
            (claimable && it.idle_lanes == 0).then_some(())
        })
        .await;
    }

    /// Claims the next item for a lane. Returns `None` when the map has ended. `skip` skips one
    /// item, and returns whether it is complete.
    ///
    /// # Errors
    ///
    /// A batch has fewer items than announced.
    pub(super) async fn claim(
        &self,
        skip: impl Fn(&mut ItemReader<'_>) -> bool,
        fold: &mut Option<Fold>,
    ) -> Result<Option<Claimed>, MalformedItems> {
        // Usually there is an item.
        if let Claim::Item(claimed) = self.try_claim(&skip, fold)? {
            if claimed.is_careful() {
                self.send();
            }
            return Ok(Some(claimed));
        }
        loop {
            let mut changed = pin!(self.work.notified());
            changed.as_mut().enable();
            let claim = self.try_claim(&skip, fold)?;
            self.send();
            match claim {
                Claim::Item(claimed) => return Ok(Some(claimed)),
                Claim::Closed => return Ok(None),
                Claim::Nothing => self.wait_idle(changed).await,
            }
        }
    }

    /// Waits as a lane that has no item.
    async fn wait_idle(&self, changed: Pin<&mut impl Future<Output = ()>>) {
        /// Counts a lane that waits until it is dropped.
        struct Idle<'a>(&'a ItemRun);
        impl Drop for Idle<'_> {
            fn drop(&mut self) {
                self.0.lock().idle_lanes -= 1;
            }
        }
        self.lock().idle_lanes += 1;
        let _idle = Idle(self);
        changed.await;
    }

    fn try_claim(
        &self,
        skip: impl Fn(&mut ItemReader<'_>) -> bool,
        fold: &mut Option<Fold>,
    ) -> Result<Claim, MalformedItems> {
        let mut state = self.lock();
        if state.is_closed {
            return Ok(Claim::Closed);
        }
        // The rest of a batch may have been given back after its last item was done.
        while let Some(over) = state.queue.over() {
            state.finish(over, fold);
        }
        let RunState { queue, running, runs_alone, outgoing, .. } = &mut *state;
        let Some(batch) = queue.iter_mut().find(|it| it.next < it.end) else {
            return Ok(Claim::Nothing);
        };
        let waits = *runs_alone || (batch.runs_alone() && !running.is_empty());
        if waits || outgoing.is_blocked() || (batch.careful && outgoing.is_waiting()) {
            return Ok(Claim::Nothing);
        }
        let items = batch.items.clone();
        let mut reader = ItemReader::at(Body::shared(&items), batch.position);
        let malformed = || MalformedItems::of(items.len());
        for _ in 0..batch.unread {
            if !skip(&mut reader) {
                return Err(malformed());
            }
        }
        let start = reader.position();
        if !skip(&mut reader) {
            return Err(malformed());
        }
        (batch.position, batch.unread) = (reader.position(), 0);
        let bytes = items.slice(start..batch.position);
        let Some(item) = batch.claim() else { return Ok(Claim::Nothing) };
        let attempt = batch.attempt(item);
        let claimed =
            Running { serial: batch.serial, batch: batch.id, item, careful: batch.careful };
        running.insert(claimed);
        *runs_alone = batch.runs_alone();
        if claimed.careful {
            state.announce(claimed.batch, item);
        }
        drop(state);
        if self.has_lanes {
            // There may be another item, for which a lane must be started.
            self.work.notify_waiters();
        }
        Ok(Claim::Item(Claimed { running: claimed, attempt, bytes }))
    }

    /// Ends an item whose result is part of an accumulator.
    pub(super) fn complete_folded(&self, claimed: &Claimed, fold: &mut Option<Fold>) {
        self.complete(claimed, fold, |_, _, _| {});
    }

    /// Ends an item with what the function returned for it.
    pub(super) fn complete_item(
        &self,
        claimed: &Claimed,
        outcome: Result<Outcome, Refusal>,
        bytes: &mut Vec<u8>,
        fold: &mut Option<Fold>,
    ) {
        let outcome = outcome.unwrap_or_else(|refusal| {
            write_refusal(&refusal, bytes, self.max_result);
            Outcome::Refused
        });
        self.complete(claimed, fold, |outgoing, fold, Running { batch, item, .. }| {
            if let Some(fold) = fold.take() {
                outgoing.add_fold(&fold);
            }
            outgoing.add_outcome(batch, item, outcome, bytes);
        });
    }

    fn complete(
        &self,
        claimed: &Claimed,
        fold: &mut Option<Fold>,
        report: impl FnOnce(&mut Outgoing, &mut Option<Fold>, Running),
    ) {
        let done = claimed.running;
        let mut state = self.lock();
        state.running.remove(&done);
        state.runs_alone = false;
        report(&mut state.outgoing, fold, done);
        let mut is_over = false;
        if let Some(batch) = state.queue.find(done.serial) {
            batch.running -= 1;
            batch.done += 1;
            is_over = batch.is_over();
        }
        if is_over {
            state.finish(done.serial, fold);
        }
        let gathered = state.last_report.elapsed() >= state.gather_time;
        if is_over || done.careful || gathered || state.outgoing.is_full() {
            state.close_report();
        }
        // The next item may have to run alone.
        let alone = self.has_lanes && state.running.is_empty();
        let sends = state.outgoing.is_waiting();
        drop(state);
        if sends {
            self.send();
        }
        if alone {
            self.work.notify_waiters();
        }
    }
}
