//! The received calls of one connection, from their arrival until their answer.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use super::answering::{Answering, FollowUp, Incoming, Running, Session};
use super::counted::{Counted, Unanswered};
use super::deadline::within;
use super::diagnostics::diagnose;
use super::ends::OwnedEnd;
use super::panics::{catch, drop_unfinished, report_of_task};
use super::pipe::PipeErrorKind;
use super::received_one_way::ReceivedOneWay;
use super::scope::{CallScope, LazyScope};
use super::shared::Connection;
use super::spans::{CallSpan, Callers};
use crate::wire::{Body, CallId, FrameError, FunctionId, Refusal};

/// The calls that have begun and are pending.
#[derive(Default)]
pub(super) struct Calls {
    tasks: JoinSet<CallId>,
    /// Calls that run to completion, also after the end of the connection.
    lasting: JoinSet<CallId>,
    running: FxHashMap<CallId, RunningCall>,
    aborted: FxHashMap<task::Id, CallId>,
    /// Calls that have not begun, and for which a cancel was received.
    pub(super) cancelled: FxHashSet<CallId>,
    unanswered: Unanswered,
    /// The number of calls that completed in the driver task and are not counted yet.
    pub(super) ended: u64,
}

struct RunningCall {
    function: FunctionId,
    abort: AbortHandle,
    scope: Option<Arc<CallScope>>,
}

/// A call that has not begun.
pub(super) struct Arrived<'a> {
    pub(super) call: Option<CallId>,
    pub(super) function: FunctionId,
    pub(super) arguments: Body<'a>,
    pub(super) ends: Vec<OwnedEnd>,
    pub(super) deadline: Option<Instant>,
    pub(super) callers: Callers,
    /// Set for a one-way call.
    pub(super) one_way: Option<ReceivedOneWay>,
}

impl Drop for Calls {
    fn drop(&mut self) {
        // Lasting calls, and tasks that functions have spawned, observe the cancellation.
        self.running.values().filter_map(|it| it.scope.as_ref()).for_each(|it| it.cancel());
        self.lasting.detach_all();
    }
}

impl Calls {
    /// Checks that a received call may begin.
    ///
    /// # Errors
    ///
    /// A running call has this number, or the peer has `max` calls in flight already.
    pub(super) fn check(&self, call: CallId, max: u32) -> Result<(), FrameError> {
        let violation = if self.running.contains_key(&call) {
            "the number is in use"
        } else if self.unanswered.count() >= max as usize {
            "more calls in flight than `max_calls` allows"
        } else {
            return Ok(());
        };
        Err(FrameError::Call { call: call.0, violation })
    }

    /// Begins a call in the driver task.
    pub(super) fn begin(
        &mut self,
        arrived: Arrived<'_>,
        session: &Arc<dyn Session>,
        connection: &Arc<Connection>,
        answers: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) {
        let mut arrived = arrived;
        let one_way = arrived.one_way.take();
        let Arrived { call, function, .. } = arrived;
        let in_flight = connection.traffic().call_begins();
        let mut answering = Answering::new(call, connection, answers);
        if let Some(refusal) = self.refuses(&arrived, &**session) {
            drop_unfinished(arrived.ends, refusal.pipe_error_kind());
            in_flight.end_later(&mut self.ended);
            return answering.refuse(&refusal);
        }
        let mut scope = LazyScope::new(arrived.deadline);
        let begun = begin(&**session, arrived, &mut scope, cx, &mut answering);
        let follow_up = answering.into_follow_up();
        if let Some(refusal) = &follow_up.failed {
            diagnose_failure(&**session, function, refusal);
        }
        if !follow_up.is_empty() {
            // Elements of a stream must not overtake the answer that opens it.
            follow_up.send(connection, answers);
        }
        let Some((rest, span)) = begun else { return in_flight.end_later(&mut self.ended) };
        let deadline = scope.deadline;
        let scope = scope.made();
        let (session, connection) = (session.clone(), connection.clone());
        match call {
            Some(call) => {
                let rest = Unfinished::new(rest, span, self.unanswered.add(in_flight));
                let lasts = !session.may_cancel(function);
                let rest = answer_later(Some(call), function, deadline, rest, session, connection);
                self.spawn_call(call, function, scope, lasts, rest);
            }
            None => {
                let rest = Unfinished::new(rest, span, Counted::one_way(in_flight, one_way));
                let rest = answer_later(None, function, deadline, rest, session, connection);
                self.lasting.spawn(rest);
            }
        }
    }

    /// Begins a call in a separate task.
    pub(super) fn spawn(
        &mut self,
        call: CallId,
        arrived: Arrived<'_>,
        session: &Arc<dyn Session>,
        connection: &Arc<Connection>,
    ) {
        let Arrived { function, deadline, .. } = arrived;
        let counted = self.unanswered.add(connection.traffic().call_begins());
        let lasts = !session.may_cancel(function);
        let mut queued = QueuedCall::new(arrived);
        if !lasts && self.cancelled.remove(&call) {
            drop(queued);
            drop(counted);
            return refuse(call, &Refusal::Cancelled, connection);
        }
        let mut scope = LazyScope::new(deadline);
        let shared = scope.get();
        let (session, connection) = (session.clone(), connection.clone());
        let answer = async move {
            let mut buffer = Vec::new();
            if deadline.is_some_and(|it| it <= Instant::now()) {
                drop_unfinished(queued.ends.take(), Refusal::Expired.pipe_error_kind());
                drop(counted);
                refuse(call, &Refusal::Expired, &connection);
                return call;
            }
            let begun = queued.begin(&*session, &connection, &mut scope, &mut buffer);
            let (begun, follow_up) = begun.await;
            // If the call has completed, `counted` is dropped here, before its answer is queued.
            let rest = begun.map(|(rest, span)| Unfinished::new(rest, span, counted));
            follow_up.send(&connection, &mut buffer);
            if let Some(rest) = rest {
                answer_later(Some(call), function, deadline, rest, session, connection).await;
            }
            call
        };
        self.spawn_call(call, function, Some(shared), lasts, answer);
    }

    fn spawn_call(
        &mut self,
        call: CallId,
        function: FunctionId,
        scope: Option<Arc<CallScope>>,
        lasts: bool,
        answer: impl Future<Output = CallId> + Send + 'static,
    ) {
        let tasks = if lasts { &mut self.lasting } else { &mut self.tasks };
        let abort = tasks.spawn(answer);
        self.running.insert(call, RunningCall { function, abort, scope });
    }

    /// Returns why a call must not begin, if it must not.
    fn refuses(&mut self, arrived: &Arrived<'_>, session: &dyn Session) -> Option<Refusal> {
        if let Some(call) = arrived.call
            && !self.cancelled.is_empty()
            && self.cancelled.remove(&call)
            && session.may_cancel(arrived.function)
        {
            return Some(Refusal::Cancelled);
        }
        let expired = arrived.deadline.is_some_and(|it| it <= Instant::now());
        expired.then_some(Refusal::Expired)
    }

    /// Handles a `cancel`.
    pub(super) fn cancel(&mut self, call: CallId, session: &dyn Session) {
        self.cancelled.remove(&call);
        // An unknown call was already answered.
        let Some(RunningCall { function, abort, scope }) = self.running.get(&call) else { return };
        if let Some(scope) = scope {
            scope.cancel();
        }
        if session.may_cancel(*function) {
            abort.abort();
            self.aborted.insert(abort.id(), call);
            self.running.remove(&call);
        }
    }

    /// Removes completed calls. Aborted calls are answered here, because the caller reuses the
    /// number of a call only after its answer.
    pub(super) fn poll_joined(
        &mut self,
        connection: &Arc<Connection>,
        buffer: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) {
        while let Poll::Ready(Some(joined)) = self.tasks.poll_join_next_with_id(cx) {
            match joined {
                Ok((id, call)) => {
                    self.running.remove(&call);
                    self.aborted.remove(&id);
                }
                Err(error) => {
                    if let Some(call) = self.aborted.remove(&error.id()) {
                        Answering::new(Some(call), connection, buffer).refuse(&Refusal::Cancelled);
                    } else {
                        self.refuse_panicked(error, connection, buffer);
                    }
                }
            }
        }
        while let Poll::Ready(Some(joined)) = self.lasting.poll_join_next(cx) {
            match joined {
                Ok(call) => drop(self.running.remove(&call)),
                Err(error) => self.refuse_panicked(error, connection, buffer),
            }
        }
    }

    /// Answers a call whose task has panicked outside of the function, for example in a destructor
    /// or in a `tracing` subscriber.
    fn refuse_panicked(
        &mut self,
        error: JoinError,
        connection: &Arc<Connection>,
        buffer: &mut Vec<u8>,
    ) {
        let of_task = |it: &(&CallId, &RunningCall)| it.1.abort.id() == error.id();
        let Some(call) = self.running.iter().find(of_task).map(|(call, _)| *call) else { return };
        self.running.remove(&call);
        let Ok(payload) = error.try_into_panic() else { return };
        Answering::new(Some(call), connection, buffer).panicked(report_of_task(&*payload));
    }
}

/// A call that begins in another task. Dropping it cancels the call.
pub(super) struct QueuedCall {
    call: Option<CallId>,
    pub(super) function: FunctionId,
    arguments: Bytes,
    ends: QueuedEnds,
    deadline: Option<Instant>,
    callers: Callers,
}

impl QueuedCall {
    pub(super) fn new(arrived: Arrived<'_>) -> Self {
        let Arrived { call, function, arguments, ends, deadline, callers, .. } = arrived;
        let (arguments, ends) = (arguments.keep(), QueuedEnds(ends));
        Self { call, function, arguments, ends, deadline, callers }
    }

    /// Begins the call, and polls it once. Returns the rest of it, if it is pending.
    pub(super) async fn begin(
        self,
        session: &dyn Session,
        connection: &Arc<Connection>,
        scope: &mut LazyScope,
        buffer: &mut Vec<u8>,
    ) -> (Option<(Pin<Box<dyn Running>>, CallSpan)>, FollowUp) {
        let mut queued = Some(self);
        poll_fn(|cx| {
            let queued = queued.take().expect("the future is ready in its first poll");
            let Self { call, function, arguments, mut ends, deadline, callers } = queued;
            let (arguments, ends, one_way) = (Body::shared(&arguments), ends.take(), None);
            let arrived = Arrived { call, function, arguments, ends, deadline, callers, one_way };
            let mut answering = Answering::new(call, connection, buffer);
            let begun = begin(session, arrived, scope, cx, &mut answering);
            Poll::Ready((begun, answering.into_follow_up()))
        })
        .await
    }
}

/// The ends of the streams of a call that has not begun. Dropping them ends the streams with an
/// error.
struct QueuedEnds(Vec<OwnedEnd>);

impl QueuedEnds {
    fn take(&mut self) -> Vec<OwnedEnd> {
        mem::take(&mut self.0)
    }
}

impl Drop for QueuedEnds {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            drop_unfinished(self.take(), PipeErrorKind::Cancelled);
        }
    }
}

/// The result of a task of a one-way call.
const NO_CALL: CallId = CallId(0);

/// Begins a call and polls it once. Returns the rest of it, if it is pending.
fn begin(
    session: &dyn Session,
    arrived: Arrived<'_>,
    scope: &mut LazyScope,
    cx: &mut Context<'_>,
    answering: &mut Answering<'_>,
) -> Option<(Pin<Box<dyn Running>>, CallSpan)> {
    let Arrived { function, arguments, ends, deadline, callers, .. } = arrived;
    let span = CallSpan::open(session, function, callers);
    let begun = catch(|| {
        let call = Incoming { function, arguments, ends, scope };
        span.run(|| within(deadline, || session.call(call, cx, answering)))
    });
    let begun = begun.unwrap_or_else(|panic| {
        answering.panicked(panic);
        None
    });
    begun.map(|running| (running, span))
}

/// Runs a call to completion, answers it, and returns its id.
pub(super) async fn answer_later(
    call: Option<CallId>,
    function: FunctionId,
    deadline: Option<Instant>,
    mut unfinished: Unfinished,
    session: Arc<dyn Session>,
    connection: Arc<Connection>,
) -> CallId {
    let mut buffer = Vec::new();
    let follow_up = poll_fn(|cx| {
        let Unfinished { running: Some(running), span, .. } = &mut unfinished else {
            return Poll::Pending;
        };
        let mut answering = Answering::new(call, &connection, &mut buffer).until(deadline);
        let mut poll = || within(deadline, || running.as_mut().poll_answer(cx, &mut answering));
        let polled = catch(|| span.run(&mut poll));
        let polled = polled.unwrap_or_else(|panic| {
            answering.panicked(panic);
            Poll::Ready(())
        });
        polled.map(|()| answering.into_follow_up())
    })
    .await;
    // The call is complete: a panic of its destructor, or of that of its span, does not change the
    // answer.
    let Unfinished { running, span, .. } = &mut unfinished;
    let _ = catch(|| span.run(|| drop(running.take())));
    let _ = catch(|| drop(unfinished));
    if let Some(refusal) = &follow_up.failed {
        diagnose_failure(&*session, function, refusal);
    }
    follow_up.send(&connection, &mut buffer);
    call.unwrap_or(NO_CALL)
}

/// A pending call. Dropping it cancels the call.
pub(super) struct Unfinished {
    running: Option<Pin<Box<dyn Running>>>,
    span: CallSpan,
    _counted: Counted,
}

impl Unfinished {
    pub(super) fn new(running: Pin<Box<dyn Running>>, span: CallSpan, counted: Counted) -> Self {
        Self { running: Some(running), span, _counted: counted }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.span.run(|| drop_unfinished(running, PipeErrorKind::Cancelled));
        }
    }
}

impl Refusal {
    /// Returns the error for the pipes of a call whose function has not begun.
    fn pipe_error_kind(&self) -> PipeErrorKind {
        match self {
            Self::Cancelled => PipeErrorKind::Cancelled,
            _ => PipeErrorKind::WriterFailed {
                why: "the function that writes the pipe has not begun".to_owned(),
            },
        }
    }
}

/// Answers a call with a refusal.
fn refuse(call: CallId, refusal: &Refusal, connection: &Arc<Connection>) {
    let mut buffer = Vec::new();
    Answering::new(Some(call), connection, &mut buffer).refuse(refusal);
    connection.lock().machine.send_answers(&mut buffer);
}

/// Writes to stderr that a one-way call has failed, because its caller gets no answer.
pub(super) fn diagnose_failure(session: &dyn Session, function: FunctionId, refusal: &Refusal) {
    // Under a fuzzer most calls fail.
    if cfg!(fuzzing) {
        return;
    }
    let what = session.describe(function);
    diagnose(format_args!("{what} {refusal}"));
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use super::*;
    use crate::connection::PipeError;
    use crate::connection::scripted::{Functions, function};
    use crate::connection::shared::Peer;
    use crate::connection::traffic::Traffic;
    use crate::transport::Reader;
    use crate::transport::memory::{MemoryReader, MemoryWriter, pair};
    use crate::wire::{Frame, FunctionInfo, ReceiveLimits, Settings, WrittenBy, split};

    const PANICS: &FunctionInfo = &function("panics");
    /// Returns at once.
    const RETURN: &FunctionInfo = &function("return");
    /// Never returns.
    const WAIT: &FunctionInfo = &function("wait");

    /// The answering end of a connection without a driver.
    struct Fixture {
        calls: Calls,
        session: Arc<dyn Session>,
        connection: Arc<Connection>,
        other_end: (MemoryReader, MemoryWriter),
    }

    impl Fixture {
        fn new() -> Self {
            let ((_, writer), other_end) = pair(1024);
            let (settings, traffic) = (Settings::default(), Traffic::here());
            let limits = ReceiveLimits::of(&settings);
            let connection =
                Connection::new(Peer::Caller, settings, &limits, traffic, Box::new(writer));
            let functions = Functions::default()
                .with(RETURN, async |(): ()| ())
                .with(WAIT, async |(): ()| std::future::pending::<()>().await);
            Self {
                calls: Calls::default(),
                session: Arc::new(functions),
                connection: Arc::new(connection),
                other_end,
            }
        }

        fn spawn(&mut self, call: u64, function: &FunctionInfo, ends: Vec<OwnedEnd>) {
            let arrived = Arrived {
                call: Some(CallId(call)),
                function: function.id(),
                arguments: Body::of(&[0xc0]),
                ends,
                deadline: None,
                callers: Callers::of(Default::default()),
                one_way: None,
            };
            self.calls.spawn(CallId(call), arrived, &self.session, &self.connection);
        }

        fn cancel(&mut self, call: u64) {
            self.calls.cancel(CallId(call), &*self.session);
        }

        /// Returns whether one more call may begin, if `max` may be in flight.
        fn may_begin(&self, call: u64, max: u32) -> bool {
            self.calls.check(CallId(call), max).is_ok()
        }
    }

    /// Yields until all tasks of the runtime are complete or wait.
    async fn run_tasks() {
        for _ in 0..10 {
            task::yield_now().await;
        }
    }

    /// Panics of functions are caught inside of the task. Those of destructors and of a `tracing`
    /// subscriber are not.
    #[tokio::test]
    async fn call_whose_task_panics_is_answered() {
        let Fixture { mut calls, connection, other_end: _other_end, .. } = Fixture::new();
        let mut buffer = Vec::new();
        let task = async { panic!("scripted panic of a task") };
        calls.spawn_call(CallId(7), PANICS.id(), None, false, task);

        poll_fn(|cx| {
            calls.poll_joined(&connection, &mut buffer, cx);
            if calls.tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;

        let text = String::from_utf8_lossy(&buffer);
        assert!(text.contains("scripted panic of a task"), "{text}");
    }

    /// The caller sends its next call when it has the answer, which may be before the driver
    /// observes the end of the task.
    #[tokio::test]
    async fn answered_call_does_not_count_although_its_task_is_not_joined() {
        let mut fixture = Fixture::new();

        fixture.spawn(7, RETURN, Vec::new());
        assert!(!fixture.may_begin(8, 1));
        run_tasks().await;

        assert!(fixture.may_begin(8, 1));
        assert!(!fixture.may_begin(7, 2), "the number of the call is in use");
    }

    #[tokio::test]
    async fn cancelled_call_counts_until_its_function_is_dropped() {
        let mut fixture = Fixture::new();
        fixture.spawn(7, WAIT, Vec::new());
        run_tasks().await;

        fixture.cancel(7);

        assert!(!fixture.may_begin(8, 1));
        run_tasks().await;
        assert!(fixture.may_begin(8, 1));
    }

    /// The threads of the runtime may be busy until the cancel is received.
    #[tokio::test]
    async fn call_cancelled_before_its_first_poll_ends_its_pipe_with_error() {
        let mut fixture = Fixture::new();
        let (_, end) = {
            let mut locked = fixture.connection.lock();
            OwnedEnd::open(&fixture.connection, &mut locked, WrittenBy::Sender, None, None)
        };

        fixture.spawn(7, WAIT, vec![end]);
        fixture.cancel(7);
        run_tasks().await;

        let mut buffer = [0; 100];
        let read = fixture.other_end.0.try_read(&mut [IoSliceMut::new(&mut buffer)]);
        let len = read.expect("the end of the pipe is written");
        let frame = split(&buffer[..len], 1024).expect("the frame is valid");
        let Some((Frame::End { error, .. }, _)) = frame else { panic!("{frame:?}") };
        let end = PipeError::of_frame(error, None).map_err(|it| it.kind().clone());
        assert_eq!(end, Err(PipeErrorKind::Cancelled));
    }
}
