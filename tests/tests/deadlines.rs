//! Deadlines: how long a caller waits is known to the function, and to whatever it calls in turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::function::CallOptions;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::gate::{Gate, WayThrough};
use rpc_parallel_tests::process::PATIENCE;
use rpc_parallel_tests::waiting::{Events, soon};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Functions that know how much time they have.
#[rpc_parallel::worker]
trait Hurries {
    /// Returns how much time is left.
    async fn left(&self, cx: &Context) -> Option<Duration>;
    fn left_at_once(&self, cx: &Context) -> Option<Duration>;
    /// Asks the next of a chain, and so on; all say how much time is left.
    async fn ask(
        &self,
        cx: &Context,
        chain: Vec<Worker<Clerk>>,
        how: How,
    ) -> Result<Vec<Option<Duration>>, AnyError>;
    async fn wait(&self, name: &str);
    /// Waits, for as long as it likes, for the next of a chain.
    async fn wait_for(&self, chain: Vec<Worker<Clerk>>) -> Result<(), AnyError>;
    #[worker(no_cancel)]
    async fn notice(&self, cx: &Context);
    fn block(&self, way: WayThrough);
    async fn begin(&self);
    fn begun(&self) -> u64;
    fn endless(&self) -> Pipe<u64>;
    async fn happened(&self, event: &str);
}

/// What a function says of the time for what it calls.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum How {
    Inherits,
    TakesMore,
    TakesLess,
    Begins,
    BeginsWith,
}

const LESS: Duration = Duration::from_secs(10);
const SOME: Duration = Duration::from_secs(100);
const MORE: Duration = Duration::from_secs(1000);

#[derive(Default, WorkerState)]
struct Clerk {
    begun: AtomicU64,
    events: Events,
}

fn left(cx: &Context) -> Option<Duration> {
    cx.deadline().map(|it| it.saturating_duration_since(Instant::now()))
}

#[rpc_parallel::worker]
impl Hurries for Clerk {
    async fn left(&self, cx: &Context) -> Option<Duration> {
        left(cx)
    }

    fn left_at_once(&self, cx: &Context) -> Option<Duration> {
        left(cx)
    }

    async fn ask(
        &self,
        cx: &Context,
        mut chain: Vec<Worker<Clerk>>,
        how: How,
    ) -> Result<Vec<Option<Duration>>, AnyError> {
        let mut all = vec![left(cx)];
        if let Some(next) = chain.pop() {
            let next = next.connect(()).await?;
            let call = next.ask(chain, how);
            let call = match how {
                How::Inherits => call,
                How::TakesMore => call.timeout(MORE),
                How::TakesLess => call.timeout(LESS),
                How::Begins => call.without_inherited_deadline(),
                How::BeginsWith => call.without_inherited_deadline().timeout(MORE),
            };
            all.extend(call.await?);
        }
        Ok(all)
    }

    async fn wait(&self, name: &str) {
        let _ended = self.events.note_at_end(format!("{name} ended"));
        self.events.note(format!("{name} began"));
        std::future::pending::<()>().await;
    }

    async fn wait_for(&self, mut chain: Vec<Worker<Clerk>>) -> Result<(), AnyError> {
        let _ended = self.events.note_at_end("waiting ended");
        match chain.pop() {
            Some(next) => Ok(next.connect(()).await?.wait_for(chain).await?),
            None => std::future::pending().await,
        }
    }

    async fn notice(&self, cx: &Context) {
        cx.cancelled().await;
        self.events.note(format!("left {:?}", left(cx)));
    }

    fn block(&self, way: WayThrough) {
        way.block();
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

    async fn happened(&self, event: &str) {
        self.events.happened(event).await;
    }
}

async fn start() -> Worker<Clerk> {
    Clerk::spawner().start(()).await.expect("start a worker")
}

async fn connect(clerk: &Worker<Clerk>) -> HurriesClient {
    clerk.connect(()).await.expect("connect to it")
}

/// Asks a chain of three, and returns how much time each of them had, in tens of seconds.
async fn ask_three(how: How) -> Vec<Option<u64>> {
    let (first, others) = (start().await, vec![start().await, start().await]);
    let all = connect(&first).await.ask(others, how).timeout(SOME).await;
    let all = all.expect("call it").into_iter();
    // However slow the machine is, it is not slower than that.
    all.map(|it| it.map(|it| it.as_secs().next_multiple_of(10))).collect()
}

#[rpc_parallel::test]
async fn a_function_knows_how_much_time_it_has() {
    let clerk = connect(&start().await).await;

    let later = clerk.left().timeout(SOME).await.expect("call it");
    let at_once = clerk.left_at_once().timeout(SOME).await.expect("call it");

    for left in [later, at_once] {
        let left = left.expect("it was limited");
        assert!(left <= SOME && left > SOME - PATIENCE, "{left:?}");
    }
}

#[rpc_parallel::test]
async fn a_function_that_nobody_limits_has_all_the_time() {
    let clerk = connect(&start().await).await;

    assert_eq!(clerk.left().await, Ok(None));
    assert_eq!(clerk.left_at_once().await, Ok(None));
}

#[rpc_parallel::test]
async fn the_options_of_a_function_as_a_value_limit_it_too() {
    let clerk = connect(&start().await).await;

    let left = CallOptions::timeout(HurriesClient::LEFT.call(&clerk, &()), SOME).await;
    let mapped = HurriesClient::LEFT.map_output(|it| it.is_some());
    let limited = mapped.call(&clerk, &()).timeout(SOME).await;

    assert!(left.is_ok_and(|it| it.is_some()));
    assert_eq!(limited, Ok(true));
}

#[rpc_parallel::test]
async fn what_a_function_calls_inherits_what_is_left() {
    assert_eq!(ask_three(How::Inherits).await, [Some(100); 3]);
}

#[rpc_parallel::test]
async fn a_longer_time_does_not_outlast_what_is_inherited() {
    assert_eq!(ask_three(How::TakesMore).await, [Some(100); 3]);
}

#[rpc_parallel::test]
async fn a_shorter_time_is_shorter_for_all_that_follow() {
    assert_eq!(ask_three(How::TakesLess).await, [Some(100), Some(10), Some(10)]);
}

#[rpc_parallel::test]
async fn a_call_may_refuse_what_it_would_inherit() {
    assert_eq!(ask_three(How::Begins).await, [Some(100), None, None]);
    assert_eq!(ask_three(How::BeginsWith).await, [Some(100), Some(1000), Some(1000)]);
}

#[rpc_parallel::test]
async fn a_function_that_is_out_of_time_ends() {
    let clerk = connect(&start().await).await;
    let limit = Duration::from_millis(50);

    let error = clerk.wait("it").timeout(limit).await.expect_err("it is too slow");

    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: limit, unsent: None });
    assert_eq!(soon(clerk.happened("it ended")).await, Ok(()));
}

#[rpc_parallel::test]
async fn all_that_a_function_called_ends_when_it_is_out_of_time() {
    let (first, second, third) = (start().await, start().await, start().await);
    let limit = Duration::from_millis(200);

    let waited = connect(&first).await.wait_for(vec![third.clone(), second.clone()]).timeout(limit);
    let waited = soon(waited).await;

    let Err(FunctionError::Call(error)) = waited else { panic!("{waited:?}") };
    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: limit, unsent: None });
    for clerk in [first, second, third] {
        let ended = soon(connect(&clerk).await.happened("waiting ended")).await;
        assert_eq!(ended, Ok(()));
    }
}

#[rpc_parallel::test]
async fn a_function_that_is_not_to_be_cancelled_sees_that_its_time_is_over() {
    let clerk = connect(&start().await).await;

    let noticed = clerk.notice().timeout(Duration::from_millis(50)).await;

    assert!(noticed.is_err_and(|it| matches!(it.kind(), CallErrorKind::TimedOut { .. })));
    assert_eq!(soon(clerk.happened("left Some(0ns)")).await, Ok(()));
}

#[rpc_parallel::test]
async fn a_deadline_that_passes_while_a_call_is_queued_never_begins_its_function() {
    let clerk = connect(&start().await).await;
    let gate = Gate::new();
    let blocking = tokio::spawn(clerk.block(gate.way()));
    let standing = soon(gate.reached()).await;

    // The worker's only thread is blocked: they wait in its socket.
    let calls = (0..50).map(|_| clerk.begin().timeout(Duration::from_millis(20)));
    let begun = soon(futures_util::future::join_all(calls)).await;
    drop(standing);
    soon(blocking).await.expect("no panic").expect("call it");

    let timed_out = |it: &CallError| matches!(it.kind(), CallErrorKind::TimedOut { .. });
    assert!(begun.iter().all(|it| it.as_ref().is_err_and(timed_out)), "{begun:?}");
    assert_eq!(clerk.begun().await, Ok(0));
}

#[rpc_parallel::test]
async fn without_any_time_no_function_begins() {
    let clerk = connect(&start().await).await;

    let begun = clerk.begin().timeout(Duration::ZERO).await;

    let error = begun.expect_err("there was no time");
    assert_eq!(*error.kind(), CallErrorKind::TimedOut { after: Duration::ZERO, unsent: None });
    assert_eq!(clerk.begun().await, Ok(0));
}

#[rpc_parallel::test]
async fn a_pipe_may_be_read_for_longer_than_its_call_might_take() {
    let clerk = connect(&start().await).await;
    let limit = Duration::from_millis(200);

    let began = Instant::now();
    let mut pipe = clerk.endless().timeout(limit).await.expect("it answers in time");
    let mut expected = 0;
    while began.elapsed() < 2 * limit {
        let next = soon(pipe.next()).await.expect("it does not end").expect("it does not fail");
        assert_eq!(next, expected);
        expected += 1;
    }
}
