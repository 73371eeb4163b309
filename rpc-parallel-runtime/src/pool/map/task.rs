//! The task of a map. It drives one engine: it pulls items from the source, sends batches to the
//! workers, receives their reports, and passes the results to the consumer.
//!
//! It runs beside the consumer, so that a consumer that computes does not stop the workers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

use super::error::{DeathReason, MapEnd};
use super::monitor::Reporter;
use super::output::Output;
use super::pull::{Limits, Pull, Pulled, Then};
use super::session::{SessionError, SessionEvent};
use super::sessions::Sessions;
use crate::pool::PoolErrorKind;
use crate::pool::engine::{self, Action, Engine, WorkerKey};
use crate::pool::updates::{MemberUpdate, MemberUpdates};
use crate::wire::{Refusal, Sink, write_message};
use crate::worker::items::{MapRequest, Record, Report};

/// The size of a batch with one item, beside the item, is below this number of bytes.
const BATCH_OVERHEAD: usize = 64;

/// The time between two checks for workers that send nothing.
const SILENCE_CHECK_PERIOD: Duration = Duration::from_millis(20);

/// How long a worker may send nothing, in addition to the timeout of an item. A worker reports more
/// often while it runs an item.
const SILENCE_TOLERANCE: Duration = Duration::from_millis(50);

/// The number of rounds without a pause, after which other tasks of the thread run.
const ROUNDS: usize = 16;

pub(super) struct MapTask {
    engine: Engine<DeathReason>,
    /// `None` after its end.
    source: Option<Box<dyn Pull>>,
    source_is_pending: bool,
    /// When the workers are checked for silence, if items have a timeout.
    silence_check: Instant,
    request: MapRequest,
    members: MemberUpdates,
    output: Arc<Output>,
    reporter: Reporter,
    /// The size of the last message that was pulled, in bytes.
    last_pull: usize,
    /// The largest size of one encoded item, in bytes. It is known when the first worker has joined.
    max_item: usize,
    sessions: Sessions,
    /// How the source ended.
    end: Result<(), MapEnd>,
    /// Pieces that are about to be passed to the consumer.
    pieces: Vec<engine::Output<DeathReason>>,
    timer: Pin<Box<Sleep>>,
}

/// Why the task stops.
enum Stop {
    /// All results were passed on.
    Done,
    /// The consumer wants no more.
    Cancelled,
    Failed(MapEnd),
}

impl MapTask {
    pub(super) fn new(
        engine: Engine<DeathReason>,
        source: Box<dyn Pull>,
        request: MapRequest,
        members: MemberUpdates,
        output: Arc<Output>,
        reporter: Reporter,
    ) -> Self {
        Self {
            last_pull: 0,
            max_item: usize::MAX,
            engine,
            source: Some(source),
            source_is_pending: false,
            silence_check: Instant::now(),
            request,
            members,
            output,
            reporter,
            sessions: Sessions::default(),
            end: Ok(()),
            pieces: Vec::new(),
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
        }
    }

    /// Runs the map to its end.
    pub(super) async fn run(mut self) {
        let stop = poll_fn(|cx| self.poll(cx)).await;
        let now = Instant::now();
        self.reporter.finish(self.engine.progress(now), self.engine.verdict(now));
        match stop {
            Stop::Done => self.output.end(self.end.clone()),
            Stop::Failed(end) => self.output.end(Err(end)),
            Stop::Cancelled => {}
        }
        // Dropped here, because the items may hold what the consumer waits for.
        drop(self.source);
        self.sessions.close_all().await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        for _ in 0..ROUNDS {
            let now = Instant::now();
            self.sessions.begin_round(cx);
            let mut is_idle = true;
            while let Poll::Ready(update) = self.members.poll_next(cx) {
                is_idle = false;
                let Some(update) = update else {
                    let end = MapEnd::Pool(PoolErrorKind::RuntimeEnded.into());
                    return Poll::Ready(Stop::Failed(end));
                };
                if let Err(end) = self.update(update, now) {
                    return Poll::Ready(Stop::Failed(end));
                }
            }
            match self.poll_sessions(now) {
                Ok(progressed) => is_idle &= !progressed,
                Err(end) => return Poll::Ready(Stop::Failed(end)),
            }
            self.pull(cx, now);
            while let Some(action) = self.engine.poll_action() {
                is_idle = false;
                self.act(action);
            }
            while let Some(piece) = self.engine.poll_output() {
                self.pieces.push(piece);
            }
            is_idle &= self.pieces.is_empty();
            let waits = self.engine.waits_for_consumer();
            let Some(consumed) = self.output.exchange(&mut self.pieces, waits, cx) else {
                return Poll::Ready(Stop::Cancelled);
            };
            if consumed.items > 0 {
                is_idle = false;
                self.engine.consumed(consumed.items, consumed.bytes, now);
            }
            if self.engine.is_done() {
                return Poll::Ready(Stop::Done);
            }
            self.check_silence(now);
            self.reporter.update(now, || self.engine.progress(now));
            if self.poll_timer(cx, now) {
                is_idle = false;
            }
            if is_idle {
                return Poll::Pending;
            }
        }
        // Lets the drivers of the connections run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn update(&mut self, update: MemberUpdate, now: Instant) -> Result<(), MapEnd> {
        match update {
            MemberUpdate::Joined(member) => {
                let max_message = member.client().max_message_size();
                self.max_item = self.max_item.min(max_message.saturating_sub(BATCH_OVERHEAD));
                self.sessions.open(member, self.request.clone());
            }
            MemberUpdate::Retiring(member) => {
                if let Some(key) = self.sessions.key_of(&member)
                    && !self.engine.worker_retiring(key, now)
                {
                    // Its session is not open yet.
                    self.sessions.close(key);
                }
            }
            MemberUpdate::Lost(member, failure) => {
                if let Some(key) = self.sessions.key_of(&member)
                    && let Some(session) = self.sessions.get(key)
                {
                    session.worker_lost(failure);
                    self.end_if_over(key, now);
                }
            }
            MemberUpdate::Exhausted(error) => return Err(MapEnd::Pool(error)),
        }
        Ok(())
    }

    /// Removes a session whose worker has died, after all its reports were read.
    fn end_if_over(&mut self, key: WorkerKey, now: Instant) {
        if let Some(failure) = self.sessions.get(key).and_then(|it| it.failure()) {
            self.engine.worker_lost(key, Some(failure), now);
            self.sessions.remove(key);
        }
    }

    /// Polls the sessions that were woken. Returns whether there was one.
    fn poll_sessions(&mut self, now: Instant) -> Result<bool, MapEnd> {
        let mut progressed = false;
        while let Some((key, slot)) = self.sessions.next_ready() {
            progressed = true;
            slot.begin_poll();
            let waker = slot.waker();
            let mut cx = Context::from_waker(&waker);
            while let Some(session) = self.sessions.get(key)
                && let Poll::Ready(event) = session.poll_event(&mut cx)
            {
                match event {
                    SessionEvent::Opened => self.engine.worker_joined(key, now),
                    SessionEvent::Report(report) => self.report(key, report, now),
                    SessionEvent::Broken(error) => {
                        // A worker that has died is reported by the pool.
                        if !matches!(error, SessionError::WorkerDied) {
                            session.member.kill(&error.to_string());
                        }
                        self.end_if_over(key, now);
                    }
                    SessionEvent::Refused { why } => return Err(MapEnd::Session { why }),
                }
            }
        }
        Ok(progressed)
    }

    fn report(&mut self, key: WorkerKey, report: Report, now: Instant) {
        let Some(session) = self.sessions.get(key) else { return };
        session.heard();
        let answered = report.records.iter().map(answered_items).sum();
        session.member.add_items(answered);
        if let Err(error) = self.engine.report(key, report, now) {
            session.member.kill(&error.to_string());
        }
    }

    /// Pulls items for the workers that want some.
    fn pull(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.source_is_pending {
            self.source_is_pending = false;
            self.engine.source_resumed(now);
        }
        while let Some(source) = &mut self.source {
            let (least, is_exact) = source.remaining();
            self.engine.source_len(least, is_exact);
            let Some(wanted) = self.engine.poll_pull() else { return };
            let limits =
                Limits { items: wanted.max_items, bytes: wanted.max_bytes, item: self.max_item };
            // The message is probably as long as the last one.
            let mut message = Vec::with_capacity(self.last_pull.min(wanted.max_bytes));
            let Pulled { count, then } = source.pull(limits, &mut message, cx);
            if count > 0 {
                self.last_pull = message.len();
                self.engine.pulled(wanted.worker, message.into(), count, now);
            }
            match then {
                Then::More => {}
                Then::Pending => {
                    self.source_is_pending = true;
                    self.engine.source_pending(now);
                    return;
                }
                Then::Unencodable { why } => {
                    // The other refusals speak of what a worker has failed to do.
                    let why = format!("the item cannot be sent: {why}");
                    self.engine.refused_before_start(refusal(&Refusal::Violation { why }), now);
                }
                Then::End(end) => {
                    self.end = end;
                    self.source = None;
                    self.engine.source_ended(now);
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { worker: key, order } => {
                if let Some(session) = self.sessions.get(key) {
                    session.member.begin_items();
                    session.send(order.encode());
                }
            }
            Action::Kill { worker: key, index } => {
                if let Some(session) = self.sessions.get(key) {
                    let after = self.request.timeout.unwrap_or_default();
                    let why = format!("item {index} of a map did not return within {after:?}");
                    session.member.kill(&why);
                }
            }
            Action::Released { worker: key } => {
                self.sessions.close(key);
            }
        }
    }

    /// Kills workers that have sent nothing for longer than an item may take.
    fn check_silence(&mut self, now: Instant) {
        let Some(limit) = self.request.timeout else { return };
        if now < self.silence_check {
            return;
        }
        self.silence_check = now + SILENCE_CHECK_PERIOD;
        for session in self.sessions.iter_mut() {
            if !self.engine.has_items(session.key) {
                session.heard();
            } else if session.silence(now) > limit.saturating_add(SILENCE_TOLERANCE) {
                session.heard();
                if !self.engine.worker_silent(session.key, now) {
                    session
                        .member
                        .kill(&format!("it sent nothing for {limit:?} while it ran items"));
                }
            }
        }
    }

    /// Advances the engine if its deadline has passed. Returns whether that was so.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let silence_check = self.request.timeout.map(|_| self.silence_check);
        let Some(deadline) = self.engine.deadline().into_iter().chain(silence_check).min() else {
            return false;
        };
        if deadline <= now {
            self.engine.on_deadline(now);
            return true;
        }
        let deadline = tokio::time::Instant::from_std(deadline);
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }
}

/// Returns the number of items that a record answers.
fn answered_items(record: &Record) -> u64 {
    match record {
        Record::Results { from, to, .. } => u64::from(to - from),
        Record::Failed { .. } | Record::Refused { .. } => 1,
        _ => 0,
    }
}

/// Encodes the reason why an item was not sent.
fn refusal(refusal: &Refusal) -> bytes::Bytes {
    let mut bytes = Vec::new();
    write_message(refusal, &mut Sink::new(&mut bytes, usize::MAX));
    bytes.into()
}
