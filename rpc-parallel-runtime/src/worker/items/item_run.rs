//! What the two sides of a session share: the task of the worker that runs items, and the items
//! thread, which talks with the master.
//!
//! The lock is held for a few nanoseconds per item, and never while user code runs or a report is
//! written.

use std::collections::HashSet;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::fold::Fold;
use super::message::{Batch, MalformedItems, Record};
use super::outgoing::{Outgoing, max_result, write_refusal};
use super::queue::Queue;
use super::request::MapRequest;
use crate::connection::{CallScope, PipeWriter, TrySendError};
use crate::transport::Origin;
use crate::wire::{Body, ItemReader, Outcome, Refusal, Settings};

/// The exit code of a child that an item has forked, and that panics.
const PANICKED: i32 = 101;

/// The items of one map on this worker.
pub(crate) struct ItemRun {
    state: Mutex<State>,
    reports: PipeWriter<Bytes>,
    /// Notified for the tasks that run items: there may be an item to claim.
    work: Notify,
    /// Notified when the map has ended.
    ended: Notify,
    /// Notified for the items thread: the pipe has no room for a report.
    full: Notify,
    /// The limit for one result, in bytes.
    pub(super) max_result: usize,
    /// Whether several items may run at once, each in a lane.
    has_lanes: bool,
    scope: Arc<CallScope>,
    origin: Origin,
}

pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) outgoing: Outgoing,
    /// Items that run in lanes. An item of a [`SyncRun`](super::SyncRun) is not in this list.
    running: HashSet<Running>,
    /// Whether one of them runs alone.
    runs_alone: bool,
    /// The number of lanes that wait for an item.
    idle_lanes: usize,
    /// Whether a thread is writing reports. Only that thread writes, so that they stay in order.
    is_sending: bool,
    /// When the last report was closed.
    pub(super) last_report: Instant,
    /// How long results wait for others.
    gather_time: Duration,
    /// Whether the map has ended.
    pub(super) is_closed: bool,
    /// Whether the code that runs items should look at the clock.
    pub(super) attention: bool,
}

/// An item that has begun and is not done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Running {
    /// Identifies the batch in this process.
    pub(super) serial: u64,
    pub(super) batch: u64,
    pub(super) item: u32,
    careful: bool,
}

#[cfg(test)]
impl Running {
    pub(super) fn first() -> Self {
        Self { serial: 0, batch: 1, item: 0, careful: false }
    }
}

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
    pub(crate) fn new(
        settings: Settings,
        reports: PipeWriter<Bytes>,
        request: &MapRequest,
    ) -> Self {
        let state = State {
            queue: Queue::default(),
            outgoing: Outgoing::new(settings, request.combine.is_some()),
            running: HashSet::new(),
            runs_alone: false,
            idle_lanes: 0,
            is_sending: false,
            last_report: Instant::now(),
            gather_time: request.gather_time,
            is_closed: false,
            attention: false,
        };
        Self {
            state: Mutex::new(state),
            reports,
            work: Notify::new(),
            ended: Notify::new(),
            full: Notify::new(),
            max_result: max_result(settings),
            has_lanes: request.concurrency > 1,
            scope: CallScope::of_items(),
            origin: Origin::here(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Returns the scope of the items, which is cancelled when the map ends.
    pub(super) fn scope(&self) -> Arc<CallScope> {
        self.scope.clone()
    }

    /// Exits if this process is a child that an item has forked. Otherwise a child that panics
    /// would go on to run the items of its parent.
    pub(super) fn exit_if_forked(&self) {
        if self.origin.is_other_process() {
            std::process::exit(PANICKED);
        }
    }

    /// Waits until a condition holds for the state, which `notify` notifies of its changes.
    async fn until<T>(
        &self,
        notify: &Notify,
        mut condition: impl FnMut(&mut State) -> Option<T>,
    ) -> T {
        loop {
            let mut changed = pin!(notify.notified());
            // `enable` ensures that a change after the check wakes this future.
            changed.as_mut().enable();
            let met = condition(&mut self.lock());
            if let Some(met) = met {
                return met;
            }
            changed.await;
        }
    }

    /// Waits until the map has ended.
    pub(super) async fn closed(&self) {
        self.until(&self.ended, |it| it.is_closed.then_some(())).await;
    }

    /// Runs a future until the map ends. Returns `None` if the map has ended.
    pub(crate) async fn unless_closed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut closed = pin!(self.closed());
        let mut future = pin!(future);
        std::future::poll_fn(|cx| match closed.as_mut().poll(cx) {
            std::task::Poll::Ready(()) => std::task::Poll::Ready(None),
            std::task::Poll::Pending => future.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Ends the map: no more items begin.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        (state.is_closed, state.attention) = (true, true);
        state.queue.clear();
        drop(state);
        self.scope.cancel();
        self.ended.notify_waiters();
        self.work.notify_waiters();
    }

    /// Adds a batch that has arrived.
    pub(super) fn add(&self, batch: Batch) {
        let mut state = self.lock();
        if !state.is_closed {
            state.queue.add(batch);
        }
        drop(state);
        self.work.notify_waiters();
    }

    /// Takes up to `most` items back that have not begun.
    pub(super) fn take_back(&self, most: u32) {
        let mut state = self.lock();
        for record in state.queue.take_back(most) {
            state.outgoing.add(record);
        }
        state.outgoing.add(Record::TakenBack);
        state.close_report();
        drop(state);
        self.send();
    }

    /// Waits for the batch at the front of the queue, and returns its serial number.
    pub(super) async fn front(&self) -> u64 {
        self.until(&self.work, |it| it.queue.front().map(|it| it.serial)).await
    }

    /// Waits until an item may begin, with regard to the reports that wait for the pipe.
    pub(super) async fn may_begin(&self, careful: bool) {
        self.until(&self.work, |it| it.may_begin(careful).then_some(())).await;
    }

    /// Waits until all reports have left this process, so that the master gets them even if the next
    /// item kills it.
    pub(super) async fn all_sent(&self) {
        self.until(&self.work, |it| (it.is_closed || !it.outgoing.is_waiting()).then_some(()))
            .await;
        self.reports.flushed().await;
    }

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
        let State { queue, running, runs_alone, outgoing, .. } = &mut *state;
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

    /// Writes the closed reports for which the pipe has room.
    pub(super) fn send(&self) {
        let mut state = self.lock();
        if state.is_sending {
            return;
        }
        state.is_sending = true;
        while let Some(report) = state.outgoing.next_report() {
            drop(state);
            let sent = self.reports.try_send(report);
            state = self.lock();
            match sent {
                Ok(()) => state.outgoing.note_sent(),
                Err(TrySendError::Full(_)) => {
                    state.is_sending = false;
                    drop(state);
                    self.full.notify_one();
                    return;
                }
                // The master has dropped the pipe, or has ended.
                Err(TrySendError::Failed(_)) => {
                    state.outgoing.discard();
                    state.is_sending = false;
                    drop(state);
                    return self.close();
                }
            }
        }
        state.is_sending = false;
    }

    /// Waits until the pipe has room for the reports that wait for it, and no thread writes them.
    pub(super) async fn room(&self) {
        while !self.lock().is_stopped() {
            self.full.notified().await;
        }
        self.reports.room().await;
    }

    /// Writes the reports that wait for the pipe, and lets items begin that waited for that.
    pub(super) fn send_waiting(&self) {
        self.send();
        self.work.notify_waiters();
    }

    /// Closes and writes a report that waits for further results longer than the gather time, and
    /// asks the code that runs items to look at the clock. Returns the items that run.
    pub(super) fn tick(&self) -> HashSet<Running> {
        let mut state = self.lock();
        state.attention = true;
        if state.last_report.elapsed() >= state.gather_time {
            state.close_report();
        }
        let running = state.running();
        drop(state);
        self.send_waiting();
        running
    }

    /// Returns when the last report was closed.
    pub(super) fn last_report(&self) -> Instant {
        self.lock().last_report
    }

    /// Reports events.
    pub(super) fn report(&self, events: impl IntoIterator<Item = Record>) {
        let mut state = self.lock();
        events.into_iter().for_each(|it| state.outgoing.add(it));
        state.close_report();
        drop(state);
        self.send();
    }

    /// Returns whether the session has anything to do without a new order.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        !state.queue.is_empty() || state.outgoing.has_report() || state.outgoing.is_waiting()
    }

    /// Returns whether further orders may be read.
    pub(super) fn takes_orders(&self) -> bool {
        !self.lock().queue.is_full()
    }
}

impl State {
    /// Returns whether an item may begin, with regard to the reports that wait for the pipe.
    pub(super) fn may_begin(&self, careful: bool) -> bool {
        self.is_closed || !(self.outgoing.is_blocked() || (careful && self.outgoing.is_waiting()))
    }

    /// Returns whether reports wait for the pipe, and no thread is writing them. The thread that
    /// stops to write them notifies of that.
    fn is_stopped(&self) -> bool {
        self.outgoing.is_waiting() && !self.is_sending
    }

    /// Closes the current report.
    pub(super) fn close_report(&mut self) {
        if self.outgoing.has_report() {
            self.outgoing.close_report();
            self.last_report = Instant::now();
        }
    }

    /// Adds that an item of a careful batch begins, and closes the report. The item begins when the
    /// report has left the process.
    pub(super) fn announce(&mut self, batch: u64, item: u32) {
        self.outgoing.add(Record::Begun { batch, item });
        self.close_report();
    }

    /// Closes the current report if it is full or has waited for the gather time.
    pub(super) fn close_report_if_due(&mut self, now: Instant) {
        if self.outgoing.is_full() || now.duration_since(self.last_report) >= self.gather_time {
            self.close_report();
        }
    }

    /// Finishes a batch that is over, with the accumulator of its last items.
    pub(super) fn finish(&mut self, serial: u64, fold: &mut Option<Fold>) {
        if let Some(fold) = fold.take_if(|it| it.serial() == serial) {
            self.outgoing.add_fold(&fold);
        }
        if let Some(record) = self.queue.finish(serial) {
            self.outgoing.add(record);
        }
        self.close_report();
    }

    fn running(&mut self) -> HashSet<Running> {
        if !self.running.is_empty() {
            return self.running.clone();
        }
        // A `SyncRun` runs one item at a time, which was claimed last.
        let front = self.queue.front().filter(|it| it.running > 0);
        let running = front.map(|it| Running {
            serial: it.serial,
            batch: it.id,
            item: it.next - 1,
            careful: it.careful,
        });
        running.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::connection::Pipe;
    use crate::wire::FunctionId;

    #[test]
    fn items_thread_does_not_wait_for_room_while_another_thread_writes() {
        let (reports, _reader) = Pipe::pair();
        let request = MapRequest {
            function: FunctionId(1),
            combine: None,
            concurrency: 1,
            timeout: None,
            gather_time: Duration::from_millis(5),
            report_every: Duration::from_secs(1),
        };
        let run = ItemRun::new(Settings::default(), reports, &request);
        run.lock().outgoing.add(Record::TakenBack);
        run.lock().close_report();
        run.lock().is_sending = true;
        let mut room = pin!(run.room());
        let mut cx = Context::from_waker(Waker::noop());

        let while_writing = room.as_mut().poll(&mut cx);
        // The pipe had no room for the report.
        run.lock().is_sending = false;
        run.full.notify_one();
        let afterwards = room.as_mut().poll(&mut cx);

        assert!(while_writing.is_pending());
        assert!(afterwards.is_ready());
    }
}
