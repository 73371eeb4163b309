//! Arguments and results of calls, calls that share a connection, and functions as values.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rpc_parallel::Call;
use rpc_parallel::error::CallErrorKind;
use rpc_parallel::function::Client;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::{Fixture, ScriptedClient};
use rpc_parallel_tests::process::{TEST_TIMEOUT, ends};
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio::{join, select};

/// Functions with all kinds of arguments.
#[rpc_parallel::worker]
trait Arguments {
    fn nothing(&self);
    async fn nothing_later(&self);
    async fn text(&self, text: &str) -> String;
    fn sum(&self, numbers: &[u64]) -> u64;
    fn parent(&self, path: &Path) -> PathBuf;
    fn mirror(&self, point: &Point) -> Point;
    fn owned(&self, text: String, numbers: Vec<u64>, point: Point) -> (String, u64, Point);
    async fn mixed(&self, text: &str, count: usize, numbers: &[u64]) -> String;
    #[expect(clippy::too_many_arguments, reason = "the maximum is tested")]
    fn sixteen(
        &self,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: i8,
        f: i16,
        g: i32,
        h: i64,
        i: &str,
        j: &[u8],
        k: bool,
        l: char,
        m: (u8, u8),
        n: Option<u8>,
        o: &Point,
        p: String,
    ) -> String;
}

/// An argument that is a struct.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Default, WorkerState)]
struct ArgumentWorker;

#[rpc_parallel::worker]
impl Arguments for ArgumentWorker {
    fn nothing(&self) {}

    async fn nothing_later(&self) {
        tokio::task::yield_now().await;
    }

    async fn text(&self, text: &str) -> String {
        text.to_uppercase()
    }

    fn sum(&self, numbers: &[u64]) -> u64 {
        numbers.iter().sum()
    }

    fn parent(&self, path: &Path) -> PathBuf {
        path.parent().unwrap_or(path).to_owned()
    }

    fn mirror(&self, point: &Point) -> Point {
        Point { x: point.y, y: point.x }
    }

    fn owned(&self, text: String, numbers: Vec<u64>, point: Point) -> (String, u64, Point) {
        (text + "!", numbers.into_iter().sum(), point)
    }

    async fn mixed(&self, text: &str, count: usize, numbers: &[u64]) -> String {
        format!("{} {numbers:?}", text.repeat(count))
    }

    fn sixteen(
        &self,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: i8,
        f: i16,
        g: i32,
        h: i64,
        i: &str,
        j: &[u8],
        k: bool,
        l: char,
        m: (u8, u8),
        n: Option<u8>,
        o: &Point,
        p: String,
    ) -> String {
        format!("{a} {b} {c} {d} {e} {f} {g} {h} {i} {j:?} {k} {l} {m:?} {n:?} {o:?} {p}")
    }
}

#[rpc_parallel::test]
async fn arguments_travel_by_value_and_by_reference() {
    let client = ArgumentWorker::spawn_ok(()).await;
    let point = Point { x: 1, y: 2 };

    client.nothing().await.expect("the call succeeds");
    client.nothing_later().await.expect("the call succeeds");
    let text = client.text("grüße").await.expect("the call succeeds");
    let sum = client.sum(&[1, 2, 3]).await.expect("the call succeeds");
    let parent = client.parent(Path::new("/var/tmp")).await.expect("the call succeeds");
    let mirrored = client.mirror(&point).await.expect("the call succeeds");
    let owned = client.owned("a".into(), vec![4, 5], point).await.expect("the call succeeds");
    let mixed = client.mixed("ab", 2, &[7]).await.expect("the call succeeds");

    assert_eq!((text.as_str(), sum), ("GRÜSSE", 6));
    assert_eq!(parent, Path::new("/var"));
    assert_eq!(mirrored, Point { x: 2, y: 1 });
    assert_eq!(owned, ("a!".into(), 9, Point { x: 1, y: 2 }));
    assert_eq!(mixed, "abab [7]");
}

#[rpc_parallel::test]
async fn sixteen_arguments_arrive_in_order() {
    let client = ArgumentWorker::spawn_ok(()).await;

    let text = client
        .sixteen(
            1,
            2,
            3,
            4,
            -5,
            -6,
            -7,
            -8,
            "nine",
            &[10, 10],
            true,
            'l',
            (13, 13),
            Some(14),
            &Point { x: 15, y: 15 },
            "sixteen".into(),
        )
        .await
        .expect("the call succeeds");

    let expected = "1 2 3 4 -5 -6 -7 -8 nine [10, 10] true l (13, 13) Some(14) \
                    Point { x: 15, y: 15 } sixteen";
    assert_eq!(text, expected);
}

/// Functions with all kinds of results.
#[rpc_parallel::worker]
trait Results {
    async fn plain(&self, number: u64) -> u64;
    async fn unit(&self, number: u64) -> Result<(), Odd>;
    async fn half(&self, number: u64) -> Result<u64, Odd>;
    fn half_of_module(&self, number: u64) -> aliases::Result<u64>;
    #[worker(result)]
    fn half_or_odd(&self, number: u64) -> HalfOr<Odd>;
    /// Returns results as elements of a value.
    fn attempts(&self, numbers: &[u64]) -> Vec<Result<u64, Odd>>;
}

/// The number has no half.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{0} is odd")]
struct Odd(u64);

type HalfOr<E> = Result<u64, E>;

mod aliases {
    pub type Result<T> = std::result::Result<T, super::Odd>;
}

#[derive(Default, WorkerState)]
struct ResultWorker;

fn half(number: u64) -> Result<u64, Odd> {
    if number.is_multiple_of(2) { Ok(number / 2) } else { Err(Odd(number)) }
}

#[rpc_parallel::worker]
impl Results for ResultWorker {
    async fn plain(&self, number: u64) -> u64 {
        number / 2
    }

    async fn unit(&self, number: u64) -> Result<(), Odd> {
        half(number).map(drop)
    }

    async fn half(&self, number: u64) -> Result<u64, Odd> {
        half(number)
    }

    fn half_of_module(&self, number: u64) -> aliases::Result<u64> {
        half(number)
    }

    fn half_or_odd(&self, number: u64) -> HalfOr<Odd> {
        half(number)
    }

    fn attempts(&self, numbers: &[u64]) -> Vec<Result<u64, Odd>> {
        numbers.iter().copied().map(half).collect()
    }
}

#[rpc_parallel::test]
async fn results_travel_under_any_type_alias() {
    let client = ResultWorker::spawn_ok(()).await;

    assert_eq!(client.plain(8).await, Ok(4));
    assert_eq!(client.unit(8).await, Ok(()));
    assert_eq!(client.half(8).await, Ok(4));
    assert_eq!(client.half_of_module(8).await, Ok(4));
    assert_eq!(client.half_or_odd(8).await, Ok(4));
    assert_eq!(client.attempts(&[2, 3]).await, Ok(vec![Ok(1), Err(Odd(3))]));
}

#[rpc_parallel::test]
async fn function_error_reaches_caller_unchanged() {
    let client = ResultWorker::spawn_ok(()).await;

    assert_eq!(client.unit(7).await, Err(FunctionError::Function(Odd(7))));
    assert_eq!(client.half(7).await, Err(FunctionError::Function(Odd(7))));
    assert_eq!(client.half_of_module(7).await, Err(FunctionError::Function(Odd(7))));
    assert_eq!(client.half_or_odd(7).await, Err(FunctionError::Function(Odd(7))));
}

#[rpc_parallel::test]
async fn function_constant_returns_same_result_type_as_method() {
    async fn run<F: Function<Input = u64>>(
        function: F,
        client: &F::Client,
    ) -> Result<F::Output, F::Error> {
        function.call(client, &7).await
    }
    let client = ResultWorker::spawn_ok(()).await;

    assert_eq!(run(ResultsClient::PLAIN, &client).await, Ok(3));
    assert_eq!(run(ResultsClient::HALF, &client).await, Err(FunctionError::Function(Odd(7))));
}

/// Calls a function that returns `answer` after this text has been noted as an event.
fn wait_for(client: &ScriptedClient, answer: &str) -> Call<String> {
    client.event_starting_with(answer)
}

#[rpc_parallel::test]
async fn later_call_overtakes_blocked_call() {
    let client = Fixture::spawn_ok(()).await;

    let (first, second) =
        join!(wait_for(&client, "event").timeout(TEST_TIMEOUT), client.note("event"));

    assert_eq!((first, second), (Ok("event".into()), Ok(())));
}

#[rpc_parallel::test]
async fn answers_arrive_in_order_of_completion() {
    let client = Fixture::spawn_ok(()).await;
    let mut waiting: FuturesUnordered<_> =
        ["1", "2", "3"].map(|it| wait_for(&client, it)).into_iter().collect();

    let mut order = Vec::new();
    for event in ["2", "3", "1"] {
        let (noted, answer) = join!(client.note(event), waiting.next());
        noted.expect("the call succeeds");
        order.extend(answer);
    }

    assert_eq!(order, ["2", "3", "1"].map(|it| Ok(it.to_owned())));
}

#[rpc_parallel::test]
async fn losing_branch_of_select_leaves_connection_usable() {
    let client = Fixture::spawn_ok(()).await;

    let first = select! {
        waited = wait_for(&client, "1") => waited.map(|_| "waited"),
        noted = client.note("2") => noted.map(|()| "noted"),
    };

    assert_eq!(first, Ok("noted"));
    assert_eq!(wait_for(&client, "2").await, Ok("2".into()));
}

#[rpc_parallel::test]
async fn thousand_calls_are_in_flight_at_once() {
    let client = Fixture::spawn_ok(()).await;
    let numbers: Vec<_> = (1000..2000).map(|it| it.to_string()).collect();
    let mut calls: Vec<_> = numbers.iter().map(|it| wait_for(&client, it)).collect();

    assert!(calls.iter_mut().all(|it| it.now_or_never().is_none()));
    // Functions begin in the order of their calls: this call returns after the others have begun.
    client.note("begun").await.expect("the call succeeds");
    let in_flight = client.stats().await.expect("the call succeeds").calls_in_flight();
    let noting = join_all(numbers.iter().map(|it| client.note(it)));
    let (answers, _) = join!(soon(join_all(calls)), noting);

    assert_eq!(in_flight, 1000);
    let answers: Result<Vec<_>, _> = answers.into_iter().collect();
    assert_eq!(answers, Ok(numbers));
}

#[rpc_parallel::test]
async fn pending_call_keeps_connection_open_without_client() {
    let client = Fixture::spawn_ok(()).await;
    let (wait, note, pid) = (wait_for(&client, "event"), client.note("event"), client.pid());
    drop(client);

    let (waited, noted) = join!(wait, note);
    let pid = pid.await.expect("the call succeeds");

    assert_eq!((waited, noted), (Ok("event".into()), Ok(())));
    assert!(ends(pid).await, "the worker ends with its last call");
}

#[rpc_parallel::test]
async fn call_outlives_client_and_arguments() {
    let client = ArgumentWorker::spawn_ok(()).await;

    let call = {
        let (client, text) = (client.clone(), String::from("dropped before the call is sent"));
        client.text(&text)
    };
    let task = tokio::spawn(call);

    let answer = task.await.expect("the task does not panic");
    assert_eq!(answer, Ok("DROPPED BEFORE THE CALL IS SENT".into()));
}

#[rpc_parallel::test]
async fn unpolled_call_is_not_sent() {
    let client = Fixture::spawn_ok(()).await;

    drop(client.note("event"));

    let waited = wait_for(&client, "event").timeout(Duration::from_millis(50)).await;
    assert_eq!(waited.map_err(kind), Err(timed_out(50)));
}

#[rpc_parallel::test]
async fn cloned_clients_share_one_connection() {
    async fn connections(client: &ScriptedClient) -> u64 {
        client.stats().await.expect("the call succeeds").connections()
    }
    let client = Fixture::spawn_ok(()).await;
    let clone = client.clone();

    let before = connections(&client).await;
    drop(client);

    assert_eq!(before, 1);
    assert_eq!(connections(&clone).await, 1);
}

#[test]
fn clients_and_calls_are_send() {
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    fn is_sent<T: Send + Unpin + 'static>() {}

    is_shared::<ArgumentsClient>();
    is_shared::<Client>();
    is_sent::<Call<String>>();
    is_sent::<rpc_parallel::function::TryCall<Result<u64, Odd>>>();
}

fn kind(error: CallError) -> CallErrorKind {
    error.kind().clone()
}

fn timed_out(millis: u64) -> CallErrorKind {
    CallErrorKind::TimedOut { after: Duration::from_millis(millis), unsent: None, kill: None }
}

#[rpc_parallel::test]
async fn timed_out_call_leaves_connection_usable() {
    let client = Fixture::spawn_ok(()).await;

    let waited = wait_for(&client, "1").timeout(Duration::from_millis(50)).await;

    let error = waited.expect_err("the event is never noted");
    assert_eq!(*error.kind(), timed_out(50));
    assert_eq!(error.function().name(), "event_starting_with");
    assert_eq!(client.note("2").await, Ok(()));
    assert_eq!(wait_for(&client, "2").await, Ok("2".into()));
}

#[rpc_parallel::test]
async fn answers_to_dropped_calls_are_discarded() {
    let client = Fixture::spawn_ok(()).await;
    let [dropped, kept] = [100..200, 200..300].map(|it| it.map(|it| it.to_string()));
    let [dropped, kept] = [dropped, kept].map(Iterator::collect::<Vec<_>>);
    for event in &dropped {
        // The first poll sends the call.
        assert!(timeout(Duration::ZERO, wait_for(&client, event)).await.is_err());
    }

    let late = join_all(dropped.iter().map(|it| client.note(it)));
    let waiting = join_all(kept.iter().map(|it| wait_for(&client, it).timeout(TEST_TIMEOUT)));
    let noting = join_all(kept.iter().map(|it| client.note(it)));
    let (_, answers, _) = join!(late, waiting, noting);

    let answers: Result<Vec<_>, _> = answers.into_iter().collect();
    assert_eq!(answers, Ok(kept));
}

#[rpc_parallel::test(flavor = "multi_thread", threads = 2)]
async fn client_works_on_another_runtime() {
    let client = ArgumentWorker::spawn_ok(()).await;

    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("build a runtime").block_on(client.text("text").timeout(TEST_TIMEOUT))
    });
    let answer = tokio::task::spawn_blocking(move || thread.join()).await;

    let answer = answer.expect("the task does not panic").expect("the thread does not panic");
    assert_eq!(answer, Ok("TEXT".into()));
}

/// Functions that are called through their constants.
#[rpc_parallel::worker]
trait Counter {
    async fn add(&self, number: u64) -> u64;
    async fn add_both(&self, one: u64, other: &[u64]) -> u64;
    fn total(&self) -> u64;
}

#[derive(Default, WorkerState)]
struct CounterWorker(Mutex<u64>);

#[rpc_parallel::worker]
impl Counter for CounterWorker {
    async fn add(&self, number: u64) -> u64 {
        let mut total = self.0.lock().expect("the lock is not poisoned");
        *total += number;
        *total
    }

    async fn add_both(&self, one: u64, other: &[u64]) -> u64 {
        self.add(one).await;
        self.add(other.iter().sum()).await
    }

    fn total(&self) -> u64 {
        *self.0.lock().expect("the lock is not poisoned")
    }
}

async fn twice<F: Function>(
    function: F,
    client: &F::Client,
    input: F::Input,
) -> Result<[F::Output; 2], F::Error> {
    let first = function.call(client, &input).await?;
    Ok([first, function.call(client, &input).await?])
}

#[rpc_parallel::test]
async fn function_constant_is_called_twice_with_same_input() {
    let counter = CounterWorker::spawn_ok(()).await;

    assert_eq!(twice(CounterClient::TOTAL, &counter, ()).await, Ok([0, 0]));
    assert_eq!(twice(CounterClient::ADD, &counter, 5).await, Ok([5, 10]));
    assert_eq!(twice(CounterClient::ADD_BOTH, &counter, (1, vec![2, 3])).await, Ok([16, 22]));
}

#[test]
fn function_constant_has_signature_and_no_size() {
    let info = CounterClient::ADD_BOTH.info();

    assert_eq!(info.signature(), "add_both(u64,&[u64])->u64");
    assert_eq!((info.worker_trait(), info.name()), ("Counter", "add_both"));
    assert_eq!(size_of_val(&CounterClient::ADD_BOTH), 0);
}

#[rpc_parallel::test]
async fn output_maps_apply_first_to_last() {
    let counter = CounterWorker::spawn_ok(()).await;
    let function =
        CounterClient::ADD.map_output(|it| format!("{it} first")).map_output(|it| it + ", second");

    let output = function.call(&counter, &1);

    assert_eq!(output.await, Ok("1 first, second".into()));
}

#[rpc_parallel::test]
async fn input_maps_apply_last_to_first() {
    let counter = CounterWorker::spawn_ok(()).await;
    let function = CounterClient::ADD
        .map_input(|it: &u64| it + 1)
        .map_input(|it: &String| 10 * it.len() as u64);

    let output = twice(function, &counter, "abc".into()).await;

    assert_eq!(output, Ok([31, 62]));
}

#[rpc_parallel::test]
async fn maps_run_in_caller_process() {
    let counter = CounterWorker::spawn_ok(()).await;
    let seen = Mutex::new(Vec::new());
    let function = CounterClient::ADD.map_input(|it: &u64| {
        seen.lock().expect("the lock is not poisoned").push(*it);
        *it
    });

    function.call(&counter, &7).await.expect("the call succeeds");

    assert_eq!(seen.into_inner().expect("the lock is not poisoned"), [7]);
}
