//! Deadlines: a function sees the timeout of its call, and nested calls inherit it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::function::CallOptions;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, GateAddress};
use rpc_parallel_tests::process::TEST_TIMEOUT;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _};
use rpc_parallel_tests::waiting::{Events, soon};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Functions that return or depend on their deadline.
#[rpc_parallel::worker]
trait Deadlines {
    /// Returns the remaining time.
    async fn left(&self, cx: &Context) -> Option<Duration>;
    /// Returns the remaining time, from a function that is not async.
    fn left_sync(&self, cx: &Context) -> Option<Duration>;
    /// Calls itself in the workers of a chain, and returns the remaining time in each of them.
    async fn times(
        &self,
        cx: &Context,
        chain: Vec<Worker<DeadlineWorker>>,
        mode: Mode,
    ) -> Result<Vec<Option<Duration>>, AnyError>;
    async fn wait(&self, name: &str);
    /// Calls itself in the workers of a chain; the last call waits forever.
    async fn wait_in_chain(&self, chain: Vec<Worker<DeadlineWorker>>) -> Result<(), AnyError>;
    #[worker(no_cancel)]
    async fn note_cancel(&self, cx: &Context);
    fn block(&self, gate: GateAddress);
    async fn begin(&self);
    fn begun(&self) -> u64;
    fn endless(&self) -> Pipe<u64>;
    async fn wait_for(&self, event: &str);
}

/// The call options of a nested call.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Mode {
    Inherits,
    Longer,
    Shorter,
    NotInherited,
    NotInheritedButLimited,
}

const SHORTER: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(100);
const LONGER: Duration = Duration::from_secs(1000);

#[derive(Default, WorkerState)]
struct DeadlineWorker {
    begun: AtomicU64,
    events: Events,
}

fn left(cx: &Context) -> Option<Duration> {
    cx.deadline().map(|it| it.saturating_duration_since(Instant::now()))
}

#[rpc_parallel::worker]
impl Deadlines for DeadlineWorker {
    async fn left(&self, cx: &Context) -> Option<Duration> {
        left(cx)
    }

    fn left_sync(&self, cx: &Context) -> Option<Duration> {
        left(cx)
    }

    async fn times(
        &self,
        cx: &Context,
        mut chain: Vec<Worker<DeadlineWorker>>,
        mode: Mode,
    ) -> Result<Vec<Option<Duration>>, AnyError> {
        let mut all = vec![left(cx)];
        if let Some(next) = chain.pop() {
            let next = next.connect(()).await?;
            let call = next.times(chain, mode);
            let call = match mode {
                Mode::Inherits => call,
                Mode::Longer => call.timeout(LONGER),
                Mode::Shorter => call.timeout(SHORTER),
                Mode::NotInherited => call.without_inherited_deadline(),
                Mode::NotInheritedButLimited => call.without_inherited_deadline().timeout(LONGER),
            };
            all.extend(call.await?);
        }
        Ok(all)
    }

    async fn wait(&self, name: &str) {
        let _ended = self.events.note_on_drop(format!("{name} ended"));
        self.events.note(format!("{name} began"));
        std::future::pending::<()>().await;
    }

    async fn wait_in_chain(&self, mut chain: Vec<Worker<DeadlineWorker>>) -> Result<(), AnyError> {
        let _ended = self.events.note_on_drop("waiting ended");
        match chain.pop() {
            Some(next) => Ok(next.connect(()).await?.wait_in_chain(chain).await?),
            None => std::future::pending().await,
        }
    }

    async fn note_cancel(&self, cx: &Context) {
        cx.cancelled().await;
        self.events.note(format!("left {:?}", left(cx)));
    }

    fn block(&self, gate: GateAddress) {
        gate.block();
    }

    async fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    fn endless(&self) -> Pipe<u64> {
        Pipe::from_items(0..)
    }

    async fn wait_for(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn start() -> Worker<DeadlineWorker> {
    DeadlineWorker::start_ok(()).await
}

async fn connect(worker: &Worker<DeadlineWorker>) -> DeadlinesClient {
    worker.connect_ok().await
}

/// Calls a chain of three workers, and returns the remaining time in each, in tens of seconds.
async fn times_in_chain(mode: Mode) -> Vec<Option<u64>> {
    let (first, chain) = (start().await, vec![start().await, start().await]);
    let all = connect(&first).await.times(chain, mode).timeout(TIMEOUT).await;
    let all = all.expect("the call succeeds").into_iter();
    // A call takes less than 10 s, also on a busy host.
    all.map(|it| it.map(|it| it.as_secs().next_multiple_of(10))).collect()
}

#[rpc_parallel::test]
async fn function_sees_remaining_time_of_call() {
    let worker = connect(&start().await).await;

    let later = worker.left().timeout(TIMEOUT).await.expect("the call succeeds");
    let sync = worker.left_sync().timeout(TIMEOUT).await.expect("the call succeeds");

    for left in [later, sync] {
        let left = left.expect("the call has a timeout");
        assert!(left <= TIMEOUT && left > TIMEOUT - TEST_TIMEOUT, "{left:?}");
    }
}

#[rpc_parallel::test]
async fn function_without_timeout_has_no_deadline() {
    let worker = connect(&start().await).await;

    assert_eq!(worker.left().await, Ok(None));
    assert_eq!(worker.left_sync().await, Ok(None));
}

#[rpc_parallel::test]
async fn timeout_applies_to_calls_of_function_constants() {
    let worker = connect(&start().await).await;

    let left = CallOptions::timeout(DeadlinesClient::LEFT.call(&worker, &()), TIMEOUT).await;
    let mapped = DeadlinesClient::LEFT.map_output(|it| it.is_some());
    let limited = mapped.call(&worker, &()).timeout(TIMEOUT).await;

    assert!(left.is_ok_and(|it| it.is_some()));
    assert_eq!(limited, Ok(true));
}

#[rpc_parallel::test]
async fn nested_calls_inherit_remaining_deadline() {
    assert_eq!(times_in_chain(Mode::Inherits).await, [Some(100); 3]);
}

#[rpc_parallel::test]
async fn longer_timeout_does_not_extend_inherited_deadline() {
    assert_eq!(times_in_chain(Mode::Longer).await, [Some(100); 3]);
}

#[rpc_parallel::test]
async fn shorter_timeout_shortens_deadline_of_nested_calls() {
    assert_eq!(times_in_chain(Mode::Shorter).await, [Some(100), Some(10), Some(10)]);
}

#[rpc_parallel::test]
async fn call_can_opt_out_of_inherited_deadline() {
    assert_eq!(times_in_chain(Mode::NotInherited).await, [Some(100), None, None]);
    assert_eq!(
        times_in_chain(Mode::NotInheritedButLimited).await,
        [Some(100), Some(1000), Some(1000)]
    );
}

#[rpc_parallel::test]
async fn passed_deadline_cancels_function() {
    let worker = connect(&start().await).await;
    let limit = Duration::from_millis(50);

    let error =
        worker.wait("function").timeout(limit).await.expect_err("the function waits forever");

    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: limit, unsent: None, kill: None });
    assert_eq!(soon(worker.wait_for("function ended")).await, Ok(()));
}

#[rpc_parallel::test]
async fn passed_deadline_cancels_nested_functions() {
    let (first, second, third) = (start().await, start().await, start().await);
    let limit = Duration::from_millis(200);

    let waited =
        connect(&first).await.wait_in_chain(vec![third.clone(), second.clone()]).timeout(limit);
    let waited = soon(waited).await;

    let Err(FunctionError::Call(error)) = waited else { panic!("{waited:?}") };
    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: limit, unsent: None, kill: None });
    for worker in [first, second, third] {
        let ended = soon(connect(&worker).await.wait_for("waiting ended")).await;
        assert_eq!(ended, Ok(()));
    }
}

#[rpc_parallel::test]
async fn no_cancel_function_sees_passed_deadline() {
    let worker = connect(&start().await).await;

    let noted = worker.note_cancel().timeout(Duration::from_millis(50)).await;

    assert!(noted.is_err_and(|it| matches!(it.kind(), CallErrorKind::TimedOut { .. })));
    assert_eq!(soon(worker.wait_for("left Some(0ns)")).await, Ok(()));
}

#[rpc_parallel::test]
async fn call_whose_deadline_passes_while_queued_never_begins() {
    let worker = connect(&start().await).await;
    let gate = Gate::new();
    let blocking = tokio::spawn(worker.block(gate.address()));
    let blocked = soon(gate.reached()).await;

    // The only thread of the worker is blocked: the calls wait in its socket.
    let calls = (0..50).map(|_| worker.begin().timeout(Duration::from_millis(20)));
    let begun = soon(futures_util::future::join_all(calls)).await;
    drop(blocked);
    soon(blocking).await.expect("the task does not panic").expect("the call succeeds");

    let timed_out = |it: &CallError| matches!(it.kind(), CallErrorKind::TimedOut { .. });
    assert!(begun.iter().all(|it| it.as_ref().is_err_and(timed_out)), "{begun:?}");
    assert_eq!(worker.begun().await, Ok(0));
}

#[rpc_parallel::test]
async fn call_with_zero_timeout_never_begins() {
    let worker = connect(&start().await).await;

    let begun = worker.begin().timeout(Duration::ZERO).await;

    let error = begun.expect_err("the timeout is zero");
    assert_eq!(
        *error.kind(),
        CallErrorKind::TimedOut { after: Duration::ZERO, unsent: None, kill: None }
    );
    assert_eq!(worker.begun().await, Ok(0));
}

#[rpc_parallel::test]
async fn pipe_outlives_deadline_of_its_call() {
    let worker = connect(&start().await).await;
    let limit = Duration::from_millis(200);

    let began = Instant::now();
    let mut pipe = worker.endless().timeout(limit).await.expect("the function returns at once");
    let mut expected = 0;
    while began.elapsed() < 2 * limit {
        let next = soon(pipe.next())
            .await
            .expect("the pipe does not end")
            .expect("the pipe does not fail");
        assert_eq!(next, expected);
        expected += 1;
    }
}
