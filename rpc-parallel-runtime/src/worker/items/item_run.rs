//! What the two sides of a session share: the task of the worker that runs items, and the items
//! thread, which talks with the master.
//!
//! The lock is held for a few nanoseconds per item, and never while user code runs or a report is
//! written.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::message::{Batch, Record};
use super::outgoing::max_result;
use super::request::MapRequest;
use super::run_state::RunState;
use super::running::Running;
use crate::connection::{CallScope, PipeWriter, TrySendError};
use crate::transport::Origin;
use crate::wire::Settings;

/// The exit code of a child that an item has forked, and that panics.
const PANICKED: i32 = 101;

/// The items of one map on this worker.
pub(crate) struct ItemRun {
    state: Mutex<RunState>,
    reports: PipeWriter<Bytes>,
    /// Notified for the tasks that run items: there may be an item to claim.
    pub(super) work: Notify,
    /// Notified when the map has ended.
    ended: Notify,
    /// Notified for the items thread: the pipe has no room for a report.
    full: Notify,
    /// The limit for one result, in bytes.
    pub(super) max_result: usize,
    /// Whether several items may run at once, each in a lane.
    pub(super) has_lanes: bool,
    scope: Arc<CallScope>,
    origin: Origin,
}

impl ItemRun {
    pub(crate) fn new(
        settings: Settings,
        reports: PipeWriter<Bytes>,
        request: &MapRequest,
    ) -> Self {
        Self {
            state: Mutex::new(RunState::new(settings, request)),
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

    pub(super) fn lock(&self) -> MutexGuard<'_, RunState> {
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
    pub(super) async fn until<T>(
        &self,
        notify: &Notify,
        mut condition: impl FnMut(&mut RunState) -> Option<T>,
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

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
